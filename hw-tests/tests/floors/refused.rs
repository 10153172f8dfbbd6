//! Made-up houses with a fault each: a judge that lets one pass proves nothing.

use crate::drawing;
use crate::house::{House, Import, Member, Source, blanked, without_tests};
use crate::judge;

fn member(directory: &str, floor: i64, imports: &[&str]) -> Member {
    let name = directory.rsplit('/').next().unwrap().to_owned();
    let imports = imports.iter().map(|name| Import { name: (*name).to_owned(), dev: false }).collect();
    Member { name, directory: directory.to_owned(), floor: Some(floor), imports }
}

fn crates(members: &[Member]) -> House {
    House { members: members.to_vec(), ..House::default() }
}

fn file(path: &str, text: &str) -> House {
    House { files: vec![Source::new(path, text)], ..crates(&[member("appliance/rack", 1, &[])]) }
}

/// Exactly these words stand in exactly one fault.
fn one(faults: &[String], words: &[&str]) {
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(words.iter().all(|word| faults[0].contains(word)), "{faults:?} lacks one of {words:?}");
}

#[test]
fn an_import_to_the_same_or_a_higher_floor_is_refused() {
    let down = [member("appliance/control", 4, &["rack"]), member("appliance/rack", 1, &[])];
    assert_eq!(judge::imports_go_down(&crates(&down)), Vec::<String>::new());
    let sideways = [member("appliance/power", 3, &["switch"]), member("appliance/switch", 3, &[])];
    one(&judge::imports_go_down(&crates(&sideways)), &["power", "switch"]);
    let up = [member("appliance/rack", 1, &["control"]), member("appliance/control", 4, &[])];
    one(&judge::imports_go_down(&crates(&up)), &["rack on floor 1", "control on floor 4"]);
}

#[test]
fn an_import_for_tests_goes_up_from_the_roof_only() {
    let for_tests = |directory: &str| {
        let mut low = member(directory, 1, &["control"]);
        low.imports[0].dev = true;
        judge::imports_go_down(&crates(&[low, member("appliance/control", 4, &[])]))
    };
    assert_eq!(for_tests("hw-tests"), Vec::<String>::new());
    one(&for_tests("appliance/rack"), &["rack"]);
}

#[test]
fn a_boot_service_that_imports_the_appliance_is_refused() {
    let house = [member("boot-services/bootd", 3, &["rack"]), member("appliance/rack", 1, &[])];
    one(&judge::boot_services_stand_alone(&crates(&house)), &["bootd", "rack"]);
}

#[test]
fn an_outside_crate_without_a_reason_is_refused_below_floor_3_only() {
    let faults = |floor| {
        let house = crates(&[member("appliance/deploy", floor, &["tokio"])]);
        let mut faults = judge::pure_floors_import_pure_crates(&house);
        faults.retain(|fault| !fault.contains("no pure floor imports it"));
        faults
    };
    one(&faults(2), &["deploy", "tokio"]);
    assert_eq!(faults(3), Vec::<String>::new());
}

#[test]
fn a_file_or_a_clock_below_floor_3_is_refused_and_in_its_tests_not() {
    let faults = |path, text| judge::pure_floors_touch_nothing(&file(path, text));
    one(&faults("appliance/rack/src/lib.rs", "use std::fs;\n"), &["lib.rs:1", "std::fs"]);
    one(&faults("appliance/rack/src/lib.rs", "\nlet now = Instant::now();"), &["lib.rs:2"]);
    assert!(faults("appliance/rack/src/lib.rs", "#[cfg(test)]\nmod tests { use std::fs; }").is_empty());
    assert!(faults("appliance/power/src/lib.rs", "use std::fs;").is_empty());
}

#[test]
fn a_crate_without_a_floor_or_under_another_name_is_refused() {
    let mut lost = member("appliance/rack", 1, &[]);
    lost.floor = None;
    one(&judge::crates_are_where_their_names_say(&crates(&[lost])), &["appliance/rack", "floor"]);
    let mut other = member("appliance/rack", 1, &[]);
    other.name = "racks".to_owned();
    one(&judge::crates_are_where_their_names_say(&crates(&[other])), &["racks"]);
}

#[test]
fn a_manifest_is_read_with_its_floor_and_every_kind_of_import() {
    let text = "[package]\nname = \"a\"\n[package.metadata]\nfloor = 2\n[dependencies]\nb.workspace = true\n\
                c = { package = \"d\", version = \"1\" }\n[dev-dependencies]\ne = \"1\"\n\
                [target.'cfg(unix)'.dependencies]\nf = \"1\"\n";
    let member = Member::read("appliance/a/Cargo.toml", text);
    let mut imports: Vec<(&str, bool)> = member.imports.iter().map(|i| (i.name.as_str(), i.dev)).collect();
    imports.sort_unstable();
    assert_eq!((member.floor, member.directory.as_str()), (Some(2), "appliance/a"));
    assert_eq!(imports, [("b", false), ("d", false), ("e", true), ("f", false)]);
}

