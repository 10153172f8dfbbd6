//! The judgements. Each takes a house and returns its faults, a line each: who, what, and what to do.

use std::collections::BTreeSet;

use crate::house::{House, Member};

/// What may lie at the top, beside hidden files, the lock and licences.
const TOP: [&str; 7] =
    ["Cargo.toml", "README.md", "appliance", "boot-services", "buildroot-config", "hw-tests", "rootfs"];

/// Where hands begin, and I/O with them.
const HANDS: i64 = 3;

/// The outside crates that rules and words may know, and why each is pure.
const PURE: [(&str, &str); 21] = [
    ("serde", "derives only"),
    ("serde_json", "octets to values and back"),
    ("uuid", "a type; random ones are made by the doors"),
    ("dhcproto", "a codec of options"),
    ("smoltcp", "its wire types; none of its interfaces"),
    ("bytes", "octets that are shared and not copied"),
    ("crc32c", "a checksum of slices"),
    ("blake3", "a digest of slices; no memory maps, no threads"),
    ("sha2", "a digest of slices"),
    ("sha3", "a digest of slices, for CHAP"),
    ("sha1", "a digest of slices"),
    ("md-5", "a digest of slices, for CHAP as every initiator has it"),
    ("hmac", "a code over slices"),
    ("aes", "a cipher over slices"),
    ("cbc", "a mode over slices"),
    ("subtle", "compares in constant time"),
    ("ipmi-rs-core", "commands and parsers; no sessions, no sockets"),
    ("flate2", "decodes from a Read that it is given"),
    ("ruzstd", "decodes from a Read that it is given"),
    ("lzma-rust2", "decodes from a Read that it is given"),
    ("imago", "reads qcow2 over a storage that is ours; its files and its runtime stay unused"),
];

/// What rules and words may not call: files, sockets, threads, processes, clocks, logs.
const IMPURE: [&str; 14] = [
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "File::open",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "Instant::now",
    "SystemTime",
    "log::",
    "println!",
    "/dev/urandom",
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["common", "utils", "util", "helpers", "helper", "manager", "managers", "misc", "shared"];

/// The longest source, in lines.
const LONGEST: usize = 800;

fn floor(member: &Member) -> i64 {
    member.floor.unwrap_or(i64::MAX)
}

pub(crate) fn imports_go_down(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for member in &house.members {
        for import in &member.imports {
            let Some(other) = house.member(&import.name) else { continue };
            if import.dev && member.directory == "hw-tests" {
                continue;
            }
            if floor(other) >= floor(member) {
                faults.push(format!(
                    "{} on floor {} imports {} on floor {}: import downwards only, or move one of them",
                    member.name,
                    floor(member),
                    other.name,
                    floor(other)
                ));
            }
        }
    }
    faults
}

pub(crate) fn boot_services_stand_alone(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for member in house.members.iter().filter(|member| member.directory.starts_with("boot-services/")) {
        for import in &member.imports {
            let other = house.member(&import.name);
            if other.is_some_and(|other| !other.directory.starts_with("boot-services/")) {
                faults.push(format!(
                    "{} of boot-services imports {}: boot-services never knows the appliance",
                    member.name, import.name
                ));
            }
        }
    }
    faults
}

pub(crate) fn pure_floors_import_pure_crates(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    let mut used = Vec::new();
    for member in house.members.iter().filter(|member| floor(member) < HANDS) {
        for import in member.imports.iter().filter(|import| !import.dev) {
            if house.member(&import.name).is_some() {
                continue;
            }
            if PURE.iter().any(|(name, _)| *name == import.name) {
                used.push(import.name.as_str());
            } else {
                faults.push(format!(
                    "{} on floor {} imports the outside crate {}: write its reason into PURE, or do without",
                    member.name,
                    floor(member),
                    import.name
                ));
            }
        }
    }
    let unused = PURE.iter().filter(|(name, _)| !used.contains(name));
    faults
        .extend(unused.map(|(name, _)| format!("{name} is in PURE and no pure floor imports it: remove it")));
    faults
}

pub(crate) fn pure_floors_touch_nothing(house: &House) -> Vec<String> {
    let pure: Vec<String> = house
        .members
        .iter()
        .filter(|member| floor(member) < HANDS)
        .map(|member| format!("{}/src/", member.directory))
        .collect();
    let mut faults = Vec::new();
    for (file, code) in house.shipped() {
        if !pure.iter().any(|directory| file.path.starts_with(directory)) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            for what in IMPURE.iter().filter(|what| contains_path(line, what)) {
                faults.push(format!("{}:{} has {what} below floor {HANDS}", file.path, number + 1));
            }
        }
    }
    faults
}

