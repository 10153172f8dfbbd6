//! `grub-editenv`, as RAUC calls it.

use crate::esp;
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// What RAUC calls as `grub-editenv FILE list` and `grub-editenv FILE set NAME=VALUE…`.
///
/// # Errors
/// The file system's, and words that are neither.
pub fn edit(mut words: impl Iterator<Item = String>) -> Result<()> {
    let file = words.next().context("usage: grub-editenv FILE list | set NAME=VALUE…")?;
    let file = Path::new(&file);
    match words.next().as_deref() {
        Some("list") => {
            for (name, value) in esp::variables(file)?.variables() {
                println!("{name}={value}");
            }
            Ok(())
        }
        Some("set") => {
            let pairs: Vec<(String, String)> = words
                .map(|word| {
                    let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
                    pair.with_context(|| format!("{word:?} is not NAME=VALUE"))
                })
                .collect::<Result<_>>()?;
            esp::change(file, |block| pairs.iter().for_each(|(name, value)| block.set(name, value)))?;
            Ok(())
        }
        other => bail!("{:?} is neither list nor set", other.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
