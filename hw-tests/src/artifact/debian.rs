//! Debian packages, downloaded and unpacked without being installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::command::{run, text, tool};
use super::kernel::KernelTree;
use super::{Flavour, Workshop};

/// The release of Debian that hw-tests/setup is for.
pub const STABLE: &str = "bookworm";

/// A package at the version the mirror has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    name: String,
    version: String,
}

impl Package {
    /// `NAME_VERSION`, fit for a file's name.
    pub fn id(&self) -> String {
        format!("{}_{}", self.name, self.version.replace(':', "%3a"))
    }
}

/// The mirror, as hw-tests/setup found it: apt with lists of its own.
pub struct Mirror<'a> {
    workshop: &'a Workshop,
    apt: PathBuf,
}

impl<'a> Mirror<'a> {
    /// The mirror whose package lists lie in the workshop's `target/apt`.
    ///
    /// # Errors
    /// When they are not there.
    pub fn open(workshop: &'a Workshop) -> Result<Self> {
        let apt = workshop.target().join("apt");
        ensure!(apt.join("ready").exists(), "no package lists in {}: run hw-tests/setup", apt.display());
        Ok(Self { workshop, apt })
    }

    /// The sources of the stable release: those without backports, one a line.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn stable_sources(&self) -> Result<String> {
        let list = self.apt.join("sources.list");
        let list = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        Ok(list.lines().filter(|line| !line.contains("-backports ")).flat_map(|line| [line, "\n"]).collect())
    }

    /// What changes when the archive does: the signed digests of its package lists.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn release(&self) -> Result<String> {
        let lists = self.apt.join("lists");
        let mut digests = Vec::new();
        for entry in fs::read_dir(&lists).with_context(|| format!("cannot read {}", lists.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("InRelease") && !path.to_string_lossy().contains("-backports")
            {
                let text = fs::read_to_string(&path)?;
                digests.extend(
                    text.lines()
                        .filter(|line| line.ends_with(" main/binary-amd64/Packages"))
                        .map(str::to_owned),
                );
            }
        }
        digests.sort();
        Ok(digests.join("\n"))
    }

    /// The upstream source of a package in a release of Debian (`bookworm`, `trixie`), unpacked in a folder of
    /// `scratch`: without Debian's changes.
    ///
    /// # Errors
    /// When it cannot be downloaded or unpacked.
    pub fn source(&self, name: &str, suite: &str, scratch: &Path) -> Result<PathBuf> {
        let stable = self.stable_sources()?;
        let sources = match suite {
            STABLE => stable,
            // Its security updates come by its point releases.
            _ => stable
                .lines()
                .find(|line| line.contains(&format!(" {STABLE} ")))
                .map(|line| format!("{}\n", line.replace(&format!(" {STABLE} "), &format!(" {suite} "))))
                .with_context(|| format!("no source with the suite {STABLE} in {}", self.apt.display()))?,
        };
        let list = scratch.join("sources.list");
        fs::write(&list, sources.replace("deb ", "deb-src "))?;
        let lists = scratch.join("lists");
        fs::create_dir_all(lists.join("partial"))?;
        // Lists of its own: those of hw-tests/setup have no sources.
        let with_sources = || {
            let mut command = tool("apt-get");
            command.current_dir(scratch).arg("-c").arg(self.configuration()).arg("-q");
            command.arg("-o").arg(format!("Dir::Etc::sourcelist={}", list.display()));
            command.arg("-o").arg(format!("Dir::State::lists={}", lists.display()));
            command.args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]);
            command
        };
        run(with_sources().arg("update"))?;
        run(with_sources().args(["source", "--download-only", name]))?;
        let archive = fs::read_dir(scratch)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                path.to_string_lossy().contains(".orig.tar.")
                    && path.extension().is_none_or(|end| end != "asc")
            })
            .with_context(|| format!("apt-get downloaded no source of {name}"))?;
        let source = scratch.join("source");
        fs::create_dir(&source)?;
        run(tool("tar").args(["-x", "--strip-components=1", "-f"]).arg(archive).arg("-C").arg(&source))?;
        Ok(source)
    }

    fn configuration(&self) -> PathBuf {
        self.apt.join("apt.conf")
    }

    fn show(&self, name: &str) -> Result<String> {
        text(tool("apt-cache").arg("-c").arg(self.configuration()).args(["show", "--no-all-versions", name]))
            .with_context(|| format!("the mirror has no package {name}"))
    }

    /// The version of `name` that would be installed.
    ///
    /// # Errors
    /// When there is no such package.
    pub fn package(&self, name: &str) -> Result<Package> {
        let shown = self.show(name)?;
        let version =
            field(&shown, "Version").with_context(|| format!("apt-cache shows no version of {name}"))?;
        Ok(Package { name: name.to_owned(), version: version.to_owned() })
    }

    /// The package of the kernel that the flavour's metapackage depends on.
    ///
    /// # Errors
    /// When the mirror has none.
    pub fn kernel(&self, flavour: Flavour) -> Result<Package> {
        let meta = match flavour {
            Flavour::Cloud => "linux-image-cloud-amd64",
            Flavour::Server => "linux-image-amd64",
        };
        let shown = self.show(meta)?;
        let name = field(&shown, "Depends")
            .and_then(|depends| depends.split([' ', ',']).find(|word| word.starts_with("linux-image-")))
            .with_context(|| format!("{meta} depends on no kernel"))?;
        self.package(name)
    }

    /// What is in the package, unpacked, with `finish` applied to it.
    fn unpacked(&self, package: &Package, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let made = self.workshop.make(&package.id(), |scratch| {
            let wanted = format!("{}={}", package.name, package.version);
            run(tool("apt-get")
                .arg("-c")
                .arg(self.configuration())
                .args(["-q", "download", &wanted])
                .current_dir(scratch))
            .context("is the package list old? remove target/apt/ready and run hw-tests/setup")?;
            let archive = fs::read_dir(scratch)?
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
                .with_context(|| format!("apt-get downloaded no file for {wanted}"))?;
            let tree = scratch.join("tree");
            run(tool("dpkg-deb").arg("-x").arg(archive).arg(&tree))?;
            finish(&tree)?;
            Ok(tree)
        })?;
        Ok(made.path)
    }

    /// The folder with what is in the package.
    ///
    /// # Errors
    /// When it cannot be downloaded or unpacked.
    pub fn tree(&self, package: &Package) -> Result<PathBuf> {
        self.unpacked(package, |_| Ok(()))
    }

    /// A kernel with its modules indexed.
    ///
    /// # Errors
    /// When it cannot be downloaded, unpacked or indexed.
    pub fn kernel_tree(&self, package: &Package) -> Result<KernelTree> {
        KernelTree::open(&self.unpacked(package, KernelTree::index)?)
    }
}

/// The installed versions of packages whose tools shape an artifact, for its key.
///
/// # Errors
/// When one of them is not installed.
pub fn installed(names: &[&str]) -> Result<String> {
    text(tool("dpkg-query").args(["-W", "-f", "${Package} ${Version}\n"]).args(names))
        .context("a tool's package is missing: run hw-tests/setup")
}

/// A field of a control paragraph.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
