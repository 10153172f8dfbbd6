//! The boot loader: GRUB for BIOS and UEFI, its configuration, and the file it keeps the slots' state in.

use std::path::Path;

use anyhow::Result;
use host::grubenv::Block;

use crate::artifact::disk::{Platform, grub_core};

/// What GRUB does: `rootfs/boot/grub.cfg`.
pub(super) const CONFIGURATION: &str = include_str!("../../../../rootfs/boot/grub.cfg");

/// Where GRUB finds its configuration on the ESP.
pub const FOLDER: &str = "grub";

/// GRUB's modules, on BIOS and UEFI alike.
pub const MODULES: [&str; 21] = [
    "part_gpt",
    "fat",
    "squash4",
    "gzio",
    "normal",
    "linux",
    "configfile",
    "loadenv",
    "probe",
    "regexp",
    "test",
    // And `false`.
    "true",
    "echo",
    "sleep",
    "reboot",
    "keystatus",
    "serial",
    "terminal",
    "minicmd",
    // For an operator at its prompt.
    "ls",
    "cat",
];

/// GRUB's core for BIOS, and its program for UEFI. Both read the ESP of the disk they were started from: a
/// box may have another disk with the same image on it.
pub(super) fn cores(bios: &Path, uefi: &Path) -> Result<()> {
    grub_core(Platform::Bios, "(,gpt2)/grub", &[&MODULES[..], &["biosdisk"]].concat(), bios)?;
    grub_core(Platform::Uefi, "/grub", &[&MODULES[..], &["efi_gop", "efi_uga"]].concat(), uefi)
}

/// The file `grubenv` of an image that was never booted: slot B is empty.
pub const FIRST: [(&str, &str); 6] =
    [("ORDER", "A B"), ("A_OK", "1"), ("B_OK", "0"), ("A_TRY", "0"), ("B_TRY", "0"), ("TRIAL", "")];

/// A GRUB environment block with these variables.
///
/// # Errors
/// When they do not fit.
pub fn environment(variables: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut block = Block::default();
    variables.iter().for_each(|(name, value)| block.set(name, value));
    block.octets()
}

#[cfg(test)]
mod tests;
