//! A box that nobody configured, and a person at its serial port.

use super::lone::{Lone, MAC, Start, TOKEN, flash, wipe_stick};
use super::{WHOLE, directory};
use control::StatusView;
use hw_tests::artifact::{Workshop, appliance};
use std::io::Write as _;

#[test]
fn a_box_without_a_configuration_takes_one_typed_at_its_console() {
    let folder = directory("image-menu");
    let _ = std::fs::remove_dir_all(&folder);
    let image = appliance::built(&Workshop::open().unwrap()).unwrap();
    let disk = flash(&image.disk, &folder);
    wipe_stick(&folder);
    let mut lone = Lone::start(&folder, &disk, Start::Bios);
    let mut person = lone.person();
    // Question, and the answer that the person gives.
    let talk = [
        ("This box has no configuration", None),
        ("Which is the uplink", Some("9")),
        ("is none of the 1 cards", Some(MAC)),
        ("[dhcp]:", Some("10.0.2.15/24")),
        ("gateway there [none]:", Some("10.0.2.2")),
        ("BMCs and switches [none]:", Some("")),
        ("nodes' switch [none]:", Some("")),
        ("API's token [one is made]:", Some(TOKEN)),
        ("start again with it [yes]:", Some("yes")),
        ("the configuration is kept", None),
    ];
    let mut heard = 0;
    for (question, answer) in talk {
        heard = lone.wait(WHOLE, &format!("{question:?} on the console"), |lone| {
            let said = lone.console();
            said.get(heard..)?.find(question).map(|at| heard + at + question.len())
        });
        if let Some(answer) = answer {
            person.write_all(format!("{answer}\r").as_bytes()).unwrap();
        }
    }
    lone.wait(WHOLE, "the box to serve as it was told", |lone| lone.json::<StatusView>(&["status"]).ok());
    let said = lone.console();
    assert!(said[heard..].contains("configured by /data/kiln.toml"), "{}", &said[heard..]);
    assert!(!said[heard..].contains("Which is the uplink"), "it asks no more");
}
