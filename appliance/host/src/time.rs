//! The time of day: never before this system was made, and whose word it is.

use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// os-release's: when this system was made, in seconds since 1970.
pub const BUILT: &str = "KILN_BUILT";
/// chrony; the supervisor runs it for as long as the box does.
pub const CLIENT: &str = "/usr/sbin/chronyd";
const PID: &str = "/run/kiln/ntp.pid";
/// Seconds to wait for the first answer, with the services behind it: a link takes three to come up, and a lost question
/// is asked again after two.
const PATIENCE: &str = "6";
/// Less than this is a clock that goes wrong, not one that was lost.
const DAY: i64 = 86_400;

/// Whose word the time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A time server's.
    Ntp,
    /// The hardware clock's, as far as it goes.
    HardwareClock,
    /// Nobody's: the hardware clock was lost, and this is when the system was made.
    Build,
}

impl Source {
    /// As people read it, given whose word it was when the box came up.
    pub fn words(self) -> &'static str {
        let is_synchronised = kernel::look().is_ok_and(|seen| seen.is_synchronised);
        match self {
            _ if is_synchronised => "by NTP",
            Source::Ntp => "by NTP when the box came up",
            Source::HardwareClock => "by the hardware clock",
            Source::Build => "since this system was made: the hardware clock is lost",
        }
    }
}

/// How far a clock has to be set forward, in seconds, so that it is not before the build.
pub fn forward(now: i64, built: i64) -> Option<i64> {
    (now < built).then(|| built - now)
}

/// Sets the clock forward if it is before the build; returns whose word it is then, and what is wrong.
pub fn not_before(built: Option<i64>) -> (Source, Option<String>) {
    let Ok(seen) = kernel::look() else { return (Source::HardwareClock, None) };
    let Some(step) = built.and_then(|built| forward(seen.seconds, built)) else {
        return (Source::HardwareClock, None);
    };
    let behind = if step < DAY { format!("{} h", step / 3600) } else { format!("{} days", step / DAY) };
    let trouble = match kernel::step(step) {
        Ok(()) => format!(
            "the hardware clock was {behind} before this system was made: look at the box's battery, and give it time servers (ntp = in [uplink])"
        ),
        Err(e) => format!("the clock is {behind} before this system was made and cannot be set: {e}"),
    };
    (Source::Build, Some(trouble))
}

/// Sets the clock by time servers before anything reads it: what runs later goes by the time it began with. A server that
/// is there answers at once.
///
/// # Errors
/// None does, or there is no client: what is wrong, and what to do.
pub fn ask(servers: &[Ipv4Addr]) -> Result<(), String> {
    // Of an earlier start; chrony would take a process of that number for another chrony.
    let _ = fs::remove_file(PID);
    let mut chrony = Command::new(CLIENT);
    // chronyd(8): -q sets the clock once and ends; by one measurement, not by four.
    chrony.args(["-q", "-t", PATIENCE, "-u", "kiln-ntp", "-F", "1", "-L", "1"]);
    chrony.args(["port 0", "cmdport 0", "bindcmdaddress /", &format!("pidfile {PID}")]);
    chrony.args(servers.iter().map(|server| format!("server {server} iburst maxsamples 1")));
    match chrony.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => {
            let list = servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(format!(
                "no time server answered when the box came up ({list}): look at ntp = and gateway = in [uplink]; they are asked on"
            ))
        }
        Err(e) => Err(format!("{CLIENT} cannot be run ({e}): this system is not whole, install another")),
    }
}

mod kernel {
    use super::io;
    use nix::libc;

    pub(super) struct Seen {
        /// Since 1970.
        pub(super) seconds: i64,
        /// Whether somebody keeps it in step with better clocks.
        pub(super) is_synchronised: bool,
    }

    /// The kernel's clock.
    pub(super) fn look() -> io::Result<Seen> {
        let buf = adjust(0, 0)?;
        Ok(Seen { seconds: buf.time.tv_sec, is_synchronised: buf.status & libc::STA_UNSYNC == 0 })
    }

    /// Sets it forward.
    pub(super) fn step(seconds: i64) -> io::Result<()> {
        adjust(libc::ADJ_SETOFFSET, seconds).map(drop)
    }

    fn adjust(modes: libc::c_uint, seconds: i64) -> io::Result<libc::timex> {
        // SAFETY: a timex is numbers only, and zeros are values of all of them.
        // JUSTIFICATION: it has private padding, so that it cannot be written out.
        let mut buf: libc::timex = unsafe { std::mem::zeroed() };
        buf.modes = modes;
        buf.time.tv_sec = seconds;
        // SAFETY: the structure is the kernel's own, and lives for the call.
        // JUSTIFICATION: nix has no adjtimex(2), and nothing else tells whether the clock is synchronised.
        if unsafe { libc::adjtimex(&raw mut buf) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(buf)
    }
}

#[cfg(test)]
mod tests;
