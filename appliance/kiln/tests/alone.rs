//! `kiln` where something is missing: one line that says what to do.
#![cfg(test)]

use std::process::Command;

fn kiln(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    let output =
        command.env_remove("KILN_URL").env_remove("KILN_TOKEN_FILE").args(arguments).output().unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A file that holds this token.
fn token(test: &str, token: &str) -> String {
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::write(&file, token).unwrap();
    file.display().to_string()
}

#[test]
fn a_file_that_holds_no_token_is_named() {
    let file = token("no-token", "two words\n");
    let said = kiln(&["--token-file", &file, "status"]);
    assert!(said.contains(&file) && said.contains("holds no token"), "{said}");
}

#[test]
fn without_a_token_it_says_where_the_token_is() {
    let said = kiln(&["--token-file", "/nowhere/token", "status"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("/nowhere/token") && said.contains("--token-file"), "{said}");
}

#[test]
fn without_an_appliance_it_says_how_to_name_another() {
    let file = token("no-appliance", "a-token\n");
    let said = kiln(&["--token-file", &file, "--url", "http://127.0.0.1:1", "node", "list"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("127.0.0.1:1") && said.contains("Is it running?") && said.contains("KILN_URL"),
        "{said}"
    );
}

#[test]
fn what_is_no_url_is_said_to_be_none() {
    let file = token("no-url", "a-token\n");
    let said = kiln(&["--token-file", &file, "--url", "not a url", "node", "list"]);
    assert!(said.contains("not a url") && said.contains("http://127.0.0.1:8080"), "{said}");
}

#[test]
fn what_cannot_be_a_name_is_refused_before_anybody_is_asked() {
    let said = kiln(&["node", "show", "not_a_name"]);
    assert!(said.contains("letters, digits and hyphens"), "{said}");
    let said =
        kiln(&["network", "create", "x", "--vlan", "4095", "--purpose", "tenant", "--subnet", "10.0.0.1/24"]);
    assert!(said.contains("1 to 4094"), "{said}");
}
