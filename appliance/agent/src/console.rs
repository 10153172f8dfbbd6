//! The log: a line on the console, and the same line for the connection.

use crate::{board::Board, clock};
use log::{
    Level, LevelFilter, Log, Metadata, Record,
    kv::{Error, Key, Value, VisitSource},
};
use std::{
    fmt::Write as _,
    io::{Write as _, stderr},
    sync::Arc,
};

/// Writes to the console (standard error) and the board.
struct Console {
    board: Arc<Board>,
}

/// Makes it the log of this process; does nothing the second time.
pub(crate) fn install(board: Arc<Board>) {
    if log::set_boxed_logger(Box::new(Console { board })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Console {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = clock::now();
        let line = line(record);
        // One write per line, so that the kernel's own lines do not come in between. A console that
        // cannot be written to must not keep a disk from being.
        let text = format!("[{:6}.{:03}] {line}\n", now.millis() / 1000, now.millis() % 1000);
        let _ = stderr().write_all(text.as_bytes());
        self.board.line(line, now);
    }

    fn flush(&self) {}
}

/// `info a phrase key=value`, with quotes where a value has spaces; control characters are escaped.
fn line(record: &Record<'_>) -> String {
    let mut line = format!("{} ", record.level().as_str().to_ascii_lowercase());
    escape(&mut line, &record.args().to_string());
    // A String takes all that is written to it.
    let _ = record.key_values().visit(&mut Fields(&mut line));
    line
}

struct Fields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let value = value.to_string();
        write!(self.0, " {key}=")?;
        if value.is_empty() || value.contains([' ', '"']) {
            self.0.push('"');
            escape(self.0, &value.replace('"', "'"));
            self.0.push('"');
        } else {
            escape(self.0, &value);
        }
        Ok(())
    }
}

fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests;
