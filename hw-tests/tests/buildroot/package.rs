//! The packages: Config.in, makefile, hashes.

use sha2::{Digest, Sha256};

use crate::tree::{HERE, Tree};

fn upper(package: &str) -> String {
    package.to_uppercase().replace('-', "_")
}

/// Folder, Config.in, makefile, option and prompt have one name, and Config.in at the top reads them in order.
pub(crate) fn names_agree(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let sources: Vec<&str> = tree.text("Config.in").lines().collect();
    let mut wanted = Vec::new();
    for package in tree.packages() {
        wanted.push(format!("source \"$BR2_EXTERNAL_KILN_PATH/package/{package}/Config.in\""));
        let config = tree.text(&format!("package/{package}/Config.in"));
        let name = upper(package);
        for line in [format!("config BR2_PACKAGE_{name}"), format!("\tbool \"{package}\"")] {
            if !config.lines().any(|there| there == line) {
                faults.push(format!("package/{package}/Config.in lacks the line {}", line.trim()));
            }
        }
        let makefile = tree.text(&format!("package/{package}/{package}.mk"));
        let bar = "#".repeat(80);
        if !makefile.starts_with(&format!("{bar}\n#\n# {package}\n#\n{bar}\n\n")) {
            faults.push(format!("package/{package}/{package}.mk is missing, or begins without its name"));
        }
        if !makefile.trim_end().ends_with("-package))") {
            faults.push(format!("package/{package}/{package}.mk makes no package"));
        }
        let known = [format!("{package}.mk"), format!("{package}.hash"), "Config.in".to_owned()];
        let files = tree.below(&format!("package/{package}/"));
        let others = files.filter(|(path, _)| !known.iter().any(|name| path.ends_with(&format!("/{name}"))));
        faults.extend(others.map(|(path, _)| format!("{path} is no file of a package")));
    }
    if sources != wanted {
        faults.push(format!("Config.in reads {sources:?} and should read {wanted:?}"));
    }
    faults
}

/// Whatever a makefile assigns or defines is its own.
pub(crate) fn variables_carry_the_name(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for package in tree.packages() {
        let prefix = format!("{}_", upper(package));
        let file = format!("package/{package}/{package}.mk");
        let text = tree.text(&file);
        for line in text.lines() {
            let assigned = line.split_once('=').filter(|_| !line.starts_with(['\t', '#', ' ', '$', 'i']));
            let assigned = assigned.map(|(name, _)| name.trim_end_matches(['+', ':', '?', ' ']));
            if let Some(name) = assigned.or_else(|| line.strip_prefix("define "))
                && !name.starts_with(&prefix)
            {
                faults.push(format!("{file}: {name} does not begin with {prefix}"));
            }
            if line.starts_with("  ") || line.ends_with([' ', '\t']) {
                faults.push(format!("{file}: blanks where a tab, or nothing, should be: {line}"));
            }
        }
        if text.matches("\ndefine ").count() != text.matches("\nendef\n").count() {
            faults.push(format!("{file}: a define without its endef"));
        }
    }
    let version = tree.files.get("Cargo.toml").and_then(|file| {
        file.text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
    });
    let ours = tree.text("package/kiln-programs/kiln-programs.mk");
    if !version.is_some_and(|version| ours.contains(&format!("\nKILN_PROGRAMS_VERSION = {version}\n"))) {
        faults.push(format!("kiln-programs is of another version than the workspace's {version:?}"));
    }
    faults
}

/// Who downloads something or has a licence has its hash; the hash of our own licence is computed.
pub(crate) fn hashes_are_true(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for package in tree.packages() {
        let text = tree.text(&format!("package/{package}/{package}.mk"));
        let name = upper(package);
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}_{key} = ")))?;
            let version = text.lines().find_map(|line| line.strip_prefix(&format!("{name}_VERSION = ")));
            Some(value.replace(&format!("$({name}_VERSION)"), version.unwrap_or_default()))
        };
        let hashes: Vec<Vec<&str>> = tree
            .text(&format!("package/{package}/{package}.hash"))
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split("  ").collect())
            .collect();
        for file in [value("SOURCE"), value("LICENSE_FILES")].into_iter().flatten() {
            if !hashes.iter().any(|fields| fields.get(2) == Some(&file.as_str())) {
                faults.push(format!("{package} has no hash of {file}"));
            }
        }
        for fields in &hashes {
            let sound = matches!(fields[..], ["sha256", hash, _]
                if hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit()));
            if !sound {
                faults.push(format!("{package}.hash: not of the form 'sha256  HASH  FILE': {fields:?}"));
            }
        }
        if value("LICENSE_FILES").as_deref() == Some("LICENSE")
            && let Some(file) = tree.files.get("LICENSE")
        {
            let digest = Sha256::digest(file.text.as_bytes());
            let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
            if !hashes.iter().any(|fields| fields.get(1) == Some(&digest.as_str())) {
                faults.push(format!("{package}.hash has another hash of LICENSE than {digest}"));
            }
        }
    }
    faults
}

/// Attributes in Buildroot's order, tabs, and help that fits a terminal.
pub(crate) fn options_are_well_formed(tree: &Tree) -> Vec<String> {
    const ORDER: [&str; 5] = ["bool", "default", "depends on", "select", "help"];
    let mut faults = Vec::new();
    let files = tree.below("package/").filter(|(path, _)| path.ends_with("/Config.in"));
    for (file, text) in files {
        let mut last = 0;
        let mut help = false;
        let mut helped = 0;
        for line in text.lines() {
            if line.ends_with([' ', '\t']) {
                faults.push(format!("{file}: blanks at the end of {line:?}"));
            }
            if line.replace('\t', "        ").chars().count() > 72 {
                faults.push(format!("{file}: more than 72 columns: {line}"));
            }
            if line.starts_with("config ") || line.starts_with("comment ") {
                (last, help) = (0, false);
            } else if help && line.starts_with("\t  ") {
                helped += 1;
            } else if let Some(attribute) = line.strip_prefix('\t') {
                match ORDER.iter().position(|word| attribute.starts_with(word)) {
                    Some(at) if at < last => {
                        faults.push(format!("{file}: {attribute} comes after {}", ORDER[last]));
                    }
                    Some(at) => (last, help) = (at, ORDER[at] == "help"),
                    None => {
                        faults.push(format!("{file}: an attribute that the lint does not know: {attribute}"))
                    }
                }
            } else if !line.is_empty() {
                faults.push(format!("{file}: not indented by a tab, nor an entry: {line}"));
            }
        }
        if helped == 0 || !text.contains("\t  https://") {
            faults.push(format!("{file}: no help, or no address in it"));
        }
    }
    faults
}

/// Ours in the defconfigs are defined, and what is defined is in every defconfig.
pub(crate) fn wishes_are_packages(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let files = tree.below("package/").filter(|(path, _)| path.ends_with("/Config.in"));
    let defined: Vec<&str> =
        files.flat_map(|(_, text)| text.lines().filter_map(|line| line.strip_prefix("config "))).collect();
    for (architecture, text) in tree.defconfigs() {
        let wishes: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("BR2_PACKAGE_KILN_"))
            .filter_map(|line| line.strip_suffix("=y"))
            .collect();
        let unknown = wishes.iter().filter(|wish| !defined.contains(wish));
        faults.extend(
            unknown.map(|wish| format!("{architecture} wishes for {wish}, which {HERE} does not define")),
        );
        let unwished = defined.iter().filter(|name| !wishes.contains(name));
        faults.extend(unwished.map(|name| format!("{architecture} does not wish for {name}")));
    }
    faults
}
