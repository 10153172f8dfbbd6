//! A kernel package's tree, and which of its modules bring which others along.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::command::{run, tool};

/// An unpacked and indexed kernel package.
#[derive(Clone, Debug)]
pub struct KernelTree {
    /// What `uname -r` will say.
    pub release: String,
    /// The compressed kernel.
    pub image: PathBuf,
    /// `…/lib/modules/RELEASE`.
    pub modules: PathBuf,
}

impl KernelTree {
    /// Finds the kernel in a tree that [`index`](Self::index) was run on.
    ///
    /// # Errors
    /// When there is no `boot/vmlinuz-*`, or no index of its modules.
    pub fn open(root: &Path) -> Result<Self> {
        let (image, release) = fs::read_dir(root.join("boot"))
            .with_context(|| format!("{} is no kernel package's tree", root.display()))?
            .flatten()
            .find_map(|entry| {
                let release = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
                Some((entry.path(), release))
            })
            .with_context(|| format!("no vmlinuz-* in {}/boot", root.display()))?;
        let modules = base(root).join("lib/modules").join(&release);
        Ok(Self { release, image, modules })
    }

    /// Writes modules.dep, modules.alias and modules.softdep, which the package leaves to its installation.
    ///
    /// # Errors
    /// depmod's, or when the tree holds no kernel.
    pub fn index(root: &Path) -> Result<()> {
        let tree = Self::open(root)?;
        run(tool("depmod").arg("-b").arg(base(root)).arg(&tree.release))?;
        Ok(())
    }

    /// Reads the index.
    ///
    /// # Errors
    /// When a file of it is missing.
    pub fn read(&self) -> Result<Modules> {
        let read = |name: &str| {
            let path = self.modules.join(name);
            fs::read_to_string(&path)
                .with_context(|| format!("{} is missing: was the tree indexed?", path.display()))
        };
        Ok(Modules::parse(
            &read("modules.dep")?,
            &read("modules.alias")?,
            &read("modules.softdep")?,
            read("modules.builtin")?,
        ))
    }
}

/// Newer packages keep their modules below `usr`.
fn base(root: &Path) -> PathBuf {
    if root.join("usr/lib/modules").is_dir() { root.join("usr") } else { root.to_owned() }
}

/// The name the kernel knows a module by, of the path or name it is written with.
pub fn name(written: &str) -> String {
    let file = written.rsplit('/').next().unwrap_or(written);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Which modules there are and what each needs.
pub struct Modules {
    /// By name: the path, and the paths of all it needs, nearest first.
    dependencies: BTreeMap<String, (String, Vec<String>)>,
    alias: Vec<(String, String)>,
    alias_lines: String,
    softdep_lines: String,
    builtin: BTreeSet<String>,
    builtin_lines: String,
}

/// Some of the modules, with an index of no others.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// Paths below `lib/modules/RELEASE`; what a module needs comes before it.
    pub paths: Vec<String>,
    /// What was asked for and is neither a module nor built in.
    pub absent: Vec<String>,
    /// The index: file name and text.
    pub index: Vec<(&'static str, String)>,
}

impl Modules {
    /// From the texts of depmod's files.
    pub fn parse(dep: &str, alias: &str, softdep: &str, builtin: String) -> Self {
        let dependencies = dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| {
                (name(path), (path.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
            })
            .collect();
        let aliases = alias
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
            .map(|(pattern, module)| (pattern.to_owned(), name(module)))
            .collect();
        Self {
            dependencies,
            alias: aliases,
            alias_lines: alias.to_owned(),
            softdep_lines: softdep.to_owned(),
            builtin: builtin.lines().map(name).collect(),
            builtin_lines: builtin,
        }
    }

    /// The modules named, what they need, and what they would rather not be without (softdep).
    pub fn select<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Selection {
        let mut taken = Taken::default();
        let mut absent = Vec::new();
        for written in wanted {
            let wanted = name(written);
            if self.dependencies.contains_key(&wanted) {
                self.take(&wanted, &mut taken);
            } else if !self.builtin.contains(&wanted) {
                absent.push(written.to_owned());
            }
        }
        let keep = |module: &str| taken.names.contains(&name(module));
        let lines = |text: &str, module: fn(&str) -> Option<&str>| -> String {
            text.lines().filter(|line| module(line).is_some_and(keep)).flat_map(|line| [line, "\n"]).collect()
        };
        let dep = self
            .dependencies
            .iter()
            .filter(|(module, _)| keep(module))
            .map(|(_, (path, needs))| {
                let needs: String = needs.iter().flat_map(|need| [" ", need]).collect();
                format!("{path}:{needs}\n")
            })
            .collect();
        let index = vec![
            ("modules.alias", lines(&self.alias_lines, |line| line.rsplit(' ').next())),
            ("modules.builtin", self.builtin_lines.clone()),
            ("modules.dep", dep),
            ("modules.softdep", lines(&self.softdep_lines, |line| line.split(' ').nth(1))),
        ];
        Selection { paths: taken.paths, absent, index }
    }

    fn take(&self, module: &str, taken: &mut Taken) {
        let Some((path, needs)) = self.dependencies.get(module) else { return };
        if !taken.names.insert(module.to_owned()) {
            return;
        }
        for need in needs.iter().rev() {
            self.take(&name(need), taken);
        }
        for soft in self.softdeps(module) {
            self.take(&soft, taken);
        }
        taken.paths.push(path.clone());
    }

    /// What `softdep MODULE pre: A B post: C` names, where A may be an alias of several modules.
    fn softdeps(&self, module: &str) -> Vec<String> {
        self.softdep_lines
            .lines()
            .filter_map(|line| line.strip_prefix("softdep ")?.split_once(' '))
            .filter(|(of, _)| name(of) == module)
            .flat_map(|(_, rest)| rest.split_whitespace().filter(|word| !word.ends_with(':')))
            .flat_map(|word| {
                let by_alias = self
                    .alias
                    .iter()
                    .filter(|(pattern, _)| pattern == word)
                    .map(|(_, module)| module.clone());
                by_alias.chain([name(word)]).collect::<Vec<_>>()
            })
            .collect()
    }
}

#[derive(Default)]
struct Taken {
    names: BTreeSet<String>,
    paths: Vec<String>,
}

#[cfg(test)]
mod tests;
