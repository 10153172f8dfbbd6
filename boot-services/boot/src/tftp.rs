use crate::Device;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the TFTP hand should be doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TftpPlan {
    /// Where it listens.
    pub listen: Vec<TftpListen>,
    /// All that can be read; there is no directory behind it.
    pub files: Vec<TftpFile>,
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TftpListen {
    /// The address and port, port 69 as a rule.
    pub address: SocketAddr,
    /// Only what comes in by this interface is heard.
    pub device: Option<Device>,
}

/// A file that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TftpFile {
    /// The name clients ask for; a leading slash of theirs is ignored.
    pub name: String,
    /// Where it is on our disk.
    pub path: String,
}

/// What became of the latest transfer of a file to an address. Key: `ADDRESS/NAME`, or `listen/ADDRESS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TftpFact {
    /// A read, begun or ended.
    Transfer {
        /// Who asked.
        peer: SocketAddr,
        /// For what.
        name: String,
        /// Octets that were acknowledged.
        sent: u64,
        /// Of how many; `None` when there is no such file.
        size: Option<u64>,
        /// `None` while it is under way, otherwise how it ended: `done`, or what went wrong.
        ended: Option<String>,
    },
    /// Whether a socket is open: `None`, or what keeps it from being so and what to do.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What is wrong.
        trouble: Option<String>,
    },
}
