//! An uplink whose DHCP server, QEMU's, gives an address that another network of the box has.

use super::lone::{Lone, MAC, Start, configure, flash};
use super::{WHOLE, directory};
use hw_tests::artifact::{Workshop, appliance};

#[test]
fn a_lease_that_lies_over_another_network_is_refused_and_said() {
    let folder = directory("image-lease");
    let _ = std::fs::remove_dir_all(&folder);
    let disk = flash(&appliance::built(&Workshop::open().unwrap()).unwrap().disk, &folder);
    let oob = "[oob]\ndevice = \"eth9\"\naddress = \"10.0.2.77/24\"\n";
    configure(&folder, &format!("[uplink]\ndevice = \"{MAC}\"\naddress = \"dhcp\"\n{oob}"));
    let mut lone = Lone::start(&folder, &disk, Start::Bios);
    let words = "WRONG     the uplink's DHCP server offers 10.0.2.15/24, which overlaps 10.0.2.77/24 of oob";
    lone.wait(WHOLE, &format!("{words:?} on the console"), |lone| {
        lone.console().contains(words).then_some(())
    });
    assert!(lone.console().contains("API       http://127.0.0.1:8080"), "{}", lone.console());
}
