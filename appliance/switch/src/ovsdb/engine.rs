use super::codec::{Few, Framer, Message, OperationResult, TableUpdates, parse};
use super::mirror::{Mirror, short};
use crate::{Did, Error, Refusal, Seen, Standing};
use core::time::Duration;
use rack::{PortMode, SwitchPort, Vlan};
use sansio::Time;
use serde_json::{json, value::RawValue};
use std::collections::{BTreeMap, VecDeque};

/// How long a server may take over a request. One on this LAN takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server may be silent before it is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(5);
/// How long ovs-vswitchd may take over a change before it is said that it does not work.
const GRACE: Duration = Duration::from_secs(5);
/// How often ovs-vswitchd is asked whether it lives. Each time is a write on the switch's disk.
const AUDIT: Duration = Duration::from_secs(30);
/// Bytes that wait for a server that does not read.
const MOST_WAITING: usize = 8 << 20;

const DATABASE: &str = "Open_vSwitch";
const MONITOR: &str = "kiln";

/// What an engine has to say.
#[derive(Debug)]
pub enum Event {
    /// The tables are here: [`Engine::seen`] knows every port.
    Ready,
    /// Something about a watched port, or about ovs-vswitchd, is not as it was.
    Changed,
    /// The server decided on an order; one such event per [`Engine::set`].
    Set {
        /// Which port.
        port: SwitchPort,
        /// Accepted by the database. Being in force is seen, not answered.
        outcome: Result<Did, Refusal>,
    },
    /// The session is over, and the last event.
    Ended(Error),
}

/// One session with an OVSDB server: monitors the tables that say where ports are, and changes them.
///
/// That a change is accepted and that it is in force are two things: ovsdb-server accepts it, and
/// ovs-vswitchd works by it somewhat later, or never if it does not run. So each change also adds one to
/// `next_cfg`, and is in force when ovs-vswitchd has raised `cur_cfg` to that. A change made by others,
/// which may not have done so, is followed by an addition of ours.
#[derive(Debug)]
pub struct Engine {
    framer: Framer,
    out: Vec<u8>,
    calls: BTreeMap<u64, Call>,
    asked: u64,
    heard: Time,
    probing: bool,
    ready: bool,
    mirror: Mirror,
    watched: BTreeMap<SwitchPort, Option<Cover>>,
    /// What ovs-vswitchd has yet to reach, and since when it has made no progress.
    behind: Option<(i64, Time)>,
    stalled: bool,
    audit: Time,
    events: VecDeque<Event>,
    changed: bool,
    ended: bool,
}

#[derive(Debug)]
struct Call {
    what: What,
    deadline: Time,
}

#[derive(Debug)]
enum What {
    Echo,
    Monitor,
    Set(SwitchPort, Vlan),
    /// And the changes that it comes after.
    Bump(Vec<(SwitchPort, u64)>),
}

/// Which change of a port is in force once `cur_cfg` is what.
#[derive(Clone, Copy, Debug)]
struct Cover {
    change: u64,
    config: i64,
}

impl Engine {
    /// A session over a connection that was just made.
    pub fn new(now: Time) -> Engine {
        let mut engine = Engine {
            framer: Framer::default(),
            out: Vec::new(),
            calls: BTreeMap::new(),
            asked: 0,
            heard: now,
            probing: false,
            ready: false,
            mirror: Mirror::default(),
            watched: BTreeMap::new(),
            behind: None,
            stalled: false,
            audit: now + AUDIT,
            events: VecDeque::new(),
            changed: false,
            ended: false,
        };
        let tables = json!([DATABASE, MONITOR, {
            "Open_vSwitch": [{"columns": ["cur_cfg", "next_cfg"]}],
            "Bridge": [{"columns": ["name", "ports"]}],
            "Port": [{"columns": ["name", "tag", "trunks", "vlan_mode", "interfaces"]}],
            "Interface": [{"columns": ["link_state", "admin_state", "error"]}],
        }]);
        engine.call(now, What::Monitor, "monitor", &tables);
        engine
    }

    /// Says which ports matter. Of others no change is told, and ovs-vswitchd is not asked about them.
    pub fn watch(&mut self, ports: impl IntoIterator<Item = SwitchPort>) {
        let mut old = core::mem::take(&mut self.watched);
        self.watched = ports
            .into_iter()
            .map(|port| {
                let cover = old.remove(&port).flatten();
                (port, cover)
            })
            .collect();
    }

