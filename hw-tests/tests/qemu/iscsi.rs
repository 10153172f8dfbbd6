//! open-iscsi, the kernel's initiator, in a machine with Debian's kernel: what servers and tenants use.

mod guest;

use anyhow::{Context as _, Result, ensure};
use guest::Guest;
use hw_tests::artifact::command::{run, tool};
use hw_tests::rack::until;
use hw_tests::targets::{Chap, INITIATOR, Make, Offer, TARGET, Target, alone};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

const SIZE: u64 = 256 << 20;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
/// The writer behind an emulated processor, and open-iscsi's own waits between tries.
const PATIENCE: Duration = Duration::from_secs(120);
const TAP: &str = "guest";
/// What the kernel says when an error of the disk reaches a file system.
const ERRORS: [&str; 5] = ["I/O error", "EXT4-fs error", "EXT4-fs warning", "Remounting filesystem", "JBD2:"];

fn files(make: Make, chap: &Chap) -> Result<Vec<(&'static str, String)>> {
    let (target_user, target_secret) = chap.target.clone().context("both ends prove themselves here")?;
    let (user, secret) = (&chap.user, &chap.secret);
    let mut lines = String::from("iscsid.startup = /bin/true\nnode.startup = manual\n");
    // tgt tells its targets to everybody, and refuses who wants to prove himself for that.
    let ours: &[&str] = &["node.session.auth", "discovery.sendtargets.auth"];
    for part in if make == Make::Ours { ours } else { &ours[..1] } {
        lines += &format!(
            "{part}.authmethod = CHAP\n{part}.username = {user}\n{part}.password = {secret}\n\
             {part}.username_in = {target_user}\n{part}.password_in = {target_secret}\n"
        );
    }
    // Whoever has its root on such a disk waits for it: nothing is given up within the hour.
    lines += "node.session.timeo.replacement_timeout = 3600\n\
              node.conn[0].timeo.login_timeout = 15\n\
              node.conn[0].timeo.logout_timeout = 15\n\
              node.conn[0].timeo.noop_out_interval = 5\n\
              node.conn[0].timeo.noop_out_timeout = 5\n\
              node.session.initial_login_retry_max = 8\n\
              node.conn[0].iscsi.HeaderDigest = CRC32C\n\
              node.conn[0].iscsi.DataDigest = CRC32C\n";
    Ok(vec![
        // iscsid takes commands from a user by the name of root.
        ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n".to_owned()),
        ("etc/iscsi/iscsid.conf", lines),
        ("etc/iscsi/initiatorname.iscsi", format!("InitiatorName={INITIATOR}\n")),
    ])
}

/// How many files the writer has written and read back.
fn count(guest: &mut Guest) -> Result<u64> {
    let said = guest.order("cat /run/count 2>/dev/null || echo 0")?;
    said.trim().parse().with_context(|| format!("no count: {said}"))
}

/// Waits until the writer has written so many files more.
fn awaited(guest: &mut Guest, more: u64, what: &str) -> Result<()> {
    let begun = count(guest)?;
    let written = until(PATIENCE, what, || Ok((count(guest)? >= begun + more).then_some(())));
    written.with_context(|| {
        let said = guest.attempt("dmesg | tail -20; iscsiadm -m session -P 1; cat /run/trouble");
        said.map_or_else(|error| error.to_string(), |(_, said)| said)
    })
}

fn disks(guest: &mut Guest, wanted: usize) -> Result<()> {
    until(PATIENCE, &format!("{wanted} disks"), || {
        let said = guest.order("ls /sys/block | grep -c '^sd' || true")?;
        Ok((said.trim() == wanted.to_string()).then_some(()))
    })
}

fn scenario(directory: &std::path::Path, make: Make, out: Duration) -> Result<()> {
    for words in [
        format!("tuntap add dev {TAP} mode tap"),
        format!("address add {SERVER}/24 dev {TAP}"),
        format!("link set {TAP} up"),
    ] {
        run(tool("ip").args(words.split(' ')))?;
    }
    let mut offer = Offer::new(&directory.join("target"), SocketAddrV4::new(SERVER, 3260), SIZE);
    let chap = Chap::mutual();
    offer.chap = Some(chap.clone());
    offer.digests = true;
    let mut target = offer.start(make)?;
    let mut guest = Guest::start(directory, TAP, &files(make, &chap)?)?;
    let done = inside(&mut guest, &mut target, out);
    done.with_context(|| format!("the target's log is in {}", directory.join("target/log").display()))
}

