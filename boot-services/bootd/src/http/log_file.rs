use boot::Attempt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

/// Octets an attempt's log may have, the note about its cut apart.
pub(super) const MOST: u64 = 4 << 20;
const NOTE: &str = "(the log is cut here: it is longer than 4 MiB)\n";

/// The log of an attempt: `DIRECTORY/ATTEMPT.log`, mode 0640, appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    /// Whether it was said that it cannot be written.
    complained: bool,
}

impl LogFile {
    /// Opens nothing yet. An attempt's name holds no slash and does not begin with a dot.
    pub(super) fn new(directory: &Path, attempt: &Attempt) -> LogFile {
        LogFile { path: directory.join(format!("{attempt}.log")), file: None, complained: false }
    }

    /// Appends lines. A disk that refuses them is complained of once; the agent's work does not end for it.
    pub(super) async fn append(mut self, lines: Vec<String>) -> LogFile {
        let path = self.path.clone();
        let done = spawn_blocking(move || {
            match self.write(&lines) {
                Err(e) if !self.complained => {
                    self.complained = true;
                    log::warn!(target: "http", file:% = self.path.display(), error:% = e; "agent's log not written");
                }
                _ => {}
            }
            self
        });
        done.await.unwrap_or(LogFile { path, file: None, complained: true })
    }

    fn write(&mut self, lines: &[String]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                if let Some(directory) = self.path.parent() {
                    fs::create_dir_all(directory)?;
                }
                none.insert(File::options().append(true).create(true).mode(0o640).open(&self.path)?)
            }
        };
        let size = file.metadata()?.len();
        if size >= MOST {
            return Ok(());
        }
        let mut text = String::new();
        for line in lines {
            // A person reads it at a terminal, which obeys control characters.
            text.extend(line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }));
            text.push('\n');
            if size + text.len() as u64 >= MOST {
                let mut cut = (MOST - size) as usize;
                while !text.is_char_boundary(cut) {
                    cut -= 1;
                }
                text.truncate(cut);
                text.extend(core::iter::repeat_n('\n', (MOST - size) as usize - cut));
                text.push_str(NOTE);
                break;
            }
        }
        file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
