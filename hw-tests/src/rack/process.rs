//! Processes as `/proc` shows them, and files that name one.

use anyhow::{Context as _, Result};
use std::{fs, io, path::Path};

#[cfg(test)]
mod tests;

/// One process: its number and when it started, so that a later process of the same number is not taken
/// for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its number.
    pub(super) pid: i32,
    started: u64,
}

impl Process {
    /// The process of that number; `None` if there is none or if it is a zombie.
    pub(super) fn of(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc(5): field 2 is the name in parentheses, which may hold anything; 3 the state, 20 the number
        // of threads, 22 the start.
        let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        let started = fields.get(19)?.parse().ok()?;
        // The first thread is a zombie before the others have let go of files and interfaces.
        let ended = matches!(*fields.first()?, "Z" | "X") && threads <= 1;
        (!ended).then_some(Process { pid, started })
    }

    /// This process.
    pub(super) fn own() -> Option<Process> {
        Process::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it runs: a zombie does not.
    pub(super) fn runs(self) -> bool {
        Process::of(self.pid) == Some(self)
    }

    /// Ends it at once, like a power cut; not at all if it does not run.
    pub(super) fn kill(self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
    }

    /// Sends it a signal; none if it does not run.
    pub(super) fn signal(self, signal: nix::sys::signal::Signal) {
        if self.runs() {
            // It may end between the look and the signal; then there is nothing left to do.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), signal);
        }
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(self, path: &Path) -> Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.started))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads it from a file that [`Process::write`] wrote; `None` if the file is not there or cut short.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(super) fn read(path: &Path) -> Result<Option<Process>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Process::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(text: &str) -> Option<Process> {
        let (pid, started) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Process { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }
}

/// The numbers of all processes there are.
pub(super) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