#[test]
fn a_name_that_says_nothing_is_refused() {
    one(&judge::names_are_nouns(&crates(&[member("appliance/net-utils", 1, &[])])), &["net-utils"]);
    one(&judge::names_are_nouns(&file("appliance/rack/src/helpers.rs", "")), &["helpers"]);
}

#[test]
fn a_stranger_at_the_top_is_refused_and_what_is_missing_is_named() {
    let top = |names: &[&str]| House {
        top: names.iter().map(|name| (*name).to_owned()).collect(),
        ..House::default()
    };
    let all =
        ["Cargo.toml", "README.md", "appliance", "boot-services", "buildroot-config", "hw-tests", "rootfs"];
    let hidden = [&all[..], &[".ci", "Cargo.lock", "LICENSE"]].concat();
    assert_eq!(judge::the_top_is_as_designed(&top(&hidden)), Vec::<String>::new());
    one(&judge::the_top_is_as_designed(&top(&[&all[..], &["docs"]].concat())), &["docs"]);
    one(&judge::the_top_is_as_designed(&top(&all[1..])), &["Cargo.toml"]);
}

#[test]
fn sled_outside_of_the_store_is_refused() {
    assert!(judge::only_the_store_knows_sled(&crates(&[member("appliance/store", 3, &["sled"])])).is_empty());
    one(
        &judge::only_the_store_knows_sled(&crates(&[member("appliance/control", 4, &["sled"])])),
        &["control"],
    );
}

#[test]
fn a_package_from_another_registry_is_refused() {
    let lock = "source = \"git+https://forge.example/a\"\n";
    one(&judge::the_lock_knows_one_registry(&file("Cargo.lock", lock)), &["forge.example"]);
    let two = "source = \"registry+https://a.example\"\nsource = \"registry+https://b.example\"\n";
    assert_eq!(judge::the_lock_knows_one_registry(&file("Cargo.lock", two)).len(), 2);
}

#[test]
fn a_source_of_801_lines_is_refused() {
    assert!(judge::sources_are_short(&file("appliance/rack/src/lib.rs", &"\n".repeat(800))).is_empty());
    one(&judge::sources_are_short(&file("appliance/rack/src/lib.rs", &"\n".repeat(801))), &["801"]);
}

#[test]
fn an_unwrap_is_refused_outside_tests_comments_and_strings() {
    let faults = |text| judge::nothing_unwraps_outside_tests(&file("appliance/rack/src/lib.rs", text));
    one(&faults("fn a() {}\nfn b() { c().unwrap(); }"), &["lib.rs:2"]);
    assert!(faults("// a.unwrap()\n/* b.unwrap() */ const C: &str = \"c.unwrap()\";").is_empty());
    assert!(faults("#[cfg(test)]\nmod tests {\n fn a() { b[\"}\"].unwrap() }\n}").is_empty());
    one(&faults("#[cfg(test)]\nfn a() { b().unwrap() }\nfn c() { d().unwrap() }"), &["lib.rs:3"]);
    let tests = file("appliance/rack/src/lib/tests.rs", "fn a() { b().unwrap() }");
    assert_eq!(judge::nothing_unwraps_outside_tests(&tests).len(), 1, "nobody says that it is a test");
    let mut house = file("appliance/rack/src/node.rs", "#[cfg(test)]\nmod tests;");
    house.files.push(Source::new("appliance/rack/src/node/tests.rs", "fn a() { b().unwrap() }"));
    assert!(judge::nothing_unwraps_outside_tests(&house).is_empty());
}

#[test]
fn a_clock_that_is_read_without_a_reason_is_refused() {
    let faults = |text| judge::clocks_are_read_with_a_reason(&file("appliance/power/src/hand.rs", text));
    one(&faults("use std::time::{Duration, Instant};\nlet a = Instant::now();"), &["hand.rs:2"]);
    one(&faults("let a = SystemTime::now();"), &["hand.rs:1"]);
    one(&faults("fn a() {\n    std::thread::sleep(b);\n}"), &["hand.rs:2"]);
    assert!(
        faults(
            "#[allow(clippy::disallowed_methods, reason = \"a driver\")]\nlet a = std::time::Instant::now();"
        )
        .is_empty()
    );
    assert!(faults("use tokio::time::{Instant, sleep_until};\nlet a = Instant::now();").is_empty());
}

