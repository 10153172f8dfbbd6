//! As much of ovsdb-server and ovs-vswitchd as the engine needs, without a byte in common with it.

use rack::PortMode;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A database and the daemon that works by it.
pub(super) struct Server {
    ports: BTreeMap<String, Row>,
    inbox: Vec<u8>,
    out: Vec<Value>,
    monitored: bool,
    current: i64,
    next: i64,
    /// Whether the daemon puts in force what the database has.
    pub(super) daemon_runs: bool,
    /// What the next transaction fails with.
    pub(super) refusal: Option<String>,
    pub(super) initialised: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    tag: Option<i64>,
    forwards: Option<i64>,
    mode: Option<String>,
}

impl Server {
    pub(super) fn new(ports: &[(&str, Option<i64>)]) -> Server {
        let row = |tag| Row { tag, forwards: tag, mode: None };
        Server {
            ports: ports.iter().map(|(name, tag)| ((*name).to_owned(), row(*tag))).collect(),
            inbox: Vec::new(),
            out: Vec::new(),
            monitored: false,
            current: 3,
            next: 3,
            daemon_runs: true,
            refusal: None,
            initialised: true,
        }
    }

    pub(super) fn drift(&mut self, port: &str, tag: Option<i64>) {
        self.ports.get_mut(port).unwrap().tag = tag;
        self.tell(&[port], false);
    }

    pub(super) fn remove(&mut self, port: &str) {
        self.ports.remove(port);
        self.tell(&[port], false);
    }

    pub(super) fn hang_up(&mut self) {
        (self.inbox, self.out, self.monitored) = (Vec::new(), Vec::new(), false);
    }

    /// Whether the client was sent everything.
    pub(super) fn is_told(&self) -> bool {
        self.out.is_empty() && !(self.daemon_runs && self.behind())
    }

    pub(super) fn forwards(&self, port: &str) -> PortMode {
        match self.ports[port].forwards {
            Some(tag) => PortMode::Access(u16::try_from(tag).unwrap().try_into().unwrap()),
            None => PortMode::Trunk,
        }
    }

    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut self.inbox);
        let mut stream = serde_json::Deserializer::from_slice(&inbox).into_iter::<Value>();
        let mut requests = Vec::new();
        let mut read = 0;
        while let Some(Ok(request)) = stream.next() {
            requests.push(request);
            read = stream.byte_offset();
        }
        self.inbox = inbox[read..].to_vec();
        for request in requests {
            self.handle_request(&request);
        }
    }

    /// The daemon works here too: what it does comes after what the client was answered.
    pub(super) fn poll_transmit(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        if self.daemon_runs && self.behind() {
            self.current = self.next;
            for row in self.ports.values_mut() {
                row.forwards = row.tag;
            }
            self.tell(&[], true);
            out.append(&mut self.out);
        }
        out.iter().flat_map(|message| message.to_string().into_bytes()).collect()
    }

    fn behind(&self) -> bool {
        self.current < self.next || self.ports.values().any(|row| row.tag != row.forwards)
    }

    fn handle_request(&mut self, request: &Value) {
        let result = match request["method"].as_str() {
            Some("monitor") => {
                self.monitored = true;
                let names: Vec<_> = self.ports.keys().cloned().collect();
                self.rows(&names.iter().map(String::as_str).collect::<Vec<_>>(), true)
            }
            Some("echo") => request["params"].clone(),
            Some("transact") => self.transact(&request["params"]),
            _ => return,
        };
        self.out.push(json!({"id": request["id"], "result": result, "error": null}));
    }

    fn transact(&mut self, params: &Value) -> Value {
        if let Some(error) = self.refusal.take() {
            return json!([{"error": error, "details": "details"}, null, null]);
        }
        let mut results = Vec::new();
        for operation in &params.as_array().unwrap()[1..] {
            results.push(match operation["op"].as_str().unwrap() {
                "update" => {
                    let name = operation["where"][0][2].as_str().unwrap().to_owned();
                    let found = self.ports.get_mut(&name);
                    let count = u8::from(found.is_some());
                    if let Some(row) = found {
                        row.tag = operation["row"]["tag"].as_i64();
                        row.mode = operation["row"]["vlan_mode"].as_str().map(str::to_owned);
                        self.tell(&[&name], false);
                    }
                    json!({"count": count})
                }
                "mutate" => {
                    self.next += 1;
                    self.tell(&[], true);
                    json!({"count": 1})
                }
                "select" if self.initialised => json!({"rows": [{"next_cfg": self.next}]}),
                "select" => json!({"rows": []}),
                _ => json!({}),
            });
        }
        Value::Array(results)
    }

    fn tell(&mut self, ports: &[&str], root: bool) {
        if self.monitored {
            let rows = self.rows(ports, root);
            self.out.push(json!({"id": null, "method": "update", "params": ["kiln", rows]}));
        }
    }

    fn rows(&self, ports: &[&str], root: bool) -> Value {
        let set = |value: Option<Value>| value.unwrap_or_else(|| json!(["set", []]));
        let row = |name: &&str| {
            let update = match self.ports.get(*name) {
                Some(row) => json!({"new": {
                    "name": name, "tag": set(row.tag.map(Value::from)), "trunks": ["set", []],
                    "vlan_mode": set(row.mode.clone().map(Value::from)), "interfaces": ["uuid", "i"]
                }}),
                None => json!({"old": {}}),
            };
            (format!("uuid-of-{name}"), update)
        };
        let mut tables = serde_json::Map::new();
        tables.insert("Port".to_owned(), ports.iter().map(row).collect::<serde_json::Map<_, _>>().into());
        if root && self.initialised {
            tables.insert(
                "Open_vSwitch".to_owned(),
                json!({"root": {"new": {"cur_cfg": self.current, "next_cfg": self.next}}}),
            );
        }
        tables.into()
    }
}
