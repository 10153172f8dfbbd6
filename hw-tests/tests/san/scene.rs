//! A stand for one test, and what is asked of the appliance about volumes.

use control::VolumeView;
use hw_tests::artifact::{Flavour, Workshop, san};
use hw_tests::rack::{Description, Firmware, until};
use hw_tests::stand::{PATIENCE, Stand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::time::Duration;

/// A whole deployment under an emulated CPU, on a host that is busy with other tests.
pub(crate) const WHOLE: Duration = Duration::from_secs(420);
/// Something the appliance, or a running system, does by itself.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Where a test's files are: unprivileged services must get in, and they stay after a failure.
pub(crate) fn directory(test: &str) -> PathBuf {
    let directory = std::env::temp_dir().join("kiln-tests").join(format!("san-{test}"));
    println!("consoles, captures and logs are in {}", directory.display());
    directory
}

/// The image with a root file system.
pub(crate) fn image() -> PathBuf {
    san::image(&Workshop::open().unwrap(), Flavour::Cloud).unwrap().path
}

/// Nodes without disks.
pub(crate) fn diskless(nodes: u8, firmware: Firmware) -> Description {
    Description::of_nodes(nodes, firmware).unwrap().without_disks()
}

/// A stand whose appliance knows its networks, its switch, the image, and all nodes as available.
pub(crate) fn stand(test: &str, description: &Description) -> Stand {
    let stand = Stand::raise(description, &directory(test), PATIENCE).unwrap();
    stand.describe().unwrap();
    stand.kiln(&["image", "import", "tiny-san", &image().display().to_string()]).unwrap();
    for node in &description.nodes {
        stand.enroll(node.name.as_str()).unwrap();
    }
    stand
}

/// Begins a deployment from a volume.
pub(crate) fn deploy(stand: &Stand, node: &str, network: &str, more: &[&str]) {
    let words = ["node", "deploy", node, "--image", "tiny-san", "--network", network, "--interface", "san"];
    stand.kiln(&[&words, more, &["--no-wait"]].concat()).unwrap();
}

/// A volume as the appliance shows it.
pub(crate) fn volume(stand: &Stand, name: &str) -> VolumeView {
    stand.kiln_json(&["volume", "show", name]).unwrap()
}

pub(crate) fn volumes(stand: &Stand) -> Vec<VolumeView> {
    stand.kiln_json(&["volume", "list"]).unwrap()
}

/// The addresses from which a node is logged in to its volumes.
pub(crate) fn sessions(stand: &Stand, node: &str) -> Vec<String> {
    stand.node(node).unwrap().storage.map(|storage| storage.sessions).unwrap_or_default()
}

/// Waits until a node has so many sessions.
pub(crate) fn with_sessions(stand: &Stand, node: &str, many: usize) {
    until(SOON, &format!("{node} to be logged in {many} times"), || {
        Ok((sessions(stand, node).len() == many).then_some(()))
    })
    .unwrap();
}

/// A service that stands still until this is dropped: what it was to mend stays as it is meanwhile.
pub(crate) struct Still {
    pid: Pid,
}

impl Still {
    pub(crate) fn stand(stand: &Stand, service: &str) -> Still {
        let pid = Pid::from_raw(stand.service(service).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        Still { pid }
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        kill(self.pid, Signal::SIGCONT).ok();
    }
}

/// What the chassis of a node was told, one line each: `on, boot pxe`, `off`, `boot pxe`.
pub(crate) fn chassis(stand: &Stand, node: &str) -> Vec<String> {
    let log = stand.rack().directory().join("nodes").join(node).join("chassis.log");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(_, what)| what.to_owned()).collect()
}
