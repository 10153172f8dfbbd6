//! Our log format: `LEVEL area: phrase key=value`, on standard error.

use log::kv::{Error, Key, Value, VisitSource};
use std::io::{self, Write};

/// Begins to log, at the level in `KILN_LOG` (default `info`; the syntax of env_logger).
pub fn start() {
    let environment = env_logger::Env::new().filter_or("KILN_LOG", "info");
    let format = |out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| -> io::Result<()> {
        write!(out, "{} {}: {}", record.level(), area(record.target()), record.args())?;
        let mut fields = Fields(out, Ok(()));
        // It fails only as our own visitor does, and that keeps why.
        let _ = record.key_values().visit(&mut fields);
        fields.1?;
        writeln!(out)
    };
    // A second start, in a test, goes on with the first.
    let _ = env_logger::Builder::from_env(environment).format(format).try_init();
}

/// A target is an area by itself, or a path of modules that ends in one.
fn area(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

struct Fields<'a, W>(&'a mut W, io::Result<()>);

impl<'kvs, W: Write> VisitSource<'kvs> for Fields<'_, W> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let text = value.to_string();
        let plain =
            !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c.is_control());
        let written = if plain { write!(self.0, " {key}={text}") } else { write!(self.0, " {key}={text:?}") };
        if written.is_err() {
            self.1 = written;
        }
        Ok(())
    }
}
