//! What is done with what comes to port 69.

use crate::codec::{self, Packet, Request};
use boot::TftpPlan;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::{IpAddr, SocketAddr},
};

/// The most transfers at a time.
const MOST: usize = 256;
/// The most at a time for one address.
const MOST_EACH: usize = 8;

/// Names a transfer that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(u64);

/// What is to be done about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// Send this back.
    Refuse {
        /// An ERROR packet.
        packet: Vec<u8>,
        /// The file that was asked for, if it was asked for one that there is not.
        missing: Option<String>,
    },
    /// Open the file, and run a [`Transfer`](crate::Transfer) from a port of its own; then say
    /// [`Server::handle_ended`].
    Begin {
        /// Which transfer this is.
        id: TransferId,
        /// The file's name in the plan.
        name: String,
        /// Where the file is.
        path: String,
        /// What was asked.
        request: Request,
    },
}

/// Decides about requests, and counts transfers.
#[derive(Debug, Default)]
pub struct Server {
    files: BTreeMap<String, String>,
    running: BTreeMap<SocketAddr, TransferId>,
    last: u64,
}

impl Server {
    /// A server that has no files.
    pub fn new() -> Server {
        Server::default()
    }

    /// The whole of what can be read from now on; transfers that run are let run.
    pub fn handle_plan(&mut self, plan: &TftpPlan) {
        self.files = plan.files.iter().map(|file| (plain(&file.name), file.path.clone())).collect();
    }

    /// A packet that came to the port where requests are made.
    pub fn handle_request(&mut self, from: SocketAddr, bytes: &[u8]) -> Verdict {
        let refuse = |code, text| Verdict::Refuse { packet: codec::error(code, text), missing: None };
        let request = match codec::parse(bytes) {
            Some(Packet::ReadRequest(request)) => request,
            Some(Packet::WriteRequest) => return refuse(2, "nothing is written here"),
            _ => return Verdict::Ignore,
        };
        if request.mode.is_none() {
            return refuse(4, "unknown mode: ask for octet");
        }
        let name = plain(&request.name);
        let Some(path) = self.files.get(&name).cloned() else {
            let missing = Some(request.name.chars().take(200).collect());
            return Verdict::Refuse { packet: codec::error(1, "no such file"), missing };
        };
        let each = self.of(from.ip());
        let full = self.running.len() >= MOST || each >= MOST_EACH;
        match self.running.entry(from) {
            // The request again: its answer was lost, and the transfer that runs will send it again.
            Entry::Occupied(_) => Verdict::Ignore,
            Entry::Vacant(_) if full => refuse(0, "too many transfers: ask again later"),
            Entry::Vacant(place) => {
                self.last += 1;
                let id = *place.insert(TransferId(self.last));
                Verdict::Begin { id, name, path, request }
            }
        }
    }

    fn of(&self, address: IpAddr) -> usize {
        self.running.range(SocketAddr::new(address, 0)..=SocketAddr::new(address, u16::MAX)).count()
    }

    /// A transfer is over, however it ended.
    pub fn handle_ended(&mut self, id: TransferId) {
        self.running.retain(|_, running| *running != id);
    }
}

/// A name without what clients put before it, and with the slashes of the plan.
fn plain(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests;
