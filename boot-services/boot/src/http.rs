use crate::{Attempt, Device, Digest, Json, Secret};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the HTTP hand should be doing. All paths begin with a slash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpPlan {
    /// Where it listens: an address and the only interface that is heard.
    pub listen: Vec<(SocketAddr, Option<Device>)>,
    /// Files for everybody: boot loaders, kernel, initramfs.
    pub assets: Vec<HttpAsset>,
    /// Texts made for one machine's attempt to boot, or for machines nobody knows.
    pub scripts: Vec<Script>,
    /// The directory of the image store: `/image/DIGEST` and `/image/DIGEST/manifest` are served from it.
    pub images: Option<String>,
    /// The directory where agents' logs are kept, one file per attempt.
    pub logs: Option<String>,
    /// The agents that may come in, and what each is to do.
    pub sessions: Vec<Session>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAsset {
    /// What is asked for.
    pub path: String,
    /// Where it is on our disk.
    pub file: String,
}

/// A text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// What is asked for.
    pub path: String,
    /// What is answered. It may hold an agent's token, so it is not for logs.
    pub body: Secret,
    /// Told in the fact that it was fetched; none: nobody waits for it.
    pub attempt: Option<Attempt>,
}

/// An agent that may come in at `/agent/ATTEMPT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its attempt.
    pub attempt: Attempt,
    /// What it must show.
    pub token: Secret,
    /// What it is to do, passed on as it is; the hand does not read it. None: wait.
    pub order: Option<Json>,
    /// The images it may read, as `/image/DIGEST`, beside those of its order; no token, no image.
    pub images: Vec<Digest>,
    /// A small file made for this machine (its config drive), served at `/agent/ATTEMPT/config-drive`.
    pub config_drive: Option<String>,
}

/// What the HTTP hand saw. Keys: `script/ATTEMPT`, `agent/ATTEMPT`, `listen/ADDRESS`, `lost/ADDRESS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpFact {
    /// A script was fetched in full.
    Script {
        /// Whose.
        attempt: Attempt,
        /// By whom, last.
        peer: SocketAddr,
        /// How often.
        times: u32,
    },
    /// An asset was fetched, in full or not. Key: `asset/ADDRESS`; the latest of each address only.
    Asset {
        /// By whom.
        peer: SocketAddr,
        /// Which.
        path: String,
        /// Octets sent.
        sent: u64,
        /// Octets there are.
        size: u64,
    },
    /// An agent.
    Agent {
        /// Which.
        attempt: Attempt,
        /// Whether it is on the line.
        state: SessionState,
        /// The last status it told, as it told it.
        status: Option<Json>,
    },
    /// Somebody asked for something that is not there, or showed a wrong token. Key: `lost/ADDRESS`.
    Lost {
        /// Who.
        peer: SocketAddr,
        /// The path, at most 200 characters.
        path: String,
        /// Why it was refused.
        why: String,
    },
    /// Whether a socket is open: `None`, or what keeps it from being so and what to do.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What is wrong.
        trouble: Option<String>,
    },
}

/// Whether an agent is on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// It is.
    Connected,
    /// It was, and is gone or has been silent for too long.
    Lost,
}
