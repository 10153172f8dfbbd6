//! GRUB's environment block (GRUB's manual, 15.2): what the boot loader and the running system tell each
//! other of the slots, by RAUC's variables: `ORDER`, and for each slot `OK` and `TRY`.

use anyhow::{Result, bail, ensure};

/// Octets of a block; GRUB writes it in place, so this never changes.
pub const SIZE: usize = 1024;
const HEAD: &str = "# GRUB Environment Block\n";

/// The variables, in the block's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block(Vec<(String, String)>);

impl Block {
    /// All of them.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

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

#[cfg(test)]
mod tests;
