//! The bytes of every plan, fact and line of version 1. A released version's bytes never change: nor does
//! what stands here, except for what is added to it.

#![allow(clippy::unwrap_used, reason = "all of it is test")]

#[path = "bytes/agent.rs"]
mod agent;
#[path = "bytes/dhcp.rs"]
mod dhcp;
#[path = "bytes/http.rs"]
mod http;
#[path = "bytes/iscsi.rs"]
mod iscsi;
#[path = "bytes/line.rs"]
mod line;
#[path = "bytes/tftp.rs"]
mod tftp;
#[path = "bytes/words.rs"]
mod words;

use boot::{Attempt, Device, Digest, Mac};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, net::SocketAddr};

/// `value` is written as `bytes`, and read from them.
fn pinned<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, bytes: &str) {
    assert_eq!(serde_json::to_string(value).expect("it has a JSON form"), bytes);
    assert_eq!(serde_json::from_str::<T>(bytes).expect("it is what was pinned"), *value);
}

fn digest(octet: u8) -> Digest {
    Digest([octet; 32])
}

fn mac() -> Mac {
    Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])
}

fn attempt() -> Attempt {
    "n1-4-2".parse().unwrap()
}

fn device() -> Device {
    "eth0.100".parse().unwrap()
}

fn peer() -> SocketAddr {
    "10.7.0.9:40000".parse().unwrap()
}
