//! How much memory the box takes, and how long it takes to come up, beside the same kernel with nothing to do.

use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::Image;
use hw_tests::artifact::cpio::Archive;
use hw_tests::artifact::debian::Mirror;
use hw_tests::rack::{readable, until};
use hw_tests::shell::Shell;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The bound for a box at rest.
const MOST_MIB: u64 = 128;

/// Seconds since the kernel began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// It ran `/init`.
    init: f64,
    /// The slot's init ran its first program, which is ours: drivers were loaded, and the slot was found and mounted.
    slot: f64,
    /// All services were ready.
    ready: f64,
}

/// Reads when the box came up, on its own clock.
pub(crate) fn start(shell: &Shell) -> Start {
    let said = shell.run("dmesg | grep 'Run /init as init process'").unwrap();
    let init = said.split(['[', ']']).nth(1).unwrap().trim().parse().unwrap();
    let said = shell.run("cat /run/moments").unwrap();
    let slot =
        said.lines().find_map(|line| line.strip_suffix(" init")).unwrap().parse::<f64>().unwrap() / 100.0;
    let status: Value =
        serde_json::from_str(&shell.run("cat /run/kiln/services/status.json").unwrap()).unwrap();
    // proc(5): the 22nd field, in hundredths; the name before it is in parentheses.
    let stat = shell.run(&format!("cat /proc/{}/stat", status["supervisor"])).unwrap();
    let began: f64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    println!("start, by its parts: {}", shell.run("host status | grep '^  came up'").unwrap().trim());
    Start { init, slot, ready: began / 100.0 + status["all_ready"].as_f64().unwrap() / 1000.0 }
}

/// Memory that nobody could have, in MiB.
pub(crate) fn memory(shell: &Shell) -> u64 {
    let said = shell.run("cat /proc/meminfo").unwrap();
    let kib = |key: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    let used = (kib("MemTotal:") - kib("MemAvailable:")) / 1024;
    println!("memory: {used} MiB used by a box at rest, of {MOST_MIB} allowed");
    assert!(used <= MOST_MIB, "{used} MiB");
    used
}

/// A machine that is gone when this is.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Boots the image's kernel with its two archives and an `/init` that only tells the time: when it got there.
pub(crate) fn empty_init(workshop: &Workshop, image: &Image, folder: &Path) -> f64 {
    let root = folder.join("boot");
    let _ = fs::remove_dir_all(&root);
    let unsquashfs =
        Command::new("unsquashfs").args(["-q", "-n", "-d"]).arg(&root).arg(&image.slot).arg("boot").output();
    assert!(unsquashfs.unwrap().status.success());
    let mut initramfs =
        ["initramfs", "host.cpio"].map(|name| fs::read(root.join("boot").join(name)).unwrap()).concat();
    let mirror = Mirror::open(workshop).unwrap();
    let busybox = mirror.tree(&mirror.package("busybox-static").unwrap()).unwrap().join("bin/busybox");
    let mut empty = Archive::default();
    empty.file("busybox", fs::read(busybox).unwrap(), true);
    let text = "#!/busybox sh\n/busybox mount -t proc proc /proc\nread up idle </proc/uptime\necho \"EMPTY $up .\"\n/busybox sleep 1000\n";
    empty.file("empty", text.as_bytes().to_vec(), true);
    empty.write(&mut initramfs).unwrap();
    let whole = folder.join("empty.cpio");
    fs::write(&whole, initramfs).unwrap();
    let log = folder.join("empty.log");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "qemu64", "-nodefaults", "-no-user-config", "-display", "none"]);
    qemu.args([
        "-machine",
        "pc,graphics=off",
        "-m",
        "512",
        "-device",
        "virtio-rng-pci",
        "-device",
        "qemu-xhci",
    ]);
    qemu.arg("-kernel").arg(root.join("boot/kernel")).arg("-initrd").arg(&whole);
    qemu.args(["-append", "rdinit=/empty console=tty0 console=ttyS0,115200 quiet panic=10"]);
    qemu.arg("-serial").arg(format!("file:{}", log.display()));
    let machine =
        Machine(qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let empty = until(Duration::from_secs(120), "a kernel with an empty init", || {
        let said = readable(&fs::read(&log).unwrap_or_default());
        let words: Vec<&str> = said.split_once("EMPTY ").map_or("", |(_, rest)| rest).split(' ').collect();
        Ok(words.get(1).and_then(|_| words[0].parse::<f64>().ok()))
    });
    drop(machine);
    empty.unwrap()
}

/// Prints how long the box took, at its first start and a later one, beside the kernel with an empty init.
pub(crate) fn show(starts: &[Start], empty: f64) {
    for (Start { init, slot, ready }, which) in starts.iter().zip(["first", "later"]) {
        let (more, times, own, services) = (ready - empty, ready / empty, ready - init, ready - slot);
        println!(
            "start, {which}: /init after {init:.1} s, all services ready after {ready:.1} s: {own:.1} s, of which \
             {services:.1} s from the slot's init on; an empty init after {empty:.1} s: {more:.1} s more, {times:.2} times"
        );
    }
}
