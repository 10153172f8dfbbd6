//! fio with its libiscsi engine, which Debian's package leaves out: built from Debian's source, once.

use anyhow::{Context as _, Result, ensure};
use hw_tests::artifact::Workshop;
use hw_tests::artifact::command::{run, text, tool};
use hw_tests::artifact::debian::{Mirror, STABLE, installed};
use hw_tests::artifact::workshop::Key;
use hw_tests::targets::{INITIATOR, Target};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What the source is built with.
const TOOLS: [&str; 4] = ["gcc", "make", "libiscsi-dev", "pkg-config"];

/// Where the engine has made its context, before it logs in.
const BEFORE_LOGIN: &str = "\tif (iscsi_set_session_type(";
/// What the engine leaves out: it reads the name and the secret in the URL and does not use them.
const CHAP: &str = "\tif (iscsi_lun->url->user[0])
\t\tiscsi_set_initiator_username_pwd(iscsi_lun->iscsi, iscsi_lun->url->user, iscsi_lun->url->passwd);
";

/// The program.
pub(crate) struct Fio(PathBuf);

/// One load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// fio's word: read, write, randread, randwrite.
    pub(crate) pattern: &'static str,
    /// Octets of a command.
    pub(crate) block: u64,
    /// Commands under way in each session.
    pub(crate) depth: u32,
    /// Sessions.
    pub(crate) sessions: u32,
}

/// What was moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    /// Octets.
    pub(crate) octets: u64,
    /// Octets a second.
    pub(crate) rate: f64,
    /// The middle one of the commands' latencies, in microseconds.
    pub(crate) median_us: f64,
}

impl Fio {
    /// Builds it in `target/artifacts` unless it is there: a minute.
    pub(crate) fn open(workshop: &Workshop) -> Result<Fio> {
        let mirror = Mirror::open(workshop)?;
        let tools = installed(&TOOLS).with_context(|| format!("apt-get install {}", TOOLS.join(" ")))?;
        let key = Key::new("fio", 2).with(tools).name();
        let made = workshop.make(&format!("fio-libiscsi-{key}"), |scratch| {
            println!("iscsi: builds fio with its libiscsi engine, once");
            build(&mirror, scratch)
        })?;
        Ok(Fio(made.path))
    }

    /// Loads a target for so many seconds on one processor.
    pub(crate) fn load(&self, target: &Target, load: Load, processor: usize, seconds: f64) -> Result<Moved> {
        let millis = format!("--runtime={}ms", (seconds * 1000.0) as u64);
        self.run(target, load, processor, &["--time_based", &millis])
    }

    /// Writes the whole disk once.
    pub(crate) fn fill(&self, target: &Target, processor: usize) -> Result<()> {
        let load = Load { pattern: "write", block: 1 << 20, depth: 8, sessions: 1 };
        let size = target.offer().size;
        let moved = self.run(target, load, processor, &[&format!("--size={size}")])?;
        ensure!(moved.octets == size, "fio wrote {} octets of {size}", moved.octets);
        Ok(())
    }

    fn run(&self, target: &Target, load: Load, processor: usize, more: &[&str]) -> Result<Moved> {
        let mut fio = tool("timeout");
        fio.args(["-k", "1", "120", "taskset", "-c", &processor.to_string()]).arg(&self.0);
        fio.args([
            "--name=load",
            "--ioengine=libiscsi",
            "--thread",
            "--group_reporting",
            "--output-format=json",
        ]);
        // One generator of random places for all, and no list of places already taken: it costs more than the rest.
        fio.args(["--random_generator=tausworthe64", "--norandommap", "--refill_buffers=0"]);
        fio.arg(format!("--filename={}", target.url().replace(':', "\\:")));
        fio.arg(format!("--initiator={INITIATOR}"));
        fio.arg(format!("--rw={}", load.pattern)).arg(format!("--bs={}", load.block));
        fio.arg(format!("--iodepth={}", load.depth)).arg(format!("--numjobs={}", load.sessions)).args(more);
        let said = text(&mut fio).with_context(|| format!("against {}", target.make().name()))?;
        let json = said.find('{').and_then(|at| serde_json::from_str::<Value>(&said[at..]).ok());
        let json = json.with_context(|| format!("fio said no JSON but: {said}"))?;
        let job = &json["jobs"][0];
        ensure!(job["error"] == 0, "fio against {}: error {}", target.make().name(), job["error"]);
        let side = &job[if load.pattern.ends_with("read") { "read" } else { "write" }];
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        let octets = side["io_bytes"].as_u64().unwrap_or(0);
        ensure!(octets > 0, "fio moved nothing to or from {}: {said}", target.make().name());
        Ok(Moved {
            octets,
            rate: number(&side["bw_bytes"]),
            median_us: number(&side["clat_ns"]["percentile"]["50.000000"]) / 1000.0,
        })
    }
}

fn build(mirror: &Mirror, scratch: &Path) -> Result<PathBuf> {
    let source = mirror.source("fio", STABLE, scratch)?;
    let engine = source.join("engines/libiscsi.c");
    let code = fs::read_to_string(&engine)?;
    let (before, after) = code.split_once(BEFORE_LOGIN).context("fio's libiscsi engine is another one")?;
    fs::write(&engine, format!("{before}{CHAP}{BEFORE_LOGIN}{after}"))?;
    run(tool("sh").args(["configure", "--enable-libiscsi", "--disable-native"]).current_dir(&source))?;
    run(tool("make").args(["-j2", "fio"]).current_dir(&source))?;
    let engines = text(tool("./fio").arg("--enghelp").current_dir(&source))?;
    ensure!(engines.contains("libiscsi"), "fio was built without its libiscsi engine");
    Ok(source.join("fio"))
}
