//! The house as it stands on disk: its members, its files, its tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the judges are given; a made-up one is as good as the real one.
#[derive(Clone, Debug, Default)]
pub(crate) struct House {
    /// The workspace's crates.
    pub(crate) members: Vec<Member>,
    /// What lies at the top, `target` and other ignored things left out.
    pub(crate) top: Vec<String>,
    /// Every text file.
    pub(crate) files: Vec<Source>,
}

/// A crate.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// As its Cargo.toml calls it.
    pub(crate) name: String,
    /// Where it is, from the top: `appliance/rack`.
    pub(crate) directory: String,
    /// `[package.metadata] floor`.
    pub(crate) floor: Option<i64>,
    /// What it imports.
    pub(crate) imports: Vec<Import>,
}

/// A line below `[dependencies]`, `[build-dependencies]` or `[dev-dependencies]`.
#[derive(Clone, Debug)]
pub(crate) struct Import {
    /// The crate.
    pub(crate) name: String,
    /// Whether for tests only.
    pub(crate) dev: bool,
}

/// A text file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the top: `appliance/rack/src/lib.rs`.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
    /// Its content with comments, strings and characters blanked: lines and braces stay where they are.
    pub(crate) code: String,
}

/// The largest file that is read; larger ones are no sources.
const MOST: u64 = 1 << 20;

/// The directory of the workspace.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("hw-tests is inside the workspace").to_owned()
}

impl House {
    /// Reads the workspace.
    pub(crate) fn read() -> House {
        let top = top();
        let ignored: Vec<String> = fs::read_to_string(top.join(".gitignore"))
            .unwrap_or_default()
            .lines()
            .map(|line| line.trim_matches('/').to_owned())
            .chain([".git".to_owned()])
            .collect();
        let mut house = House::default();
        for name in names(&top) {
            if ignored.contains(&name) {
                continue;
            }
            house.walk(&top, &name);
            house.top.push(name);
        }
        // A crate with a workspace of its own (fuzz: it needs a nightly compiler) is no room of this house.
        let is_ours = |file: &&Source| {
            file.path.ends_with("/Cargo.toml") && !file.text.lines().any(|line| line.trim() == "[workspace]")
        };
        let manifests = house.files.iter().filter(is_ours);
        house.members = manifests.map(|file| Member::read(&file.path, &file.text)).collect();
        assert!(
            house.members.len() > 15,
            "only {} crates found below {}",
            house.members.len(),
            top.display()
        );
        house
    }

    fn walk(&mut self, top: &Path, path: &str) {
        let full = top.join(path);
        let meta = fs::symlink_metadata(&full).unwrap();
        if meta.is_dir() {
            for name in names(&full) {
                self.walk(top, &format!("{path}/{name}"));
            }
        } else if meta.is_file()
            && meta.len() <= MOST
            && let Ok(text) = fs::read_to_string(&full)
        {
            self.files.push(Source::new(path, &text));
        }
    }

    /// A file by its path.
    pub(crate) fn file(&self, path: &str) -> Option<&Source> {
        self.files.iter().find(|file| file.path == path)
    }

    /// A crate by its name.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Every function that is a test.
    pub(crate) fn tests(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for file in self.files.iter().filter(|file| file.is_rust()) {
            let mut announced = false;
            for line in file.code.lines().map(str::trim) {
                announced |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let after = line.trim_start_matches("pub ").trim_start_matches("async ");
                if let (true, Some(rest)) = (announced, after.strip_prefix("fn ")) {
                    found.insert(rest.split(['(', '<']).next().unwrap_or_default().to_owned());
                    announced = false;
                }
            }
        }
        found
    }

