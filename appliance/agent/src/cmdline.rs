//! Who the agent works for: the kernel's command line, or its own.

use agent_proto::{CMDLINE_ATTEMPT, CMDLINE_BOOTIF, CMDLINE_TOKEN, CMDLINE_URL};
use boot::{Attempt, Mac, Secret};
use std::net::{IpAddr, SocketAddr};

/// The appliance, as this attempt may speak to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Appliance {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Path before all paths; without a slash at its end.
    pub(crate) prefix: String,
    /// The attempt.
    pub(crate) attempt: Attempt,
    /// What shows that we are of that attempt.
    pub(crate) token: Secret,
}

impl Appliance {
    /// From the three texts of the command line; an error says which is wrong.
    pub(crate) fn new(url: &str, attempt: &str, token: &str) -> Result<Appliance, String> {
        let (address, prefix) = base(url)?;
        let attempt = attempt.parse().map_err(|e| format!("attempt: {e}"))?;
        // It becomes a header line (RFC 6750, 2.1: b64token).
        if token.is_empty() || token.len() > 256 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("token: 1 to 256 printable characters without spaces are expected".into());
        }
        Ok(Appliance { address, prefix, attempt, token: Secret::new(token) })
    }

    /// From the kernel's command line; an error names what is missing.
    pub(crate) fn from_kernel(cmdline: &str) -> Result<Appliance, String> {
        let word = |key| {
            let missing =
                || format!("{key}= is not on the kernel command line; the boot script must give it");
            word(cmdline, key).ok_or_else(missing)
        };
        Appliance::new(word(CMDLINE_URL)?, word(CMDLINE_ATTEMPT)?, word(CMDLINE_TOKEN)?)
    }
}

/// The interface the firmware booted by: `01-52-54-00-12-34-56`, hardware type Ethernet before it.
pub(crate) fn bootif(cmdline: &str) -> Option<Mac> {
    word(cmdline, CMDLINE_BOOTIF)?.strip_prefix("01-")?.parse().ok()
}

/// The value of the last `key=value`: a boot loader appends to what its configuration says.
pub(crate) fn word<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')).next_back()
}

fn base(url: &str) -> Result<(SocketAddr, String), String> {
    let wrong = || {
        format!("url: {url:?} is not like http://10.7.0.1 (an address, no name: nothing resolves names here)")
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let bare = authority.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(authority);
    let address = match authority.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => SocketAddr::new(bare.parse::<IpAddr>().map_err(|_| wrong())?, 80),
    };
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong());
    }
    let path = path.trim_matches('/');
    Ok((address, if path.is_empty() { String::new() } else { format!("/{path}") }))
}

#[cfg(test)]
mod tests;
