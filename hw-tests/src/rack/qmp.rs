//! QEMU's machine protocol, as much of it as a chassis needs.

use super::wait::{self, Deadline};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

const LONGEST_LINE: u64 = 1 << 20;
const MOST_EVENTS: usize = 1000;

/// A connection to one machine.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    deadline: Deadline,
}

impl Qmp {
    /// Connects as soon as QEMU listens; `patience` is for this and for all that is done on it.
    ///
    /// # Errors
    /// QEMU does not listen in time, or what does is no QEMU.
    pub(super) fn connect(socket: &Path, patience: Duration) -> Result<Qmp> {
        let deadline = Deadline::after(patience);
        let what = format!("QEMU to listen on {}", socket.display());
        let stream = wait::until(patience, &what, || Ok(UnixStream::connect(socket).ok()))?;
        let mut qmp = Qmp { stream: BufReader::new(stream), deadline };
        qmp.line()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// One command and its answer.
    ///
    /// # Errors
    /// QEMU refuses it, with its words; or does not answer in time.
    pub(super) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        for _event in 0..MOST_EVENTS {
            let line = self.line()?;
            if let Some(answer) = line.get("return") {
                return Ok(answer.clone());
            }
            if let Some(error) = line.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"].as_str().unwrap_or("without a word"));
            }
        }
        bail!("QEMU tells events without end and does not answer {command}")
    }

    fn line(&mut self) -> Result<Value> {
        let left = self.deadline.left().context("QEMU does not answer on its QMP socket")?;
        self.stream.get_ref().set_read_timeout(Some(left))?;
        let mut line = String::new();
        let read = self.stream.by_ref().take(LONGEST_LINE).read_line(&mut line);
        if read.context("QEMU does not answer on its QMP socket")? == 0 {
            bail!("QEMU closed its QMP socket");
        }
        serde_json::from_str(&line).context("what listens on the QMP socket is no QEMU")
    }
}