    /// The files that are compiled for tests only, because their `mod` says so.
    fn announced_as_tests(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for file in self.files.iter().filter(|file| file.is_rust()) {
            for (at, _) in file.code.match_indices(TEST_ONLY) {
                let mut after = file.code[at + TEST_ONLY.len()..].trim_start();
                while let Some((_, next)) = after.strip_prefix("#[").and_then(|after| after.split_once(']')) {
                    after = next.trim_start();
                }
                for word in ["pub(crate) ", "pub(super) ", "pub "] {
                    after = after.strip_prefix(word).unwrap_or(after);
                }
                let Some(rest) = after.strip_prefix("mod ") else { continue };
                let Some((name, _)) = rest.split_once(';') else { continue };
                if name.contains('{') {
                    continue;
                }
                let stem = file.path.trim_end_matches(".rs");
                let directory = match stem.rsplit_once('/') {
                    Some((above, "lib" | "main" | "mod")) => above,
                    _ => stem,
                };
                found.insert(format!("{directory}/{}.rs", name.trim()));
            }
        }
        found
    }

    /// The code that goes into programs, test-only parts blanked, by path.
    pub(crate) fn shipped(&self) -> Vec<(&Source, String)> {
        let tests = self.announced_as_tests();
        let is_test = |path: &str| {
            tests.contains(path)
                || tests.iter().any(|test| path.starts_with(&format!("{}/", test.trim_end_matches(".rs"))))
        };
        self.files
            .iter()
            .filter(|file| file.is_rust() && file.path.contains("/src/") && !is_test(&file.path))
            .map(|file| (file, without_tests(&file.code)))
            .collect()
    }
}

impl Member {
    /// Reads a Cargo.toml.
    pub(crate) fn read(path: &str, text: &str) -> Member {
        let manifest: toml::Table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
        let package = manifest.get("package").unwrap_or_else(|| panic!("{path} has no [package]"));
        let name = package.get("name").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let floor = package.get("metadata").and_then(|m| m.get("floor")).and_then(toml::Value::as_integer);
        let mut imports = Vec::new();
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        let tables = targets.into_iter().flat_map(|t| t.values()).filter_map(toml::Value::as_table);
        for table in tables.chain([&manifest]) {
            for (kind, dev) in
                [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
            {
                let Some(lines) = table.get(kind).and_then(toml::Value::as_table) else { continue };
                imports.extend(lines.iter().map(|(key, value)| {
                    let renamed = value.get("package").and_then(toml::Value::as_str);
                    Import { name: renamed.unwrap_or(key).to_owned(), dev }
                }));
            }
        }
        Member { name, directory: path.trim_end_matches("/Cargo.toml").to_owned(), floor, imports }
    }
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blanked(text) } else { String::new() };
        Source { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

const TEST_ONLY: &str = "#[cfg(test)]";

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Rust without what is inside comments, strings and characters; everything else stays in its place.
pub(crate) fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => find(&chars, at, |c| c[0] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => comment(&chars, at),
            '"' => string(&chars, at + 1),
            'r' if !after_word(&chars, at) => raw(&chars, at),
            '\'' if chars.get(at + 1) == Some(&'\\') => find(&chars, at + 3, |c| c[0] == '\'') + 1,
            '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        out.extend(chars[at..end.min(chars.len())].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    out
}

fn find(chars: &[char], from: usize, is: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| is(&chars[*at..])).unwrap_or(chars.len())
}

fn comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of a raw string that begins here; here, when none does.
fn raw(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let closes =
        |rest: &[char]| rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#');
    find(chars, at + 2 + hashes, closes) + 1 + hashes
}

fn after_word(chars: &[char], at: usize) -> bool {
    // b"…" is a string with a letter before it, br"…" a raw one.
    at > 0 && chars[at - 1] != 'b' && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

/// Code without the items under `#[cfg(test)]`.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find(TEST_ONLY) {
        let mut depth = 0_usize;
        let mut end = out.len();
        for (at, byte) in out.bytes().enumerate().skip(start + TEST_ONLY.len()) {
            match byte {
                b'{' | b'(' | b'[' => depth += 1,
                b'}' | b')' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b';') {
                end = at + 1;
                break;
            }
        }
        let hole: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &hole);
    }
    out
}