    /// What a port is. Before [`Event::Ready`] none is there.
    pub fn seen(&self, port: &SwitchPort) -> Seen {
        let mut seen = self.mirror.seen(port);
        if seen.mode == PortMode::Absent {
            return seen;
        }
        let cover = self.watched.get(port).copied().flatten();
        let reached = cover.is_some_and(|cover| {
            Some(cover.change) == self.mirror.changed(port)
                && self.mirror.current().is_some_and(|current| current >= cover.config)
        });
        match self.behind {
            Some((wanted, _)) if self.stalled => {
                let current = self.mirror.current().unwrap_or_default();
                seen.standing = Standing::Stuck;
                seen.trouble = Some(format!(
                    "the switch's database accepts changes and ovs-vswitchd does not put them in force (it is \
                     at configuration {current} of {wanted}): start it, or see its log on the switch"
                ));
            }
            _ if !reached => seen.standing = Standing::Awaited,
            _ => {}
        }
        seen
    }

    /// Puts a port into a VLAN, untagged and alone. [`Event::Set`] tells what came of it.
    pub fn set(&mut self, now: Time, port: SwitchPort, vlan: Vlan) {
        let outcome = match self.mirror.mode(&port) {
            PortMode::Access(already) if already == vlan => Ok(Did::Already),
            PortMode::Absent => Err(Refusal::Absent),
            PortMode::Access(_) | PortMode::Trunk => {
                let operations = json!([
                    DATABASE,
                    {
                        "op": "update", "table": "Port", "where": [["name", "==", port.as_str()]],
                        "row": {"vlan_mode": "access", "tag": vlan.id(), "trunks": ["set", []]}
                    },
                    {"op": "mutate", "table": DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]},
                    {"op": "select", "table": DATABASE, "where": [], "columns": ["next_cfg"]},
                    {"op": "comment", "comment": format!("kiln: port {port} into VLAN {vlan}")}
                ]);
                self.call(now, What::Set(port, vlan), "transact", &operations);
                return;
            }
        };
        self.events.push_back(Event::Set { port, outcome });
    }

    /// Takes what the server sent.
    pub fn handle_bytes(&mut self, now: Time, bytes: &[u8]) {
        if self.ended {
            return;
        }
        self.heard = now;
        self.probing = false;
        let mut framer = core::mem::take(&mut self.framer);
        framer.handle_bytes(bytes);
        loop {
            let handled = match framer.poll_message() {
                Ok(Some(message)) => parse(message).and_then(|message| self.handle_message(now, message)),
                Ok(None) => break,
                Err(misframed) => Err(misframed.to_string()),
            };
            if let Err(what) = handled {
                self.end(Error::PeerMisbehaved { what: short(&what) });
            }
            if self.ended {
                return;
            }
        }
        self.framer = framer;
        self.settle(now);
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.ended {
            return;
        }
        if let Some(late) = self.calls.values().find(|call| call.deadline <= now) {
            let waited_for = match late.what {
                What::Echo => "a sign of life",
                What::Monitor => "its tables",
                What::Set(..) => "its word on a change",
                What::Bump(_) => "its word on a configuration number",
            };
            self.end(Error::Silent { waited_for, patience: PATIENCE });
            return;
        }
        if !self.probing && self.heard + SILENCE <= now {
            self.probing = true;
            self.call(now, What::Echo, "echo", &json!([]));
        }
        if let Some((_, since)) = self.behind
            && !self.stalled
            && since + GRACE <= now
        {
            self.stalled = true;
            self.changed = true;
        }
        self.settle(now);
    }

    /// Bytes for the server.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if self.out.is_empty() { None } else { Some(core::mem::take(&mut self.out)) }
    }

    /// When [`handle_timeout`](Engine::handle_timeout) is next wanted; `now` at the soonest.
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        if self.ended {
            return None;
        }
        let call = self.calls.values().map(|call| call.deadline).min();
        let probe = (!self.probing).then(|| self.heard + SILENCE);
        let stall = self.behind.filter(|_| !self.stalled).map(|(_, since)| since + GRACE);
        let idle = self.ready && !self.watched.is_empty() && !self.changing();
        let audit = idle.then_some(self.audit);
        let bump = self.wants_bump(now).then_some(now);
        [call, probe, stall, audit, bump].into_iter().flatten().min()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.changed && self.ready && !self.ended {
            self.changed = false;
            return Some(Event::Changed);
        }
        self.events.pop_front()
    }

    fn handle_message(&mut self, now: Time, message: Message<'_>) -> Result<(), String> {
        match message {
            // RFC 7047 §4.1.11: the result of an echo is its params.
            Message::Request { id, method, params } if method == "echo" => {
                let params = params.map_or("[]", RawValue::get);
                self.send(&format!(r#"{{"id":{},"result":{params},"error":null}}"#, id.get()));
            }
            Message::Request { id, method, .. } => {
                let error = json!(format!("unknown method {}", short(&method)));
                self.send(&format!(r#"{{"id":{},"result":null,"error":{error}}}"#, id.get()));
            }
            Message::Notification { method, params } if method == "update" => {
                let (monitor, updates): (String, TableUpdates) = read(params)?;
                if monitor == MONITOR {
                    self.apply(now, updates)?;
                }
            }
            Message::Notification { .. } => {}
            Message::Reply { id, outcome } => {
                let Some(call) = self.calls.remove(&id) else {
                    return Err(format!("a reply to {id}, which was not asked"));
                };
                self.handle_reply(now, call.what, outcome)?;
            }
        }
        Ok(())
    }

    fn handle_reply(
        &mut self,
        now: Time,
        what: What,
        outcome: Result<&RawValue, &RawValue>,
    ) -> Result<(), String> {
        match (what, outcome) {
            (What::Echo, _) => {}
            (What::Monitor, Ok(tables)) => {
                self.apply(now, read(Some(tables))?)?;
                self.ready = true;
                self.events.push_back(Event::Ready);
            }
            (What::Monitor, Err(error)) => self.end(Error::PeerIncompatible {
                what: format!("it will not tell its tables ({})", short(error.get())),
            }),
            (What::Set(port, _), Err(error)) => {
                let refusal = Refusal::Other { error: short(error.get()), details: String::new() };
                self.events.push_back(Event::Set { port, outcome: Err(refusal) });
            }
            (What::Set(port, vlan), Ok(results)) => {
                let Few(results): Few<Option<OperationResult>> = read(Some(results))?;
                if let Some(refusal) = refusal(&results) {
                    self.events.push_back(Event::Set { port, outcome: Err(refusal) });
                    return Ok(());
                }
                let touched = results.iter().flatten().find_map(|result| result.count);
                if touched.is_none_or(|rows| rows == 0) {
                    self.events.push_back(Event::Set { port, outcome: Err(Refusal::Absent) });
                    return Ok(());
                }
                let Some(config) = config(&results) else {
                    self.uninitialised();
                    return Ok(());
                };
                // ovsdb-server(7) 4.1.5: "ovsdb-server always sends the update … for these changes before it
                // sends the reply to the transact request." So the mirror shows what the change led to; where
                // another server does it the other way round, a bump follows the update.
                if self.mirror.mode(&port) == PortMode::Access(vlan)
                    && let Some(change) = self.mirror.changed(&port)
                    && let Some(cover) = self.watched.get_mut(&port)
                {
                    *cover = Some(Cover { change, config });
                }
                self.expect_config(now, config);
                self.events.push_back(Event::Set { port, outcome: Ok(Did::Changed) });
            }
            (What::Bump(_), Err(error)) => self.end(Error::PeerIncompatible {
                what: format!("it will not count configurations ({})", short(error.get())),
            }),
            (What::Bump(changes), Ok(results)) => {
                let Few(results): Few<Option<OperationResult>> = read(Some(results))?;
                if let Some(refusal) = refusal(&results) {
                    let what = format!("it will not count configurations ({refusal})");
                    self.end(Error::PeerIncompatible { what });
                    return Ok(());
                }
                let Some(config) = config(&results) else {
                    self.uninitialised();
                    return Ok(());
                };
                for (port, change) in changes {
                    if let Some(cover) = self.watched.get_mut(&port) {
                        *cover = Some(Cover { change, config });
                    }
                }
                self.changed = true;
                self.expect_config(now, config);
            }
        }
        Ok(())
    }

    fn apply(&mut self, now: Time, updates: TableUpdates) -> Result<(), String> {
        let before = self.mirror.current();
        if !self.mirror.apply(updates) {
            return Err("more rows than any switch has ports".to_owned());
        }
        self.changed = true;
        let current = self.mirror.current();
        if let Some((wanted, since)) = &mut self.behind {
            if current.is_some_and(|current| current >= *wanted) {
                self.behind = None;
                self.stalled = false;
            } else if current > before {
                *since = now;
                self.stalled = false;
            }
        }
        Ok(())
    }

    /// Counts on ovs-vswitchd to reach this.
    fn expect_config(&mut self, now: Time, config: i64) {
        if self.mirror.current().is_none_or(|current| current < config) {
            let (wanted, since) = self.behind.unwrap_or((config, now));
            self.behind = Some((wanted.max(config), since));
        }
    }

    fn wants_bump(&self, now: Time) -> bool {
        let audit = self.audit <= now && !self.watched.is_empty();
        self.ready && !self.ended && (audit || self.uncovered().next().is_some()) && !self.changing()
    }

    /// Whether an addition to `next_cfg` is under way.
    fn changing(&self) -> bool {
        self.calls.values().any(|call| matches!(call.what, What::Set(..) | What::Bump(_)))
    }

    /// Watched ports whose latest change ovs-vswitchd was not asked about.
    fn uncovered(&self) -> impl Iterator<Item = (&SwitchPort, u64)> {
        self.watched.iter().filter_map(|(port, cover)| {
            let change = self.mirror.changed(port)?;
            cover.is_none_or(|cover| cover.change != change).then_some((port, change))
        })
    }

    fn settle(&mut self, now: Time) {
        if self.wants_bump(now) {
            let changes = self.uncovered().map(|(port, change)| (port.clone(), change)).collect();
            let operations = json!([
                DATABASE,
                {"op": "mutate", "table": DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]},
                {"op": "select", "table": DATABASE, "where": [], "columns": ["next_cfg"]},
                {"op": "comment", "comment": "kiln: asks whether ovs-vswitchd has caught up"}
            ]);
            self.call(now, What::Bump(changes), "transact", &operations);
            self.audit = now + AUDIT;
        }
    }

    fn call(&mut self, now: Time, what: What, method: &str, params: &serde_json::Value) {
        let id = self.asked;
        self.asked += 1;
        self.calls.insert(id, Call { what, deadline: now + PATIENCE });
        self.send(&json!({"id": id, "method": method, "params": params}).to_string());
    }

    fn send(&mut self, message: &str) {
        self.out.extend_from_slice(message.as_bytes());
        if self.out.len() > MOST_WAITING {
            self.end(Error::PeerMisbehaved { what: "more questions than it reads answers to".to_owned() });
        }
    }

    fn uninitialised(&mut self) {
        let what = "its database was never initialised: run `ovs-vsctl init` there".to_owned();
        self.end(Error::PeerIncompatible { what });
    }

    fn end(&mut self, error: Error) {
        if !self.ended {
            self.ended = true;
            self.out = Vec::new();
            self.calls.clear();
            self.events.push_back(Event::Ended(error));
        }
    }
}

fn read<'a, T: serde::Deserialize<'a>>(value: Option<&'a RawValue>) -> Result<T, String> {
    serde_json::from_str(value.map_or("null", RawValue::get)).map_err(|e| e.to_string())
}

/// What `next_cfg` became.
fn config(results: &[Option<OperationResult>]) -> Option<i64> {
    results.iter().flatten().find_map(|result| result.rows.0.first()?.next_cfg.integer())
}

/// RFC 7047 §4.1.3: in the place of the operation that failed stands an error, and null in the places of
/// those after it; one more element than there were operations is the failure of the whole.
fn refusal(results: &[Option<OperationResult>]) -> Option<Refusal> {
    let failed = results.iter().flatten().find(|result| result.error.is_some())?;
    let details = short(failed.details.as_deref().unwrap_or_default());
    Some(match failed.error.as_deref().unwrap_or_default() {
        "constraint violation" => Refusal::Constraint { details },
        "referential integrity violation" => Refusal::Referential { details },
        other => Refusal::Other { error: short(other), details },
    })
}

#[cfg(test)]
mod tests;