pub(crate) fn crates_are_where_their_names_say(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for member in &house.members {
        let (name, directory) = (&member.name, &member.directory);
        if member.floor.is_none() {
            faults.push(format!("{directory}/Cargo.toml has no floor: add [package.metadata] floor = N"));
        }
        if directory.rsplit('/').next() != Some(name) {
            faults.push(format!("{directory} holds the crate {name}: a directory is named as its crate"));
        }
    }
    faults
}

pub(crate) fn names_are_nouns(house: &House) -> Vec<String> {
    let crates = house.members.iter().map(|member| (member.name.as_str(), &member.directory));
    let modules = house.files.iter().filter(|file| file.is_rust()).map(|file| {
        let stem = file.path.trim_end_matches(".rs");
        (stem.rsplit('/').next().unwrap_or(stem), &file.path)
    });
    crates
        .chain(modules)
        .filter(|(name, _)| name.split(['-', '_']).any(|word| EMPTY_NAMES.contains(&word)))
        .map(|(name, path)| format!("{path}: {name} says nothing of what is inside"))
        .collect()
}

pub(crate) fn the_top_is_as_designed(house: &House) -> Vec<String> {
    let foreign = |name: &&String| {
        let name = name.as_str();
        !(TOP.contains(&name) || name.starts_with('.') || name == "Cargo.lock" || name.starts_with("LICENSE"))
    };
    let mut faults: Vec<String> =
        house.top.iter().filter(foreign).map(|name| format!("{name} does not belong at the top")).collect();
    let missing = TOP.iter().filter(|name| !house.top.iter().any(|there| there == *name));
    faults.extend(missing.map(|name| format!("{name} is missing at the top")));
    faults
}

pub(crate) fn only_the_store_knows_sled(house: &House) -> Vec<String> {
    let knows = |member: &&Member| member.imports.iter().any(|import| import.name == "sled");
    let others = house.members.iter().filter(knows).filter(|member| member.name != "store");
    others.map(|member| format!("{} imports sled: only store may", member.name)).collect()
}

pub(crate) fn the_lock_knows_one_registry(house: &House) -> Vec<String> {
    let Some(lock) = house.file("Cargo.lock") else {
        return vec!["Cargo.lock is missing: programs are built from a lock".to_owned()];
    };
    let sources: BTreeSet<&str> =
        lock.text.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let strange = |source: &&&str| sources.len() > 1 || !source.starts_with("\"registry+");
    sources.iter().filter(strange).map(|source| format!("Cargo.lock has packages from {source}")).collect()
}

pub(crate) fn sources_are_short(house: &House) -> Vec<String> {
    let is_source = |path: &str, text: &str| path.ends_with(".rs") || text.starts_with("#!");
    let long = house.files.iter().filter(|file| is_source(&file.path, &file.text));
    long.map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(file, lines)| format!("{} has {lines} lines: split it, in a commit of its own", file.path))
        .collect()
}

pub(crate) fn nothing_unwraps_outside_tests(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for (file, code) in house.shipped() {
        for (number, _) in code.lines().enumerate().filter(|(_, line)| line.contains(".unwrap()")) {
            faults.push(format!(
                "{}:{} unwraps: say why it holds with expect, or pass the error on",
                file.path,
                number + 1
            ));
        }
    }
    faults
}

pub(crate) fn clocks_are_read_with_a_reason(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for file in house.files.iter().filter(|file| file.is_rust()) {
        let excused = file.text.contains("clippy::disallowed_methods, reason = \"");
        // Clippy knows every way to name the clock; tokio's can be stopped by a test and is not banned.
        let of_std = file.code.split("use std").skip(1).filter_map(|uses| uses.split(';').next());
        let imported = of_std.into_iter().any(|uses| uses.contains("Instant"));
        for (number, line) in file.code.lines().enumerate() {
            let banned = contains_path(line, "thread::sleep(")
                || line.contains("SystemTime::now")
                || line.contains("std::time::Instant::now")
                || (imported && contains_path(line, "Instant::now"));
            if banned && !excused {
                faults.push(format!(
                    "{}:{} reads the clock or sleeps: take now: Time, wait for a condition with a deadline",
                    file.path,
                    number + 1
                ));
            }
        }
    }
    faults
}

