//! Whatever happens to the one who raised a rack, nothing of it stays.

use crate::stage::{PATIENCE, directory, rack, tell};
use hw_tests::rack::{Description, Firmware, VirtualRack, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Processes that were started with this directory in their arguments, and namespaces of this process.
fn traces(directory: &Path, pid: u32) -> Vec<String> {
    let entries = |of: &str| fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path());
    let here = directory.to_str().unwrap();
    let mut found: Vec<String> = entries("/proc")
        .filter_map(|process| {
            Some(String::from_utf8_lossy(&fs::read(process.join("cmdline")).ok()?).replace('\0', " "))
        })
        .filter(|line| line.contains(here))
        .collect();
    let ours = |name: &str| name.starts_with(&format!("k{pid}-")) || name.starts_with(&format!("k{pid}x"));
    let names = entries("/run/netns").filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    // Other tests of this process have racks of their own.
    if pid != std::process::id() {
        found.extend(names.filter(|name| ours(name)));
    }
    found
}

#[test]
fn drop_leaves_no_process_and_no_namespace() {
    let rack = rack("drop", 2, Firmware::Bios);
    let directory = rack.directory().to_owned();
    let namespaces: Vec<_> =
        [rack.kiln(), rack.switch(), rack.tenant("tenant-1").unwrap().0, rack.tenant("tenant-2").unwrap().0]
            .map(|namespace| Path::new("/run/netns").join(namespace.name()))
            .to_vec();
    for node in ["node1", "node2"] {
        tell(&rack, node, "chassis power on");
    }
    let mut lodger = rack.kiln().spawn(Command::new("sleep").arg("600")).unwrap();
    let _capture = rack.capture("prov").unwrap();
    let running = traces(&directory, std::process::id());
    assert!(running.iter().filter(|line| line.contains("qemu-system")).count() >= 2, "{running:?}");
    assert!(namespaces.iter().all(|namespace| namespace.exists()));

    drop(rack);
    assert_eq!(traces(&directory, std::process::id()), Vec::<String>::new());
    assert!(!namespaces.iter().any(|namespace| namespace.exists()));
    // TAPs and veths live in namespaces, so none can be left in this one.
    let links =
        fs::read_dir("/sys/class/net").unwrap().map(|link| link.unwrap().file_name().into_string().unwrap());
    assert!(
        !links.collect::<Vec<_>>().iter().any(|link| link.starts_with("node") || link.starts_with("kiln-"))
    );
    assert!(!lodger.wait().unwrap().success(), "what ran in the appliance's place ends with the rack");
}

/// The program `virtual-rack up`, with a node on.
fn up(test: &str) -> (Child, std::path::PathBuf) {
    let directory = directory(test);
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-rack"));
    command.args(["up", "--nodes", "1", "--dir"]).arg(&directory).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    while !said.contains("another machine on tenant-2") {
        assert!(std::io::BufRead::read_line(&mut out, &mut said).unwrap() > 0, "it ended: {said}");
    }
    let control = env!("CARGO_BIN_EXE_chassis");
    let node = directory.join("nodes/node1");
    let namespace = format!("k{}-sw", child.id());
    let mut on = Command::new("ip");
    on.args(["netns", "exec", &namespace, control, "control"]).arg(node);
    assert!(on.args(["set", "power", "1"]).status().unwrap().success());
    assert!(traces(&directory, child.id()).iter().any(|line| line.contains("qemu-system")));
    (child, directory)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn ctrl_c_removes_the_rack_before_the_program_ends() {
    let (mut child, directory) = up("ctrl-c");
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut left = traces(&directory, child.id());
    // The guard ends when it sees that its ward did.
    left.retain(|line| !line.contains("guard"));
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_rack_whose_program_is_killed_is_removed_by_its_guard() {
    let (mut child, directory) = up("killed");
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || Ok(traces(&directory, child.id()).is_empty().then_some(()));
    until(PATIENCE, "the guard to remove the rack", gone).unwrap();
}

#[test]
fn a_rack_whose_program_and_guard_are_killed_is_removed_by_the_next() {
    let (mut child, directory) = up("orphan");
    let guard = fs::read_dir("/proc").unwrap().filter_map(|process| {
        let process = process.unwrap();
        let line = fs::read_to_string(process.path().join("cmdline")).ok()?;
        let ours = line.contains("guard\0") && line.contains(directory.to_str()?);
        ours.then(|| process.file_name().to_str()?.parse::<i32>().ok()).flatten()
    });
    let guards: Vec<i32> = guard.collect();
    assert_eq!(guards.len(), 1);
    kill(Pid::from_raw(guards[0]), Signal::SIGKILL).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!traces(&directory, child.id()).is_empty(), "nobody was there to remove it");
    drop(VirtualRack::raise(&Description::of_nodes(1, Firmware::Bios).unwrap(), &directory).unwrap());
    assert_eq!(traces(&directory, child.id()), Vec::<String>::new());
}

#[test]
fn a_directory_with_a_rack_in_it_is_not_taken() {
    let first = rack("taken", 1, Firmware::Bios);
    let second = VirtualRack::raise(first.description(), first.directory());
    let said = format!("{:#}", second.unwrap_err());
    assert!(said.contains("another directory") && !said.contains('\n'), "{said}");
    tell(&first, "node1", "chassis power status");
}
