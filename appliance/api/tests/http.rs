//! The API as its clients meet it: over TCP, with a real control on a store in memory.
#![cfg(test)]

mod stage;

use serde_json::{Value, json};
use stage::{Stage, TOKEN};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use store::{Memory, Store};

/// An API with an empty control behind it.
fn stage() -> Stage {
    Stage::begin(|_| Box::new(Memory::default()) as Box<dyn Store>, || {})
}

impl Stage {
    fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.call_as(TOKEN, method, path, body)
    }

    fn call_as(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, octets) = self.ask(token, method, path, body.as_bytes());
        (status, serde_json::from_slice(&octets).unwrap_or(Value::Null))
    }

    /// A rack's worth of description: two networks and a switch.
    fn describe(&self) {
        for (name, vlan, purpose, subnet) in [
            ("prov", 100, "provisioning", "10.7.0.1/24"),
            ("quarantine", 666, "quarantine", "10.66.0.1/24"),
            ("tenant", 200, "tenant", "10.20.0.1/24"),
        ] {
            let spec = json!({ "purpose": purpose, "vlan": vlan, "subnet": subnet });
            assert_eq!(self.call("PUT", &format!("/v1/networks/{name}"), &spec.to_string()).0, 201);
        }
        let switch = json!({ "driver": "ovsdb", "address": "10.8.0.2:6640" }).to_string();
        assert_eq!(self.call("PUT", "/v1/switches/tor", &switch).0, 201);
    }
}

fn text(answer: &Value) -> &str {
    answer["error"]["text"].as_str().unwrap_or_else(|| panic!("no error text in {answer}"))
}

fn node() -> Value {
    json!({
        "bmc": { "address": "10.8.0.11", "user": "admin", "password": "secret" },
        "ports": [{ "mac": "52:54:00:00:00:01", "local_link": { "switch": "tor", "port": "n1" } }],
    })
}

#[test]
fn nobody_gets_in_without_the_token_and_is_told_where_it_is() {
    let stage = stage();
    for token in ["", "another", "the-token-and-more"] {
        let (status, answer) = stage.call_as(token, "GET", "/v1/nodes", "");
        assert_eq!(status, 401);
        assert!(text(&answer).contains("token file"), "{answer}");
    }
    assert_eq!(stage.call("GET", "/v1/nodes", "").0, 200);
    assert_eq!(stage.call_as("", "GET", "/v1/health", "").0, 200);
}

#[test]
fn an_appliance_that_is_no_image_takes_no_update_and_says_what_to_do() {
    let stage = stage();
    let (status, answer) = stage.call("PUT", "/v1/appliance/update", "a bundle");
    assert_eq!(status, 409);
    assert!(text(&answer).contains("as they were installed"), "{answer}");
    assert_eq!(stage.call("PUT", "/v1/appliance/update?restart=soon", "").0, 400);
    let (status, answer) = stage.call("GET", "/v1/appliance", "");
    assert_eq!((status, &answer["box"], &answer["update"]), (200, &Value::Null, &Value::Null));
    assert_eq!(stage.call("POST", "/v1/appliance/reset", "").0, 409);
}

#[test]
fn a_put_that_changes_nothing_says_so() {
    let stage = stage();
    stage.describe();
    let spec = json!({ "purpose": "tenant", "vlan": 200, "subnet": "10.20.0.1/24" }).to_string();
    assert_eq!(stage.call("PUT", "/v1/networks/tenant", &spec).0, 200);
    assert_eq!(stage.call("PUT", "/v1/nodes/n1", &node().to_string()).0, 201);
    assert_eq!(stage.call("PUT", "/v1/nodes/n1", &node().to_string()).0, 200);
}

