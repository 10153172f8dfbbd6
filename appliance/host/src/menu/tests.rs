#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::config::Address;

fn dialog() -> Dialog {
    let card = |number: u8| Card {
        name: format!("eth{number}"),
        mac: format!("52:54:00:00:00:0{number}"),
        carrier: number == 0,
    };
    Dialog::new((0..3).map(card).collect(), "0123456789abcdef0123456789abcdef".to_owned())
}

/// Answers one after the other, all of which are taken.
fn say(dialog: &mut Dialog, lines: &[&str]) {
    for line in lines {
        assert_eq!(dialog.handle_line(line), Ok(()), "{line:?} to {:?}", dialog.prompt());
    }
}

#[test]
fn the_least_there_is_to_say_is_a_card() {
    let mut dialog = dialog();
    say(&mut dialog, &["1", "", "", "", "", ""]);
    let config = Config::parse(&dialog.kept().unwrap()).unwrap();
    assert_eq!(config.uplink.address, Address::Dhcp);
    assert_eq!(config.api.token.unwrap().expose(), "0123456789abcdef0123456789abcdef");
    assert_eq!((config.oob, config.trunk), (None, None));
}

#[test]
fn a_whole_rack_can_be_typed() {
    let mut dialog = dialog();
    let token = "a-token-of-the-operator-s-own-making";
    say(&mut dialog, &["eth0", "192.0.2.10/24", "192.0.2.1", "2", "10.8.0.1/24", "52:54:00:00:00:02"]);
    say(&mut dialog, &["prov 100 10.7.0.1/24", "tenant-1 201 10.21.0.1/24", "", token]);
    assert!(dialog.prompt().contains("vlan = 201"), "{}", dialog.prompt());
    assert_eq!(dialog.kept(), None);
    say(&mut dialog, &["yes"]);
    let config = Config::parse(&dialog.kept().unwrap()).unwrap();
    assert_eq!(config.networks.len(), 2);
    assert_eq!(config.uplink.gateway, Some([192, 0, 2, 1].into()));
    assert_eq!(config.api.token.unwrap().expose(), token);
}

#[test]
fn what_is_no_answer_is_asked_again_with_the_reason() {
    let mut dialog = dialog();
    let mut refused = |taken: &[&str], line: &str, reason: &str| {
        say(&mut dialog, taken);
        let before = dialog.prompt();
        let why = dialog.handle_line(line).unwrap_err();
        assert!(why.contains(reason), "{line:?}: {why}");
        assert_eq!(dialog.prompt(), before);
    };
    refused(&[], "", "none of the 3 cards");
    refused(&[], "7", "none of the 3 cards");
    refused(&[], "0", "none of the 3 cards");
    refused(&[], "eth\u{e9}", "ASCII");
    refused(&["1"], "192.0.2.300/24", "192.0.2.10/24");
    refused(&["192.0.2.10/24"], "gate", "gate");
    refused(&["none"], "1", "another part");
    refused(&["2"], "", "");
    refused(&["10.8.0.1/24"], "2", "another part");
    refused(&["3", "prov 100 10.7.0.1/24"], "prov 101 10.9.0.1/24", "prov");
    refused(&[], "x 5000 10.9.0.1/24", "5000");
    refused(&[""], "short", "");
}

#[test]
fn whoever_says_no_begins_anew() {
    let mut dialog = dialog();
    say(&mut dialog, &["1", "", "", "", "", "no"]);
    assert!(dialog.prompt().starts_with("The cards of this box"));
    assert_eq!(dialog.kept(), None);
}

#[test]
fn no_line_can_write_into_the_configuration_what_was_not_asked() {
    let mut dialog = dialog();
    say(&mut dialog, &["1"]);
    let why = dialog.handle_line("192.0.2.10/24\"\n[api]\nport = 1\n#").unwrap_err();
    assert!(why.contains("ASCII"), "{why}");
    assert!(dialog.handle_line("192.0.2.10/24\" #").is_err());
}
