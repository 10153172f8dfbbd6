//! What `depmod` wrote, read as modprobe reads it.

use std::collections::{BTreeMap, BTreeSet};

/// What `depmod` knows of the modules: modules.dep, .alias, .softdep and .builtin.
#[derive(Debug, Default)]
pub struct Index {
    modules: BTreeMap<String, Module>,
    /// By what stands before the first colon, for there are thousands.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    softdeps: BTreeMap<String, Softdep>,
    builtin: BTreeSet<String>,
}

#[derive(Debug)]
struct Module {
    path: String,
    /// Nearest first, as modules.dep has them.
    needs: Vec<String>,
}

#[derive(Debug, Default)]
struct Softdep {
    before: Vec<String>,
    after: Vec<String>,
}

impl Index {
    /// Reads the four texts; lines that are not understood are skipped, as modprobe does.
    pub fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Index {
        let mut index = Index::default();
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(name).collect();
            index.modules.insert(name(path), Module { path: path.to_owned(), needs });
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let entry = (pattern.to_owned(), name(module));
            index.aliases.entry(bus(pattern).to_owned()).or_default().push(entry);
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let softdep = index.softdeps.entry(name(module)).or_default();
            let mut list = &mut softdep.before;
            for word in words {
                match word {
                    "pre:" => list = &mut softdep.before,
                    "post:" => list = &mut softdep.after,
                    module => list.push(module.to_owned()),
                }
            }
        }
        index.builtin = builtin.lines().map(name).collect();
        index
    }

    /// How many modules there are.
    pub fn known(&self) -> usize {
        self.modules.len()
    }

    /// The modules that serve a device which says this of itself in its `modalias`.
    pub fn for_device(&self, modalias: &str) -> Vec<&str> {
        let patterns = self.aliases.get(bus(modalias)).map_or(&[][..], Vec::as_slice);
        let mut found = Vec::new();
        for (pattern, module) in patterns {
            if !found.contains(&module.as_str()) && matches(pattern.as_bytes(), modalias.as_bytes()) {
                found.push(module.as_str());
            }
        }
        found
    }

    /// The files to load, in order, so that `wanted` (a module, or an alias such as `crypto-crc32c`) is
    /// loaded; those in `loaded` are left out and all that is returned is put there.
    pub fn order(&self, wanted: &str, loaded: &mut BTreeSet<String>) -> Vec<(&str, &str)> {
        let mut order = Vec::new();
        self.visit(wanted, loaded, &mut order);
        order
    }

    fn visit<'a>(&'a self, wanted: &str, loaded: &mut BTreeSet<String>, order: &mut Vec<(&'a str, &'a str)>) {
        let wanted_name = name(wanted);
        let Some((module, found)) = self.modules.get_key_value(&wanted_name) else {
            if !self.builtin.contains(&wanted_name) {
                for module in self.for_device(wanted) {
                    if self.modules.contains_key(module) {
                        self.visit(module, loaded, order);
                    }
                }
            }
            return;
        };
        // Marked before it is loaded: softdeps may go in a circle.
        if !loaded.insert(module.clone()) {
            return;
        }
        let softdep = self.softdeps.get(module);
        for other in softdep.into_iter().flat_map(|s| &s.before) {
            self.visit(other, loaded, order);
        }
        for need in found.needs.iter().rev() {
            self.visit(need, loaded, order);
        }
        order.push((module, &found.path));
        for other in softdep.into_iter().flat_map(|s| &s.after) {
            self.visit(other, loaded, order);
        }
    }
}

/// A module's name from its path or from what it is called: `kernel/net/8021q/8021q.ko.xz`, `virtio-net`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn bus(modalias: &str) -> &str {
    modalias.split_once(':').map_or("", |(bus, _)| bus)
}

/// fnmatch(3) without flags, as depmod's patterns use it: `*`, `?`, `[a-f0-9]`, `[!a]`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The last star, and where in the text what follows it is tried: going back to the last is enough.
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(p + 1),
            Some(b'[') => class(pattern, p, text[t]),
            Some(&c) => (c == text[t]).then_some(p + 1),
            None => None,
        };
        match (step, back) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((after, at))) => {
                back = Some((after, at + 1));
                (p, t) = (after, at + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Whether `c` is in the class that opens at `open`: the index after the class, or none.
fn class(pattern: &[u8], open: usize, c: u8) -> Option<usize> {
    let mut at = open + 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return (found != negated).then_some(at + 1);
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&c);
                at += 3;
            }
            _ => {
                found |= low == c;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
