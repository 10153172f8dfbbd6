use super::*;

const GUID: &str = "6b696c6e-0000-4000-8000-000000000003";

#[test]
fn the_command_line_names_the_slot_and_the_last_word_counts() {
    let named = Named::read(&format!("quiet kiln.slot=B kiln.root=x kiln.root={}", GUID.to_uppercase()));
    assert_eq!(named.unwrap(), Named { slot: "B".into(), root: GUID.parse().unwrap(), verity: None });
    let hash = "ab".repeat(32);
    let named = Named::read(&format!("kiln.slot=A kiln.root={GUID} kiln.verity={hash}")).unwrap();
    assert_eq!(named.verity.unwrap().as_str(), hash);
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let table = [
        ("", "kiln.slot= on the kernel command line is \"\", not A or B"),
        ("kiln.slot=C", "kiln.slot= on the kernel command line is \"C\", not A or B"),
        ("kiln.slot=A", "kiln.root= is not on the kernel command line"),
        ("kiln.slot=A kiln.root=sda3", "kiln.root=sda3 is not a partition's GUID"),
    ];
    for (cmdline, expected) in table {
        assert_eq!(Named::read(cmdline).unwrap_err().to_string(), expected);
    }
    let short = format!("kiln.slot=A kiln.root={GUID} kiln.verity=abcd");
    assert_eq!(Named::read(&short).unwrap_err().to_string(), "kiln.verity=abcd is not a hash of 64 digits");
}

fn slot(damage: impl FnOnce(&mut Vec<u8>)) -> Result<Seal> {
    let mut octets = vec![0; 4096 * 4];
    octets[..4].copy_from_slice(b"hsqs");
    octets[40..48].copy_from_slice(&5000u64.to_le_bytes());
    let text = format!("kiln-seal 1\ndata-blocks 2\nroot {}\nsalt 00\nversion 1\n", "ab".repeat(32));
    octets[8192..8192 + text.len()].copy_from_slice(text.as_bytes());
    damage(&mut octets);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), octets).unwrap();
    let place = Place { device: file.path().into(), number: "7:0".into(), disk: file.path().into() };
    let named = Named {
        slot: "A".into(),
        root: GUID.parse().unwrap(),
        verity: Some("cd".repeat(32).parse().unwrap()),
    };
    seal(&place, &named)
}

#[test]
fn the_root_hash_of_the_command_line_overrules_the_seals() {
    let seal = slot(|_| ()).unwrap();
    assert_eq!((seal.data_blocks, seal.root.as_str()), (2, "cd".repeat(32).as_str()));
}

#[test]
fn a_slot_that_is_damaged_or_ends_too_soon_is_refused_with_words() {
    let refused = |damage: fn(&mut Vec<u8>)| format!("{:#}", slot(damage).unwrap_err());
    assert!(refused(|octets| octets[0] = 0).ends_with("is damaged: no squashfs is at its beginning"));
    assert!(refused(|octets| octets[8192] = 0).ends_with("is damaged: no seal is behind its squashfs"));
    assert!(refused(|octets| octets.truncate(9000)).contains("it ends before its seal"));
    assert!(refused(|octets| octets[40..48].fill(0xff)).contains("is damaged"));
    assert!(refused(|octets| octets.truncate(10)).contains("cannot be read"));
}

#[test]
fn what_the_initramfs_found_is_said_in_words_as_on_a_command_line() {
    let hash = "ab".repeat(32);
    let cmdline = format!("kiln.slot=loader kiln.verity={hash}\n");
    assert!(Named::read(&cmdline).is_err(), "it names no slot");
    let named = Named::read(&format!("{cmdline} kiln.slot=B kiln.root={GUID}")).unwrap();
    assert_eq!((named.slot.as_str(), named.root.to_string().as_str()), ("B", GUID));
    assert_eq!(named.verity.unwrap().as_str(), hash);
}
