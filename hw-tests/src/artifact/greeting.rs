//! What a user image says on port 80: one line that names the image and the node it runs on.

use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use boot::Mac;

/// `kiln-tiny HOST MAC ADDRESS`, in the body of an HTTP/1.0 response that is sent whether or not
/// anything was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Which image: `tiny` or `debian`.
    pub image: String,
    /// The host name it runs under.
    pub host: String,
    /// The network card that got the address.
    pub mac: Mac,
    /// The address it got.
    pub address: Ipv4Addr,
}

impl FromStr for Greeting {
    type Err = Error;

    /// Takes the whole response, or the bare line.
    fn from_str(said: &str) -> Result<Self> {
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("kiln-"))
            .with_context(|| format!("no line of it begins with kiln-: {said:?}"))?;
        let mut words = line.split_whitespace();
        let mut word =
            |what| words.next().with_context(|| format!("the greeting 'kiln-{line}' lacks its {what}"));
        Ok(Self {
            image: word("image")?.to_owned(),
            host: word("host")?.to_owned(),
            mac: word("MAC")?
                .parse()
                .with_context(|| format!("the greeting 'kiln-{line}' has no MAC in the third place"))?,
            address: word("address")?
                .parse()
                .with_context(|| format!("the greeting 'kiln-{line}' has no address in the last place"))?,
        })
    }
}

#[cfg(test)]
mod tests;
