//! A stand for one test, its nodes enrolled and its image imported.

use control::NodeView;
use deploy::Patience;
use hw_tests::artifact::{Flavour, Greeting, Workshop, tiny};
use hw_tests::rack::{Description, Firmware, reach, until};
use hw_tests::stand::Stand;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// A whole deployment under an emulated CPU, on a host that is busy with other tests.
pub(crate) const WHOLE: Duration = Duration::from_secs(420);
/// Something the appliance does by itself.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Where a test's files are: unprivileged services must get in, and they stay after a failure.
pub(crate) fn directory(test: &str) -> PathBuf {
    let directory = std::env::temp_dir().join("kiln-tests").join(test);
    println!("consoles, captures and logs are in {}", directory.display());
    directory
}

/// The tiny image.
pub(crate) fn image() -> PathBuf {
    tiny::image(&Workshop::open().unwrap(), Flavour::Cloud).unwrap().path
}

/// A stand whose appliance knows its networks, its switch and the tiny image.
pub(crate) fn stand(test: &str, nodes: u8, firmware: Firmware, patience: Patience) -> Stand {
    described(test, &Description::of_nodes(nodes, firmware).unwrap(), patience)
}

/// The same for a description of the test's own.
pub(crate) fn described(test: &str, description: &Description, patience: Patience) -> Stand {
    let stand = Stand::raise(description, &directory(test), patience).unwrap();
    stand.describe().unwrap();
    stand.kiln(&["image", "import", "tiny", &image().display().to_string()]).unwrap();
    stand
}

/// Begins a deployment with the tiny image.
pub(crate) fn deploy(stand: &Stand, node: &str, network: &str) {
    stand.kiln(&["node", "deploy", node, "--image", "tiny", "--network", network, "--no-wait"]).unwrap();
}

/// Waits until a deployment is done, and the node greets its tenant with its name.
pub(crate) fn active(stand: &Stand, node: &str, network: &str) -> NodeView {
    let view = stand.wait_state(node, "active", WHOLE).unwrap();
    let address = view.address.unwrap();
    let (tenant, _) = stand.rack().tenant(network).unwrap();
    let said = until(SOON, &format!("{node} to greet its tenant"), || {
        Ok(reach(tenant, SocketAddrV4::new(address, 80)).ok().filter(|said| !said.is_empty()))
    });
    let greeting: Greeting = said.unwrap().parse().unwrap();
    assert_eq!(greeting.host, node);
    assert_eq!(greeting.address, address);
    view
}

/// Waits until a deployment has failed and the node is at rest, and returns how.
pub(crate) fn failed(stand: &Stand, node: &str) -> NodeView {
    until(WHOLE, &format!("{node} to have failed"), || {
        let Ok(view) = stand.node(node) else { return Ok(None) };
        assert_ne!(view.provision_state.to_string(), "active", "it was to fail");
        Ok((view.step.is_none() && view.failure.is_some()).then_some(view))
    })
    .unwrap()
}

/// Waits until a node's journey is at a step.
pub(crate) fn at_step(stand: &Stand, node: &str, step: &str) {
    until(WHOLE, &format!("{node} to be at {step}"), || {
        let Ok(view) = stand.node(node) else { return Ok(None) };
        Ok(view.step.filter(|at| at.step.to_string() == step).map(drop))
    })
    .unwrap();
}

/// What the chassis of a node was told, one line each: `on, boot pxe`, `off`, `boot pxe`.
pub(crate) fn chassis(stand: &Stand, node: &str) -> Vec<String> {
    let log = stand.rack().directory().join("nodes").join(node).join("chassis.log");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(_, what)| what.to_owned()).collect()
}
