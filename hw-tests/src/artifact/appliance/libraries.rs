//! Debian's own programs that the appliance runs, and the shared libraries they want.
//!
//! All are taken from Debian's packages, none from the build machine: what each file asks for (NEEDED in its
//! dynamic section, and its interpreter) is looked for in [`PACKAGES`], and what is in none of them is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::artifact::command::{text, tool};

/// Where programs and libraries are looked for.
pub(super) const PACKAGES: [&str; 36] = [
    "nftables",
    "e2fsprogs",
    "dropbear-bin",
    "chrony",
    "libblkid1",
    "libbsd0",
    "libc6",
    "libcap2",
    "libcom-err2",
    "libcrypt1",
    "libedit2",
    "libext2fs2",
    "libffi8",
    "libgmp10",
    "libgnutls30",
    "libhogweed6",
    "libidn2-0",
    "libjansson4",
    "libmd0",
    "libmnl0",
    "libmount1",
    "libnettle8",
    "libnftables1",
    "libnftnl11",
    "libp11-kit0",
    "libpcre2-8-0",
    "libseccomp2",
    "libselinux1",
    "libtasn1-6",
    "libtinfo6",
    "libtomcrypt1",
    "libtommath1",
    "libunistring2",
    "libuuid1",
    "libxtables12",
    "zlib1g",
];

/// In the image, and in its package.
const PROGRAMS: [(&str, &str); 7] = [
    ("sbin/nft", "usr/sbin/nft"),
    ("sbin/mke2fs", "sbin/mke2fs"),
    ("sbin/e2fsck", "sbin/e2fsck"),
    ("sbin/resize2fs", "sbin/resize2fs"),
    ("usr/sbin/dropbear", "usr/sbin/dropbear"),
    ("usr/bin/dropbearkey", "usr/bin/dropbearkey"),
    ("usr/sbin/chronyd", "usr/sbin/chronyd"),
];

/// One of the folders that Debian's ld.so looks in without a cache of its own.
const FOLDER: &str = "lib/x86_64-linux-gnu";
const FOLDERS: [&str; 3] = [FOLDER, "usr/lib/x86_64-linux-gnu", "lib64"];

/// Path in the image, and the file, of every program and every library; the libraries of `others` too.
pub(super) fn with_programs(packages: &[PathBuf], others: &[&Path]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut wanting: Vec<PathBuf> = others.iter().map(|file| file.to_path_buf()).collect();
    for (path, inside) in PROGRAMS {
        let file = packages.iter().map(|tree| tree.join(inside)).find(|file| file.is_file());
        let file = file.with_context(|| format!("no package of the list holds {inside}"))?;
        wanting.push(file.clone());
        found.insert(path.to_owned(), file);
    }
    while let Some(file) = wanting.pop() {
        for wanted in wants(&file)? {
            let name = wanted.rsplit('/').next().unwrap_or(&wanted);
            // The interpreter is asked for by its path, any other library by its name alone.
            let path = if wanted.starts_with('/') {
                wanted.trim_start_matches('/').to_owned()
            } else if name.starts_with("ld-linux") {
                continue;
            } else {
                format!("{FOLDER}/{name}")
            };
            if found.contains_key(&path) {
                continue;
            }
            let library = packages
                .iter()
                .flat_map(|tree| FOLDERS.map(|folder| tree.join(folder).join(name)))
                .find(|file| file.is_file())
                .with_context(|| {
                    format!("{} wants {name}, which no package of the list holds", file.display())
                })?;
            wanting.push(library.clone());
            found.insert(path, library);
        }
    }
    Ok(found)
}

/// What a program or library asks for: names of libraries, and the interpreter's path.
fn wants(file: &Path) -> Result<Vec<String>> {
    let said = text(tool("readelf").args(["-ldW"]).arg(file))?;
    let between = |line: &str, start: &str| {
        line.split_once(start).and_then(|(_, rest)| Some(rest.split_once(']')?.0.trim().to_owned()))
    };
    Ok(said
        .lines()
        .filter_map(|line| {
            between(line, "Shared library: [").or_else(|| between(line, "Requesting program interpreter: "))
        })
        .collect())
}
