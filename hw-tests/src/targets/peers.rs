//! tgt and istgt, as Debian has them, without kernel modules and without their services.

use super::{Make, Offer, command};
use crate::artifact::command::{run, tool};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::process::Child;

/// The base that istgt puts before its targets' names.
const BASE: &str = "iqn.2026-01.test.kiln";
/// The names of a target's parameters that are not as shipped in a tuned tgt, with our values.
const BURSTS: [(&str, &str); 6] = [
    ("MaxRecvDataSegmentLength", "262144"),
    ("MaxXmitDataSegmentLength", "262144"),
    ("FirstBurstLength", "262144"),
    ("MaxBurstLength", "1048576"),
    ("InitialR2T", "No"),
    ("MaxOutstandingR2T", "8"),
];

pub(super) fn istgt_name() -> String {
    format!("{BASE}:disk")
}

pub(super) fn start_tgt(offer: &Offer) -> Result<Child> {
    let portal = format!("portal={}", offer.listen);
    // Its control socket lies with its files: another tgtd of this machine has its own.
    command(offer, &["tgtd", "-f", "-C", "0", "--iscsi", &portal])?
        .env("TGT_IPC_SOCKET", offer.directory.join("control"))
        .spawn()
        .context("setpriv cannot be started: run hw-tests/setup")
}

/// One command of tgt's administrator.
pub(super) fn tgtadm(offer: &Offer, words: &str) -> Result<String> {
    let mut tgtadm = tool("tgtadm");
    tgtadm.args(["-C", "0", "--lld", "iscsi"]).args(words.split(' '));
    let said = run(tgtadm.env("TGT_IPC_SOCKET", offer.directory.join("control")))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

pub(super) fn configure_tgt(offer: &Offer, tuned: bool) -> Result<()> {
    let lun = Make::Tgt.lun();
    let mut commands = vec![format!("--mode target --op new --tid 1 -T {}", super::TARGET)];
    let update = |(name, value)| format!("--mode target --op update --tid 1 -n {name} -v {value}");
    if tuned {
        commands.extend(BURSTS.map(update));
    }
    if offer.digests {
        commands.extend(["HeaderDigest", "DataDigest"].map(|name| update((name, "CRC32C,None"))));
    }
    let backing = offer.backing();
    let backing = backing.display();
    commands.push(format!("--mode logicalunit --op new --tid 1 --lun {lun} -b {backing}"));
    if offer.read_only {
        commands.push(format!("--mode logicalunit --op update --tid 1 --lun {lun} --params readonly=1"));
    }
    if let Some(chap) = &offer.chap {
        let proofs =
            [Some((&chap.user, &chap.secret, "")), chap.target.as_ref().map(|(u, s)| (u, s, " --outgoing"))];
        for (user, secret, direction) in proofs.into_iter().flatten() {
            commands.push(format!("--mode account --op new --user {user} --password {secret}"));
            commands.push(format!("--mode account --op bind --tid 1 --user {user}{direction}"));
        }
    }
    commands.push("--mode target --op bind --tid 1 -I ALL".to_owned());
    for words in commands {
        tgtadm(offer, &words)?;
    }
    Ok(())
}

pub(super) fn start_istgt(offer: &Offer) -> Result<Child> {
    if offer.chap.as_ref().is_some_and(|chap| chap.target.is_some()) || offer.read_only {
        bail!("istgt is a peer for speed and conformance: only a writable disk with one-way CHAP");
    }
    let here = offer.directory.display();
    let secrets = offer.chap.as_ref();
    let secrets =
        secrets.map_or_else(String::new, |chap| format!("  Auth \"{}\" \"{}\"\n", chap.user, chap.secret));
    let method = if offer.chap.is_some() { "CHAP" } else { "None" };
    let size = offer.size >> 20;
    let (listen, backing) = (offer.listen, offer.backing());
    let backing = backing.display();
    fs::write(offer.directory.join("auth.conf"), format!("[AuthGroup1]\n{secrets}"))?;
    // Its control portal is for a program that is not started: beside the portal, on a port of its own.
    let control = offer.listen.port().saturating_add(1);
    let configuration = format!(
        "\
[Global]
  NodeBase \"{BASE}\"
  PidFile {here}/istgt.pid
  AuthFile {here}/auth.conf
  MediaDirectory {here}
  LogFacility \"local7\"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod None
  MaxSessions 128
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
  Portal UC1 127.0.0.1:{control}
  Netmask 127.0.0.1
[PortalGroup1]
  Portal DA1 {listen}
[InitiatorGroup1]
  InitiatorName \"ALL\"
  Netmask ALL
[LogicalUnit1]
  TargetName disk
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod {method}
  AuthGroup AuthGroup1
  UseDigest Auto
  UnitType Disk
  QueueDepth 64
  LUN0 Storage {backing} {size}MB
"
    );
    let file = offer.directory.join("istgt.conf");
    fs::write(&file, configuration)?;
    let (file, pid) = (file.display().to_string(), format!("{here}/istgt.pid"));
    command(offer, &["istgt", "-D", "-c", &file, "-p", &pid])?
        .spawn()
        .context("setpriv cannot be started: run hw-tests/setup")
}
