//! The tree as it stands on disk, or with a fault.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where ours is, from the top of the repository.
pub(crate) const HERE: &str = "buildroot-config";

/// What the rules are given: every file, by its path from the top of the repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, File>,
}

/// A text file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) text: String,
    pub(crate) executable: bool,
}

impl Tree {
    /// `buildroot-config`, and what it refers to.
    pub(crate) fn read() -> Tree {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut tree = Tree::default();
        for name in [HERE, "rootfs", "Cargo.toml", "LICENSE"] {
            tree.walk(top, name);
        }
        tree
    }

    fn walk(&mut self, top: &Path, path: &str) {
        let full = top.join(path);
        if full.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                self.walk(top, &format!("{path}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        } else {
            let executable = full.metadata().unwrap().permissions().mode() & 0o111 != 0;
            self.files.insert(path.to_owned(), File { text: fs::read_to_string(&full).unwrap(), executable });
        }
    }

    /// The text of a file of ours; empty when it is not there.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.files.get(&format!("{HERE}/{path}")).map_or("", |file| &file.text)
    }

    /// Files of ours in a folder, or below it: path from our top, and text.
    pub(crate) fn below(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> + use<'_> {
        let prefix = format!("{HERE}/{folder}");
        let ours = self.files.iter().filter(move |(path, _)| path.starts_with(&prefix));
        ours.map(|(path, file)| (&path[HERE.len() + 1..], file.text.as_str()))
    }

    /// Whether a file or a folder is there.
    fn has(&self, path: &str) -> bool {
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.keys().any(|file| file.starts_with(&format!("{path}/")))
    }

    /// Names of the packages: folders of `package`.
    pub(crate) fn packages(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.below("package/").filter_map(|(path, _)| path.split('/').nth(1)).collect();
        names.dedup();
        names
    }

    /// The architectures that have a defconfig, with it.
    pub(crate) fn defconfigs(&self) -> Vec<(&str, &str)> {
        self.below("configs/")
            .filter_map(|(path, text)| {
                Some((path.strip_prefix("configs/kiln_")?.strip_suffix("_defconfig")?, text))
            })
            .collect()
    }
}

/// `a/../b` is `b`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The words behind a mark, each to its end.
fn behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).map(|rest| {
        let end = rest.find(|c: char| c.is_whitespace() || "\"')};|&".contains(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// What defconfigs, Config.in, makefiles and scripts name is there.
pub(crate) fn references_exist(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for name in ["external.desc", "external.mk", "Config.in", "README.md", "check"] {
        if tree.text(name).is_empty() {
            faults.push(format!("{HERE}/{name} is missing"));
        }
    }
    if !tree.text("external.desc").lines().any(|line| line == "name: KILN") {
        faults.push("external.desc does not say name: KILN, of which every path is made".to_owned());
    }
    if tree.defconfigs().len() != 2 || tree.defconfigs().len() != tree.below("configs/").count() {
        faults.push("configs holds other files than two kiln_*_defconfig".to_owned());
    }
    for (file, text) in tree.below("") {
        if file.ends_with(".md") {
            continue;
        }
        // A script's own folder.
        let here = format!("{HERE}/{}", file.rsplit_once('/').map_or("", |(folder, _)| folder));
        let marks = [
            ("$(BR2_EXTERNAL_KILN_PATH)", HERE),
            ("$BR2_EXTERNAL_KILN_PATH", HERE),
            ("$here/", &here),
            ("$top/", ""),
        ];
        for (mark, base) in marks {
            for word in behind(text, mark) {
                // Crates and boot files are put there by who builds; a pattern is make's affair.
                if word.contains("../target/") || word.contains('*') {
                    continue;
                }
                for (architecture, _) in tree.defconfigs() {
                    let word = word.replace("$architecture", architecture);
                    let path = plain(&format!("{base}/{word}"));
                    if !word.contains('$') && !tree.has(&path) {
                        faults.push(format!("{file} names {path}, which is not there"));
                    }
                }
            }
        }
    }
    faults.dedup();
    faults
}