#[test]
fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let stage = stage();
    let (status, answer) = stage.call("PUT", "/v1/nodes/n1", &node().to_string());
    assert_eq!((status, text(&answer).contains("kiln switch add")), (404, true), "{answer}");
    stage.describe();
    let with = |key: &str, value: Value| {
        let mut spec = node();
        spec[key] = value;
        spec.to_string()
    };
    for (path, body, status, says) in [
        ("/v1/nodes/n1", "{".to_owned(), 400, "EOF"),
        ("/v1/nodes/n1", "[]".to_owned(), 400, "not a JSON object"),
        ("/v1/nodes/n_1", node().to_string(), 400, "letters, digits and hyphens"),
        ("/v1/nodes/n1", with("name", json!("n2")), 400, "about"),
        ("/v1/nodes/n1", with("ports", json!([])), 400, "no port"),
        ("/v1/nodes/n1", with("colour", json!("blue")), 400, "colour"),
        (
            "/v1/networks/x",
            json!({"purpose":"tenant","vlan":4095,"subnet":"10.9.0.1/24"}).to_string(),
            400,
            "4094",
        ),
        (
            "/v1/networks/x",
            json!({"purpose":"tenant","vlan":200,"subnet":"10.9.0.1/24"}).to_string(),
            409,
            "VLAN 200",
        ),
        (
            "/v1/networks/x",
            json!({"purpose":"tenant","vlan":201,"subnet":"10.20.0.9/16"}).to_string(),
            409,
            "overlaps",
        ),
    ] {
        let (got, answer) = stage.call("PUT", path, &body);
        assert_eq!(got, status, "{path} {body}: {answer}");
        assert!(text(&answer).contains(says), "{path}: {answer}");
    }
    let (status, answer) =
        stage.call("POST", "/v1/nodes/n1/deploy", &json!({"image":"x","network":"tenant"}).to_string());
    assert_eq!((status, text(&answer).contains("kiln node list")), (404, true), "{answer}");
    assert_eq!(stage.call("GET", "/nodes", "").0, 404);
    assert_eq!(stage.call("PATCH", "/v1/nodes/n1", "").0, 405);
    let (status, answer) = stage.call("DELETE", "/v1/switches/nowhere", "");
    assert_eq!((status, text(&answer).contains("kiln switch list")), (404, true));
}

#[test]
fn a_password_goes_in_and_never_comes_out() {
    let stage = stage();
    stage.describe();
    stage.call("PUT", "/v1/nodes/n1", &node().to_string());
    for path in ["/v1/nodes", "/v1/nodes/n1", "/v1/status", "/v1/switches", "/v1/networks"] {
        assert!(!stage.call("GET", path, "").1.to_string().contains("secret"), "{path}");
    }
}

#[test]
fn an_image_is_imported_by_its_octets_and_checked() {
    let stage = stage();
    let raw = "kiln".repeat(1024);
    let (status, record) = stage.call("PUT", "/v1/images/small", &raw);
    assert_eq!(status, 201, "{record}");
    assert_eq!(record["size"], 4096);
    assert_eq!(stage.call("PUT", "/v1/images/small", &raw).0, 200);
    let (status, answer) = stage.call("PUT", "/v1/images/small", "something else");
    assert_eq!((status, text(&answer).contains("other content")), (409, true));
    let wrong = format!("/v1/images/checked?sha256={}", "0".repeat(64));
    assert_eq!(stage.call("PUT", &wrong, &raw).0, 400);
    let (status, answer) = stage.call("PUT", "/v1/images/empty", "");
    assert_eq!(status, 400, "{answer}");
    assert_eq!(stage.call("GET", "/v1/images", "").1.as_array().map(Vec::len), Some(1));
    assert_eq!(stage.call("DELETE", "/v1/images/small", "").0, 204);
}

#[test]
fn an_upload_that_is_cut_off_is_no_image() {
    let stage = stage();
    let mut line = TcpStream::connect(stage.address).unwrap();
    let head = "PUT /v1/images/cut HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer the-token\r\nContent-Length: 100000\r\n\r\n";
    line.write_all(head.as_bytes()).unwrap();
    line.write_all(&[7; 50_000]).unwrap();
    line.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).ok();
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    assert_eq!(stage.call("GET", "/v1/images", "").1, json!([]));
}

