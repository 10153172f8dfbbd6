//! What happens between a running system and its volume, and must not reach its file system.

use crate::guest::Guest;
use crate::scene::{SOON, deploy, diskless, stand, with_sessions};
use hw_tests::rack::{Firmware, until};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Waits; ended early by nobody.
fn pass(time: Duration) {
    let (_keep, silence): (Sender<()>, _) = channel();
    assert_eq!(silence.recv_timeout(time), Err(RecvTimeoutError::Timeout));
}

#[test]
fn neither_a_pulled_cable_nor_a_restarted_target_reaches_the_file_system_under_load() {
    let stand = stand("trouble", &diskless(1, Firmware::Bios));
    deploy(&stand, "node1", "tenant-1", &[]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    guest.keep("first", b"before everything");
    let (ended, written) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        // Load: a file of 256 KiB after the other, each synced; what is acknowledged is remembered.
        scope.spawn(|| {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let data = content(number + 1);
                let patience = Duration::from_secs(120);
                if guest
                    .ask_within("POST", &format!("/file/load-{}", (number + 1) % 8), &data, patience)
                    .is_some()
                {
                    number += 1;
                    written.store(number, Ordering::Relaxed);
                }
            }
        });
        let goes_on = |after: &str| {
            let from = written.load(Ordering::Relaxed);
            until(SOON, &format!("it to go on writing after {after}"), || {
                Ok((written.load(Ordering::Relaxed) > from + 1).then_some(()))
            })
            .unwrap();
        };
        goes_on("nothing");
        for _ in 0..3 {
            stand.kill("iscsi").unwrap();
            goes_on("the target was killed");
        }
        stand.rack().cable_out("node1").unwrap();
        pass(Duration::from_secs(30));
        stand.rack().cable_in("node1").unwrap();
        goes_on("its cable was out for half a minute");
        ended.store(true, Ordering::Relaxed);
    });
    let last = written.load(Ordering::Relaxed);
    println!("{last} files of 256 KiB were written meanwhile");
    assert_eq!(guest.trouble(), "");
    assert_eq!(guest.kept("first").unwrap(), b"before everything");
    assert!(guest.kept(&format!("load-{}", last % 8)).unwrap() == content(last), "what was written last");
    with_sessions(&stand, "node1", 1);

    // The same from the volume itself.
    stand.rack().qemu_kill("node1").unwrap();
    stand.rack().ipmitool("node1", "chassis power on").unwrap();
    guest.booted(2);
    assert!(guest.kept(&format!("load-{}", last % 8)).unwrap() == content(last), "after a power cut");
    assert_eq!(guest.trouble(), "");
}

/// Octets that are like no other number's.
fn content(number: u32) -> Vec<u8> {
    (0..1u32 << 16).flat_map(|word| (word ^ number.wrapping_mul(0x9e37_79b9)).to_le_bytes()).collect()
}