fn inside(guest: &mut Guest, target: &mut Target, out: Duration) -> Result<()> {
    guest.order("setsid iscsid -f -d 2 >/run/iscsid.log 2>&1 &")?;
    let found = guest.order(&format!("iscsiadm -m discovery -t sendtargets -p {SERVER}"))?;
    ensure!(found.contains(TARGET), "discovery found: {found}");
    let node = format!("iscsiadm -m node -T {TARGET} -p {SERVER}");

    // Two sessions see one disk.
    guest.order(&format!("{node} -o update -n node.session.nr_sessions -v 2"))?;
    guest.order(&format!("{node} --login || (cat /run/iscsid.log; false)"))?;
    disks(guest, 2)?;
    let sessions = guest.order("iscsiadm -m session -P 2")?;
    ensure!(sessions.matches("HeaderDigest: CRC32C").count() == 2, "{sessions}");
    ensure!(sessions.matches("DataDigest: CRC32C").count() == 2, "{sessions}");
    guest.order("/sbin/mke2fs -q -t ext4 -F /dev/sda && sync")?;
    let same = "dd if=/dev/sda bs=64k count=64 iflag=direct 2>/dev/null | sha256sum >/run/a; \
                dd if=/dev/sdb bs=64k count=64 iflag=direct 2>/dev/null | sha256sum >/run/b; cmp /run/a /run/b";
    guest.order(same)?;
    let pages =
        guest.order("cmp /sys/block/sda/device/vpd_pg83 /sys/block/sdb/device/vpd_pg83 && echo same")?;
    ensure!(pages.contains("same"), "{pages}");
    guest.order(&format!("{node} --logout"))?;
    disks(guest, 0)?;

    // One session, and load.
    guest.order(&format!("{node} -o update -n node.session.nr_sessions -v 1"))?;
    guest.order(&format!("{node} --login"))?;
    disks(guest, 1)?;
    guest.order("mount -t ext4 /dev/sd[a-z] /mnt")?;
    guest.order("setsid writer >/run/writer 2>&1 &")?;
    awaited(guest, 20, "the writer to begin")?;
    let said = guest.order("dmesg")?;
    ensure!(!said.contains("detected conn error"), "with everything in order, the kernel says: {said}");

    // "cable pulled for 30 s under load"
    guest.cable(false)?;
    let before = count(guest)?;
    let untroubled = |guest: &mut Guest| {
        let (troubled, trouble) = guest.attempt("cat /run/trouble")?;
        ensure!(!troubled, "the writer saw trouble: {trouble}");
        Ok(())
    };
    let slept = guest.order(&format!("sleep {}; cat /run/count", out.as_secs()))?;
    untroubled(guest)?;
    ensure!(slept.trim().parse::<u64>()? <= before + 1, "{before}, then {slept}: the cable was not out");
    guest.cable(true)?;
    awaited(guest, 5, "the writer to go on after the cable was out")?;

    // "target restarted under load"
    for _ in 0..2 {
        target.kill();
        target.start()?;
        awaited(guest, 5, "the writer to go on after the target was killed")?;
    }

    guest.order("touch /run/stop; for i in $(seq 600); do [ -e /run/stopped ] && break; sleep 0.1; done; [ -e /run/stopped ]")?;
    untroubled(guest)?;
    guest.order("umount /mnt && echo 3 >/proc/sys/vm/drop_caches")?;
    guest.order(&format!("{node} --logout"))?;
    disks(guest, 0)?;

    // Logged in anew, all is there.
    guest.order(&format!("{node} --login"))?;
    disks(guest, 1)?;
    guest.order("/sbin/e2fsck -fn /dev/sd[a-z]")?;
    guest.order("mount -t ext4 -o ro /dev/sd[a-z] /mnt")?;
    let check = "for i in /run/sum*; do read -r sum dash file <$i; [ \"$(sha256sum <$file)\" = \"$sum  -\" ] || echo $file; done";
    let other = guest.order(check)?;
    ensure!(other.trim().is_empty(), "not what was written: {other}");
    guest.order("umount /mnt")?;
    guest.order(&format!("{node} --logout"))?;
    let said = guest.order("dmesg")?;
    let errors: Vec<&str> =
        said.lines().filter(|line| ERRORS.iter().any(|error| line.contains(error))).collect();
    ensure!(errors.is_empty(), "the kernel says: {}", errors.join("\n"));
    Ok(())
}

fn on(make: Make, out: Duration) {
    let directory = env::temp_dir().join(format!("kiln-qemu-{}-iscsi-{}", process::id(), make.name()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let done = alone(|| scenario(&directory, make, out));
    if let Err(error) = done {
        panic!("{error:#}\nlogs are in {}", directory.display());
    }
    let _ = fs::remove_dir_all::<PathBuf>(directory);
}

#[test]
fn the_reference_keeps_a_guest_s_file_system_through_a_cut_and_a_kill() {
    on(Make::Tgt, Duration::from_secs(8));
}

#[test]
fn no_error_reaches_a_guest_s_file_system_when_its_cable_is_out_or_the_target_is_killed() {
    on(Make::Ours, Duration::from_secs(30));
}