#[test]
fn an_exception_without_a_reason_is_refused() {
    let faults = |text| judge::every_allow_has_a_reason(&file("appliance/rack/src/lib.rs", text));
    one(&faults("\n#[allow(dead_code)]\nfn a() {}"), &["lib.rs:2"]);
    one(&faults("#[ignore]\nfn a() {}"), &["ignore"]);
    assert!(faults("#[allow(dead_code, reason = \"b\")]\n#[ignore = \"c\"]\nfn a() {}").is_empty());
}

#[test]
fn unsafe_code_without_its_two_comments_is_refused() {
    let faults = |text| judge::unsafe_code_is_justified(&file("appliance/rack/src/lib.rs", text));
    one(&faults("// SAFETY: b\nunsafe { a() }"), &["lib.rs"]);
    assert!(faults("// SAFETY: b\n// JUSTIFICATION: c\nunsafe { a() }").is_empty());
}

#[test]
fn a_note_of_what_is_left_to_do_is_refused() {
    let note = concat!("// TO", "DO: more\n");
    one(&judge::nothing_is_left_to_do(&file("appliance/rack/src/lib.rs", note)), &["lib.rs:1"]);
}

#[test]
fn a_place_on_somebodys_machine_is_refused_and_one_inside_a_path_not() {
    let faults = |text: &str| judge::no_file_names_somebodys_machine(&file("rootfs/README.md", text));
    one(&faults(concat!("see /ho", "me/ann/kiln")), &["rootfs/README.md:1"]);
    one(&faults(concat!("\"/wo", "rk/kiln\"")), &["rootfs/README.md:1"]);
    assert!(faults(concat!("target/wo", "rk/kiln https://example.org/ho", "me/ann")).is_empty());
}

#[test]
fn a_promise_without_a_test_that_exists_is_refused() {
    let faults = |promise: &str| {
        let mut house =
            file("README.md", &format!("## Promises\n\n{promise}\n\n## Other\n\n2. no promise\n"));
        house
            .files
            .push(Source::new("appliance/rack/tests/a.rs", "#[test]\nfn it_holds() {}\nfn it_does_not() {}"));
        judge::every_promise_names_its_test(&house)
    };
    assert!(faults("1. It holds.\n   Kept by `it_holds`.").is_empty());
    assert!(faults("1. It will hold. Pending.").is_empty());
    one(&faults("1. It holds."), &["promise 1"]);
    one(&faults("1. It holds. Kept by `it_does_not`."), &["it_does_not"]);
    one(&faults("1. It holds. Kept by `it_holds`, `it_is_gone`."), &["it_is_gone"]);
    one(&faults("None."), &["no numbered list"]);
}

#[test]
fn the_picture_has_a_row_for_each_floor_and_is_put_between_its_marks() {
    let house = [
        member("appliance/control", 1, &[]),
        member("boot-services/tftp", 1, &[]),
        member("boot-services/boot", 0, &[]),
    ];
    let drawing = drawing::drawing(&crates(&house));
    let rows: Vec<&str> = drawing.lines().collect();
    assert_eq!(rows[0], "```text");
    assert_eq!(rows[1].split_whitespace().take(3).collect::<Vec<_>>(), ["1", "control", "tftp"]);
    assert_eq!(rows[2].split_whitespace().take(2).collect::<Vec<_>>(), ["0", "boot"]);
    assert_eq!(rows[1].find("tftp"), rows[2].find("boot"), "boot services stand below one another");
    let text = format!("a\n{}\nold\n{}\nb\n", drawing::BEGIN, drawing::END);
    let redrawn = drawing::redrawn(&text, &drawing).unwrap();
    assert_eq!(drawing::between(&redrawn), Some(drawing.as_str()));
    assert!(redrawn.starts_with("a\n") && redrawn.ends_with("b\n") && !redrawn.contains("old"));
}

#[test]
fn blanking_keeps_lines_and_braces_and_takes_comments_strings_and_characters() {
    let text = "a // {\nb /* { /* { */ { */ c \"{\\\"{\" d '{' e '\\'' f r#\"{\"{\"# g &'a h b\"{\" r#type {";
    let blank = blanked(text);
    let words: Vec<&str> = blank.split_whitespace().collect();
    assert_eq!(words, ["a", "b", "c", "d", "e", "f", "g", "&'a", "h", "b", "r#type", "{"]);
    assert_eq!(blank.lines().count(), 2);
}

#[test]
fn what_is_for_tests_only_is_left_out_to_its_last_brace() {
    let code = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nimpl C {\n fn d(e: [u8; 4]) { f }\n}\ng\n";
    let left = without_tests(code);
    let words: Vec<&str> = left.split_whitespace().collect();
    assert_eq!(words, ["a", "b", "g"]);
}
