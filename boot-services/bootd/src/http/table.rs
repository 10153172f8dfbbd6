use crate::library::Library;
use boot::{Attempt, Digest, HttpPlan, Script, Session};
use std::collections::HashMap;
use std::path::PathBuf;

/// A plan as requests want it: by path. Nothing else is served, so no path leads anywhere else.
#[derive(Debug, Default)]
pub(super) struct Table {
    assets: HashMap<String, PathBuf>,
    scripts: HashMap<String, Script>,
    sessions: HashMap<Attempt, Session>,
    pub(super) library: Option<Library>,
    pub(super) logs: Option<PathBuf>,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Place<'a> {
    Asset(&'a PathBuf),
    Script(&'a Script),
    Image(Digest),
    Manifest(Digest),
    Agent(&'a Session),
    ConfigDrive(&'a Session, &'a str),
    Nowhere(&'static str),
}

impl Table {
    pub(super) fn of(plan: &HttpPlan) -> Table {
        Table {
            assets: plan.assets.iter().map(|a| (a.path.clone(), PathBuf::from(&a.file))).collect(),
            scripts: plan.scripts.iter().map(|s| (s.path.clone(), s.clone())).collect(),
            sessions: plan.sessions.iter().map(|s| (s.attempt.clone(), s.clone())).collect(),
            library: plan.images.as_ref().map(Library::new),
            logs: plan.logs.as_ref().map(PathBuf::from),
        }
    }

    /// What is at a request's path, which may be percent-encoded (RFC 3986, 2.1).
    pub(super) fn place(&self, path: &str) -> Place<'_> {
        let decoded = decoded(path);
        let path = decoded.as_deref().unwrap_or(path);
        if let Some(script) = self.scripts.get(path) {
            return Place::Script(script);
        }
        if let Some(file) = self.assets.get(path) {
            return Place::Asset(file);
        }
        let mut parts = path.split('/').skip(1);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("image"), Some(digest), rest, None) => match (digest.parse(), rest) {
                (Ok(digest), None) => Place::Image(digest),
                (Ok(digest), Some("manifest")) => Place::Manifest(digest),
                _ => Place::Nowhere("not an image's path"),
            },
            (Some("agent"), Some(attempt), rest, None) => {
                let session = attempt.parse::<Attempt>().ok().and_then(|attempt| self.sessions.get(&attempt));
                match (session, rest) {
                    (Some(session), None) => Place::Agent(session),
                    (Some(session), Some("config-drive")) => match &session.config_drive {
                        Some(file) => Place::ConfigDrive(session, file),
                        None => Place::Nowhere("this attempt has no config drive"),
                    },
                    (None, _) => Place::Nowhere("no such attempt in the plan"),
                    _ => Place::Nowhere("not an agent's path"),
                }
            }
            _ => Place::Nowhere("not in the plan"),
        }
    }

    /// Whether a token may come in at this attempt.
    pub(super) fn session(&self, attempt: &Attempt, token: &str) -> Option<&Session> {
        self.sessions.get(attempt).filter(|session| allows(session, token))
    }

    /// What a token may read of an image: `None`, it is nobody's; `Some(false)`, it is another image's.
    pub(super) fn may_read(&self, token: &str, image: &Digest) -> Option<bool> {
        self.sessions
            .values()
            .filter(|session| allows(session, token))
            .map(|session| session.images.contains(image))
            .max()
    }

    /// Whether some session may read an image.
    pub(super) fn lists(&self, image: &Digest) -> bool {
        self.sessions.values().any(|session| session.images.contains(image))
    }

    /// Whether the plan has scripts or a session of an attempt.
    pub(super) fn knows(&self, attempt: &Attempt) -> bool {
        self.sessions.contains_key(attempt)
            || self.scripts.values().any(|script| script.attempt.as_ref() == Some(attempt))
    }
}

/// Whether a token is a session's. An empty one is nobody's.
pub(super) fn allows(session: &Session, token: &str) -> bool {
    !token.is_empty() && session.token.matches(token)
}

fn decoded(path: &str) -> Option<String> {
    if !path.contains('%') {
        return None;
    }
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|o| (*o as char).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                octets.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                octets.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests;
