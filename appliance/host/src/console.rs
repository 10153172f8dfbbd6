//! What a person at the box sees.

use crate::clock;
use std::{
    fs::{self, OpenOptions},
    io::{Write as _, stderr},
};

/// Says a line on every console of the machine, when PID 1 or started by it; else on standard error.
pub fn say(text: &str) {
    write(&format!("kiln: {text}\n"));
}

/// Writes as [`say`] does, without a word before it.
pub fn write(text: &str) {
    // A console that nobody can write to must keep nothing from being done.
    let is_of_init = std::process::id() == 1 || nix::unistd::getppid().as_raw() == 1;
    let consoles = match is_of_init {
        true => fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default(),
        false => String::new(),
    };
    let mut said = false;
    for console in consoles.split_whitespace() {
        let device = OpenOptions::new().write(true).open(format!("/dev/{console}"));
        said |= device.and_then(|mut device| device.write_all(text.replace('\n', "\r\n").as_bytes())).is_ok();
    }
    if !said {
        let _ = stderr().write_all(text.as_bytes());
    }
}

/// Says what it waits for when that takes longer than a moment, once.
pub struct Waiting<'a> {
    what: &'a str,
    began: sansio::Time,
    longest: std::time::Duration,
    said: bool,
}

impl<'a> Waiting<'a> {
    /// A wait of so long at most.
    pub fn new(what: &'a str, longest: std::time::Duration) -> Waiting<'a> {
        Waiting { what, began: clock::now(), longest, said: false }
    }

    /// How long there is still to wait; nothing: not any more.
    pub fn left(&mut self) -> Option<std::time::Duration> {
        let waited = clock::now().since(self.began);
        let left = self.longest.checked_sub(waited).filter(|left| !left.is_zero())?;
        if !self.said {
            say(&format!("waits for {}, {} s at most", self.what, self.longest.as_secs()));
            self.said = true;
        }
        Some(left)
    }
}