pub(crate) fn every_allow_has_a_reason(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for file in house.files.iter().filter(|file| file.is_rust()) {
        for mark in ["#[allow(", "#![allow(", "#[expect(", "#![expect(", "#[ignore"] {
            for (at, _) in file.code.match_indices(mark) {
                let attribute = file.code[at..].split_once(']').map_or("", |(inside, _)| inside);
                let reasoned =
                    if mark == "#[ignore" { attribute.contains('=') } else { attribute.contains("reason =") };
                if !reasoned {
                    let number = file.code[..at].matches('\n').count() + 1;
                    faults.push(format!("{}:{number} has {mark} without a reason", file.path));
                }
            }
        }
    }
    faults
}

pub(crate) fn unsafe_code_is_justified(house: &House) -> Vec<String> {
    let mut faults = Vec::new();
    for file in house.files.iter().filter(|file| file.is_rust()) {
        // `unsafe fn` in an impl only repeats what its trait says.
        let is_unsafe =
            |line: &str| contains_path(line, "unsafe {") || line.trim().starts_with("unsafe impl");
        if file.code.lines().any(is_unsafe)
            && !(file.text.contains("// SAFETY") && file.text.contains("// JUSTIFICATION"))
        {
            faults.push(format!("{} has unsafe code: say SAFETY and JUSTIFICATION above it", file.path));
        }
    }
    faults
}

pub(crate) fn nothing_is_left_to_do(house: &House) -> Vec<String> {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    lines_with(house, |line| marks.iter().find(|mark| contains_path(line, mark)).copied())
        .map(|(place, mark)| format!("{place} has a {mark}: do it, or open an issue"))
        .collect()
}

pub(crate) fn no_file_names_somebodys_machine(house: &House) -> Vec<String> {
    let places = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    lines_with(house, |line| {
        places.into_iter().find(|place| {
            line.match_indices(place).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                // Inside a longer path or address it is nobody's home.
                !before.is_some_and(|c| c.is_alphanumeric() || "/._-}$*".contains(c))
            })
        })
    })
    .map(|(place, path)| format!("{place} names {path}…, a place on somebody's machine"))
    .collect()
}

pub(crate) fn every_promise_names_its_test(house: &House) -> Vec<String> {
    let Some(readme) = house.file("README.md") else { return vec!["README.md is missing".to_owned()] };
    let promises = promises(&readme.text);
    let tests = house.tests();
    let mut faults = Vec::new();
    if promises.is_empty() {
        faults.push("README.md has no numbered list under ## Promises".to_owned());
    }
    for (number, promise) in promises {
        // The names stand behind the last sentence's head; code in the promise itself is no test.
        let Some((_, kept)) = promise.split_once("Kept by ") else {
            if !promise.contains("Pending") {
                faults.push(format!("promise {number} names no test: write Kept by `test`, or Pending"));
            }
            continue;
        };
        let names: Vec<&str> = kept.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            faults.push(format!("promise {number} is kept by nothing"));
        }
        let unknown = names.iter().filter(|name| !tests.contains(**name));
        faults.extend(unknown.map(|name| format!("promise {number} is kept by {name}, which is no test")));
    }
    faults
}

/// The items of the numbered list under `## Promises`, each in one line.
fn promises(text: &str) -> Vec<(u32, String)> {
    let section = text.lines().skip_while(|line| *line != "## Promises").skip(1);
    let mut found: Vec<(u32, String)> = Vec::new();
    for line in section.take_while(|line| !line.starts_with("## ")) {
        let head = line.split_once(". ").and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
        match (head, found.last_mut()) {
            (Some((number, rest)), _) => found.push((number, rest.to_owned())),
            (None, Some((_, promise))) if line.starts_with("  ") => {
                promise.push(' ');
                promise.push_str(line.trim());
            }
            _ => {}
        }
    }
    found
}

fn lines_with<'a, T>(
    house: &'a House,
    is: impl Fn(&str) -> Option<T> + 'a,
) -> impl Iterator<Item = (String, T)> {
    house.files.iter().flat_map(move |file| {
        let found = file.text.lines().enumerate().filter_map(|(number, line)| {
            is(line).map(|what| (format!("{}:{}", file.path, number + 1), what))
        });
        found.collect::<Vec<_>>()
    })
}

/// Whether the words stand in the line, and are not the end of a longer one.
fn contains_path(line: &str, words: &str) -> bool {
    line.match_indices(words)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'))
}
