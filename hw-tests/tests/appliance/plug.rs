//! What is plugged into a box that runs: the stick with its first configuration, and its card.

use super::lone::{Lone, MAC, NIC, STICK, Start, flash};
use super::{WHOLE, directory};
use control::{ApplianceView, StatusView};
use hw_tests::artifact::{Workshop, appliance};

#[test]
fn a_box_takes_a_stick_that_is_put_in_and_serves_on_by_a_card_that_comes_back() {
    let folder = directory("image-plug");
    let _ = std::fs::remove_dir_all(&folder);
    let disk = flash(&appliance::built(&Workshop::open().unwrap()).unwrap().disk, &folder);
    let mut lone = Lone::start(&folder, &disk, Start::Bare);
    let heard = |lone: &mut Lone, words: &str| {
        lone.wait(WHOLE, &format!("{words:?} on the console"), |lone| {
            lone.console().contains(words).then_some(())
        });
    };
    heard(&mut lone, "This box has no configuration");
    lone.hands(&format!("device_add {STICK}"));
    heard(&mut lone, "takes the configuration /dev/sda/kiln.toml");
    lone.wait(WHOLE, "the box to serve as the stick says", |lone| lone.json::<StatusView>(&["status"]).ok());
    assert!(lone.console().contains("configured by /data/kiln.toml"));

    lone.hands("device_del nic");
    heard(&mut lone, &format!("no interface is {MAC}, for uplink"));
    lone.hands(&format!("device_add {NIC}{MAC}"));
    heard(&mut lone, "the network is another: the services begin again");
    let view: ApplianceView = lone.wait(WHOLE, "the box to serve again", |lone| {
        // What a service said before it was ended is no answer.
        lone.json::<ApplianceView>(&["appliance", "show"]).ok().filter(|view| view.box_.is_some())
    });
    assert_eq!(view.box_.unwrap().troubles, [""; 0]);
}
