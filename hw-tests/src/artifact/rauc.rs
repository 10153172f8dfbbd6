//! RAUC, which writes updates on the appliance and makes and signs their bundles here: built, once, of the source
//! of the Debian release after ours, without its D-Bus service. Ours has version 1.8, whose program wants D-Bus
//! and systemd.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::Workshop;
use super::command::{run, text, tool};
use super::debian::{Mirror, installed};
use super::workshop::Key;

/// The release whose source is built.
const SUITE: &str = "trixie";
/// What it is built with: its libraries become part of the program.
const TOOLS: [&str; 7] =
    ["gcc", "binutils", "meson", "ninja-build", "pkg-config", "libglib2.0-dev", "libssl-dev"];
/// Neither a service nor the network, and no partitions of its own making: a bundle is a file, a slot is there.
const OPTIONS: [&str; 8] = [
    "-Dservice=false",
    "-Dnetwork=false",
    "-Dstreaming=false",
    "-Djson=disabled",
    "-Dgpt=disabled",
    "-Dtests=false",
    "--prefer-static",
    "--buildtype=release",
];

/// The program: half a minute of one processor, the first time.
///
/// # Errors
/// When the source cannot be downloaded, a tool is missing, or the build fails.
pub fn program(workshop: &Workshop) -> Result<PathBuf> {
    let mirror = Mirror::open(workshop)?;
    let key = Key::new("rauc", 1).with(installed(&TOOLS)?).with(OPTIONS.join(" ")).name();
    let made = workshop.make(&format!("rauc-{key}"), |scratch| {
        let source = mirror.source("rauc", SUITE, scratch)?;
        // Names in it are relative to the folder it is built in, so the place does not matter.
        run(tool("meson").args(["setup", "build"]).args(OPTIONS).current_dir(&source))?;
        run(tool("ninja").args(["-j2", "-C", "build", "rauc"]).current_dir(&source))?;
        let program = source.join("build/rauc");
        run(tool("strip").arg(&program))?;
        let said = text(tool(&program.to_string_lossy()).arg("--version"))?;
        ensure!(said.starts_with("rauc "), "the program that was built says '{}'", said.trim());
        let out = scratch.join("rauc");
        fs::rename(&program, &out).with_context(|| format!("cannot keep {}", out.display()))?;
        Ok(out)
    })?;
    Ok(made.path)
}
