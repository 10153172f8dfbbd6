//! What every durable store must withstand, and the workload it is watched under.
//!
//! A store to be held to it gives a [`Subject`]. The double is the model: it is given the same batches, and
//! whatever a crash leaves must be what the double holds after one of the commits that could have been last.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![allow(unreachable_pub, reason = "a module of several test programs")]
#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use store::{Batch, CommitNumber, EventNumber, Format, Memory, Options, Step, Store, StoreError, Table};

/// The environment variable that tells a child process its directory.
pub const CHILD: &str = "KILN_STORE_CHILD";

/// A store, and what the open found out of order and put in order.
pub type Opened = (Box<dyn Store>, Vec<String>);

/// A store, and how many commits are lost.
pub type Recovered = (Box<dyn Store>, u64);

/// How a store on disk is opened, and how it is restored when that fails for damage.
pub struct Subject {
    pub open: fn(&Path, Options) -> Result<Opened, StoreError>,
    pub recover: fn(&Path, Options) -> Result<Recovered, StoreError>,
}

pub const SLED: Subject = Subject {
    open: |path, options| {
        let sled = store::Sled::open(path, options)?;
        let findings = sled.findings().iter().map(ToString::to_string).collect();
        Ok((Box::new(sled), findings))
    },
    recover: |path, options| {
        let (sled, recovery) = store::Sled::recover(path, options)?;
        Ok((Box::new(sled), recovery.map_or(0, |recovery| recovery.lost())))
    },
};

/// Small numbers, so that a short run prunes and takes snapshots.
pub fn options() -> Options {
    Options { keep_events: 100, snapshot_every: 60, keep_snapshots: 3, ..Options::default() }
}

/// The same, of a release that is yet to come: its format has every node's value a word longer.
pub fn next_options() -> Options {
    const STEPS: &[Step] = &[Step {
        from: 1,
        change: |records| {
            let of_nodes = records.iter_mut().filter(|(raw, _)| raw[0] == Table::Node as u8);
            of_nodes.for_each(|(_, value)| value.extend_from_slice(b" two"));
            Ok(())
        },
    }];
    Options { format: Format { number: 2, steps: STEPS }, ..options() }
}

/// The batch of commit `number`: puts, overwrites and deletes over 41 keys, now and then a large value; one event.
///
/// The kept databases hold these batches: they never change.
pub fn batch(number: u64) -> Batch {
    let size = match number % 50 {
        7 => 20_000,
        31 => 100_000,
        other => 40 + 13 * other as usize,
    };
    let value = |seed: u64| -> Vec<u8> {
        let mut random = Random(seed * 1000 + number);
        let mut value = vec![1];
        value.resize_with(size, || random.next() as u8);
        value
    };
    let key = |step: u64| format!("n{}", number * step % 41);
    let mut batch = Batch::new().put(Table::Node, key(1), value(1)).event(format!("\x01{number}"));
    if number.is_multiple_of(3) {
        batch = batch.delete(Table::Node, key(7)).put(Table::Deployment, key(3), value(2));
    }
    batch.put(Table::Setting, "number", format!("\x01{number}"))
}

/// The double after so many commits.
pub struct Model {
    memory: Memory,
}

impl Model {
    pub fn new() -> Self {
        Model { memory: Memory::new(options()) }
    }

    /// Goes on to `number`, which is not before where it is.
    pub fn advance(&mut self, number: u64) {
        for next in self.memory.newest_commit().0 + 1..=number {
            self.memory.commit(batch(next)).unwrap();
        }
        assert_eq!(self.memory.newest_commit(), CommitNumber(number));
    }

    /// Fails if `store` holds anything else.
    pub fn expect(&self, store: &dyn Store) {
        assert_eq!(store.newest_commit(), self.memory.newest_commit());
        assert_eq!(store.event_span(), self.memory.event_span());
        let all = |store: &dyn Store| store.events(EventNumber(0), usize::MAX).unwrap();
        assert!(all(store) == all(&self.memory), "the events differ");
        for table in Table::ALL {
            let all = |store: &dyn Store| store.scan(table, "").unwrap();
            assert!(all(store) == all(&self.memory), "the table {table} differs");
        }
    }
}

/// Commits up to `number`.
pub fn run_to(store: &mut dyn Store, number: u64) {
    while store.newest_commit().0 < number {
        let next = store.newest_commit().0 + 1;
        store.commit(batch(next)).unwrap();
    }
}

/// The body of the test that is the child process: commits until it is killed, and says so on standard output.
pub fn commit_until_killed(subject: &Subject) {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let mut out = std::io::stdout();
    writeln!(out, "\nopening").unwrap();
    let (mut store, _) = (subject.open)(Path::new(&path), options()).unwrap();
    loop {
        let next = store.newest_commit().0 + 1;
        store.commit(batch(next)).unwrap();
        writeln!(out, "acknowledged {next}").unwrap();
    }
}

/// Held by each test of a program that starts processes. A fork beside it keeps every open file, the store's lock
/// among them, open until its exec.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This program again, in the test that [`commit_until_killed`]; killed when dropped.
pub struct Committer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    acknowledged: Option<u64>,
}

impl Committer {
    pub fn start(test: &str, path: &Path) -> Committer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(CHILD, path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Committer { child, lines, acknowledged: None }
    }

    /// Returns when the child is about to open the store.
    pub fn wait_for_opening(&mut self) {
        while self.lines.next().expect("the child opens the store").unwrap() != "opening" {}
    }

    /// Reads so many acknowledgements.
    pub fn wait_for(&mut self, count: u64) {
        for _ in 0..count {
            assert!(self.read(), "the child goes on");
        }
    }

    fn read(&mut self) -> bool {
        let Some(Ok(line)) = self.lines.next() else { return false };
        let number = line.strip_prefix("acknowledged ").and_then(|number| number.parse().ok());
        self.acknowledged = number.or(self.acknowledged);
        true
    }

    /// Stops it where it is, to be killed.
    pub fn freeze(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).unwrap();
        let flag = nix::sys::wait::WaitPidFlag::WUNTRACED;
        nix::sys::wait::waitpid(pid, Some(flag)).unwrap();
    }

    /// Kills it; the newest commit it acknowledged, if there was one.
    pub fn kill(mut self) -> Option<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while self.read() {}
        self.acknowledged
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A linear congruential generator, so that a failure can be had again.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Copies a directory with all in it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

/// The files below a directory, sorted.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
