//! When a tenant's network gave the node its address: the same evidence for both sides.

use anyhow::{Context as _, Result};
use hw_tests::rack::{Capture, until};
use sansio::Time;
use std::process::Command;
use std::time::Duration;

/// When the last DHCPACK so far went over the wire. One is awaited: packets are dated when they pass, and in
/// the file up to a second later.
pub(crate) fn acknowledged(capture: &Capture) -> Result<Time> {
    let what = format!("a DHCPACK in {}", capture.file().display());
    until(Duration::from_secs(10), &what, || last(capture))
}

fn last(capture: &Capture) -> Result<Option<Time>> {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-tt", "-v", "-n", "-r"]).arg(capture.file()).arg("udp src port 67 and udp dst port 68");
    // A packet being written while this reads ends the file too early; those before it are told.
    let said = tcpdump.output().context("cannot run tcpdump")?.stdout;
    let said = String::from_utf8_lossy(&said);
    let (mut at, mut last) = (None, None);
    for line in said.lines() {
        if let Some(seconds) = line.split(' ').next().and_then(|word| word.parse::<f64>().ok()) {
            at = Some(Time::ZERO + Duration::from_secs_f64(seconds));
        }
        // tcpdump -v: "DHCP-Message (53), length 1: ACK".
        if line.trim_end().ends_with(": ACK") {
            last = at;
        }
    }
    Ok(last)
}
