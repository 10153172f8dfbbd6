//! GRUB's environment block (GRUB's manual, 15.2): what the boot loader and the running system tell each
//! other of the slots, by RAUC's variables: `ORDER`, and for each slot `OK` and `TRY`.

use crate::esp;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;

/// Octets of a block; GRUB writes it in place, so this never changes.
pub const SIZE: usize = 1024;
const HEAD: &str = "# GRUB Environment Block\n";

/// The variables, in the block's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block(Vec<(String, String)>);

impl Block {
    /// Reads a block.
    ///
    /// # Errors
    /// It is none, or a line of it is no variable.
    pub fn parse(octets: &[u8]) -> Result<Block> {
        let Some(text) = core::str::from_utf8(octets).ok().and_then(|text| text.strip_prefix(HEAD)) else {
            bail!("it does not begin with {HEAD:?}")
        };
        let mut block = Block::default();
        let mut rest = text;
        while !rest.is_empty() && !rest.starts_with('#') {
            let Some((name, after)) = rest.split_once('=') else { bail!("{rest:?} is no variable") };
            ensure!(!name.is_empty() && !name.contains('\n'), "{name:?} is no variable's name");
            let mut value = String::new();
            let mut letters = after.char_indices();
            rest = loop {
                match letters.next() {
                    Some((at, '\n')) => break after.get(at + 1..).unwrap_or_default(),
                    // A backslash makes the next letter, a line's end among them, one of the value.
                    Some((_, '\\')) => value.extend(letters.next().map(|(_, letter)| letter)),
                    Some((_, letter)) => value.push(letter),
                    None => bail!("{name} has no end"),
                }
            };
            block.set(name, &value);
        }
        Ok(block)
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    /// Gives a variable a value.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(there, _)| there == name) {
            Some((_, there)) => value.clone_into(there),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The block as it is written.
    ///
    /// # Errors
    /// The variables do not fit.
    pub fn octets(&self) -> Result<Vec<u8>> {
        let mut text = HEAD.to_owned();
        for (name, value) in &self.0 {
            let value = value.replace('\\', "\\\\").replace('\n', "\\\n");
            text.extend([name, "=", &value, "\n"]);
        }
        ensure!(text.len() <= SIZE, "GRUB's variables take {} octets of {SIZE}", text.len());
        let mut octets = text.into_bytes();
        octets.resize(SIZE, b'#');
        Ok(octets)
    }
}

/// What RAUC calls as `grub-editenv FILE list` and `grub-editenv FILE set NAME=VALUE…`.
///
/// # Errors
/// The file system's, and words that are neither.
pub fn edit(mut words: impl Iterator<Item = String>) -> Result<()> {
    let file = words.next().context("usage: grub-editenv FILE list | set NAME=VALUE…")?;
    let file = Path::new(&file);
    match words.next().as_deref() {
        Some("list") => {
            for (name, value) in esp::variables(file)?.0 {
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
