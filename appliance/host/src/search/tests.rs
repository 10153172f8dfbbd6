use super::*;

fn found(name: &str, text: &str) -> Option<Found> {
    Some(Found { file: name.into(), text: text.to_owned(), config: Config::parse(text) })
}

fn good(name: &str, serial: u64) -> Option<Found> {
    found(name, &format!("serial = {serial}\n[uplink]\ndevice = \"eth0\"\naddress = \"dhcp\"\n"))
}

fn bad(name: &str) -> Option<Found> {
    found(name, "serial = 9\n")
}

#[test]
fn a_mediums_configuration_counts_when_it_is_good_and_newer() {
    let names = |choice: Choice| {
        let name = |found: Option<Found>| found.map(|found| found.file.display().to_string());
        (name(choice.found), choice.is_new, name(choice.refused))
    };
    let some = |name: &str| Some(name.to_owned());
    let table = [
        ((None, None, None), (None, false, None)),
        ((good("kept", 0), None, None), (some("kept"), false, None)),
        ((None, None, good("medium", 0)), (some("medium"), true, None)),
        ((good("kept", 1), None, good("medium", 1)), (some("kept"), false, None)),
        ((good("kept", 1), None, good("medium", 2)), (some("medium"), true, None)),
        ((good("kept", 3), None, good("medium", 2)), (some("kept"), false, None)),
        // The last good one stays.
        ((good("kept", 1), None, bad("medium")), (some("kept"), false, some("medium"))),
        ((bad("kept"), good("last", 1), None), (some("last"), false, some("kept"))),
        ((bad("kept"), good("last", 1), good("medium", 2)), (some("medium"), true, some("kept"))),
        ((bad("kept"), None, None), (None, false, some("kept"))),
        ((bad("kept"), None, good("medium", 0)), (some("medium"), true, some("kept"))),
        ((None, good("last", 1), None), (some("last"), false, None)),
    ];
    for ((kept, last, medium), expected) in table {
        assert_eq!(names(choose(kept, last, medium)), expected);
    }
}

#[test]
fn what_is_refused_is_said_with_file_and_line_and_what_was_in_force_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let text = good("", 4).unwrap().text;
    fs::write(data.path().join(NAME), &text).unwrap();
    let (found, configuration, troubles) = search(data.path(), None, None);
    assert_eq!((found.unwrap().text, configuration.serial, troubles.len()), (text.clone(), Some(4), 0));
    fs::write(data.path().join(NAME), "serial = x").unwrap();
    let (found, configuration, troubles) = search(data.path(), None, None);
    assert_eq!((found.unwrap().text, configuration.serial), (text, Some(4)));
    assert!(troubles[0].contains("kiln.toml: line 1: "), "{troubles:?}");
}

#[test]
fn the_copy_beside_the_boot_loader_is_a_configuration_without_the_token() {
    let text = "[uplink]\ndevice = \"52:54:00:aa:00:01\"\naddress = \"192.0.2.10/24\"\n\n[api]\ntoken = \"0123456789abcdef0123456789abcdef\"\n";
    let whole = Config::parse(text).unwrap();
    assert!(whole.api.token.is_some());
    let spare = without_secrets(text).unwrap();
    assert!(!spare.contains("0123456789abcdef"), "{spare}");
    let config = Config::parse(&spare).unwrap();
    assert!(config.api.token.is_none());
    assert_eq!(config.uplink, whole.uplink);
    assert_eq!(without_secrets("no toml"), None);
}