#[test]
fn the_log_is_numbered_resumed_and_followed() {
    let stage = stage();
    stage.describe();
    let lines = |query: &str| -> Vec<Value> {
        let url = format!("http://{}/v1/events{query}", stage.address);
        let answer = ureq::get(&url).header("Authorization", "Bearer the-token").call().unwrap();
        let text = answer.into_body().read_to_string().unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines("");
    let numbers: Vec<u64> = all.iter().map(|line| line["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(lines("?after=2"), all[2..]);
    let (status, answer) = stage.call("GET", "/v1/events?after=minus", "");
    assert_eq!(status, 400, "{answer}");

    let url = format!("http://{}/v1/events?after={}&follow=true&node=n1", stage.address, all.len());
    let answer = ureq::get(&url).header("Authorization", "Bearer the-token").call().unwrap();
    let mut followed = BufReader::new(answer.into_body().into_reader()).lines();
    stage.call("PUT", "/v1/nodes/n1", &node().to_string());
    let first: Value = serde_json::from_str(&followed.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["kind"], "enrolled");
    assert_eq!(first["subject"], json!({ "kind": "node", "name": "n1" }));
}

#[test]
fn volumes_are_asked_for_by_name_and_every_refusal_says_what_to_do() {
    let stage = stage();
    stage.describe();
    let (status, view) = stage.call("PUT", "/v1/volumes/data", r#"{"size": 1000}"#);
    assert_eq!((status, &view["size"], &view["from"]), (201, &json!(1024), &Value::Null), "{view}");
    assert_eq!(stage.call("PUT", "/v1/volumes/data", r#"{"size": 1024}"#).0, 200);
    assert_eq!(stage.call("PUT", "/v1/nodes/n1", &node().to_string()).0, 201);
    let refused = [
        ("PUT", "/v1/volumes/data", r#"{"size": 4096}"#, 409, "delete it first"),
        ("PUT", "/v1/volumes/none", "{}", 400, "--size"),
        ("PUT", "/v1/volumes/vast", r#"{"size": 18446744073709551615}"#, 400, "are possible"),
        ("PUT", "/v1/volumes/both", r#"{"image": "a", "volume": "b"}"#, 400, "not from both"),
        ("PUT", "/v1/volumes/copy", r#"{"volume": "data"}"#, 409, "not made yet"),
        ("PUT", "/v1/volumes/of", r#"{"image": "nothing"}"#, 404, "kiln image list"),
        ("PUT", "/v1/volumes/a_b", r#"{"size": 512}"#, 400, "volume's name"),
        ("GET", "/v1/volumes/nobody", "", 404, "kiln volume list"),
        ("POST", "/v1/volumes/data/attach", r#"{"node": "n1"}"#, 409, "active"),
        ("POST", "/v1/volumes/data/attach", r#"{"node": "n9"}"#, 404, "kiln node list"),
        ("POST", "/v1/nodes/n1/replace", r#"{"with": "n9"}"#, 404, "kiln node list"),
        ("POST", "/v1/nodes/n1/replace", r#"{"with": "n1"}"#, 409, "does not boot from a volume"),
        ("GET", "/v1/nodes/n1/credentials", "", 404, "kiln volume attach"),
    ];
    for (method, path, body, status, says) in refused {
        let (got, answer) = stage.call(method, path, body);
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert!(text(&answer).contains(says), "{method} {path}: {answer}");
    }
    assert_eq!(stage.call("POST", "/v1/volumes/data/detach", "").0, 200);
    assert_eq!(stage.call("DELETE", "/v1/volumes/data", "").0, 202);
    let (_, listed) = stage.call("GET", "/v1/volumes", "");
    assert_eq!(listed[0]["removing"], json!(true));
}

#[test]
fn a_flipped_bit_of_an_image_is_found_and_the_image_is_named() {
    let stage = stage();
    let content = "what a disk holds ".repeat(5000);
    assert_eq!(stage.call("PUT", "/v1/images/tiny", &content).0, 201);
    let (status, found) = stage.call("POST", "/v1/scrub", "");
    assert_eq!((status, &found), (200, &json!([])));
    let extents = stage.files.path().join("images/extents");
    let directory = std::fs::read_dir(extents).unwrap().next().unwrap().unwrap().path();
    let extent = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    let mut octets = std::fs::read(&extent).unwrap();
    octets[4711] ^= 0x10;
    let mut permissions = std::fs::metadata(&extent).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test's own")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&extent, permissions).unwrap();
    std::fs::write(&extent, octets).unwrap();
    let (_, found) = stage.call("POST", "/v1/scrub", "");
    assert_eq!(found[0]["images"], json!(["tiny"]), "{found}");
    assert_eq!(found[0]["lost"], json!(true));
    assert!(found[0]["what"].as_str().unwrap().contains("import it again"), "{found}");
}
