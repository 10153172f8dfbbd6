//! Durable commits per second, beside the least that any durable store does: append to a file, fdatasync.
//!
//! Both write the same bytes in the same run to the same file system; the two alternate, so that a busy disk is busy for both.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]
#![allow(clippy::unwrap_used, reason = "a bench fails by it")]

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};
use store::{Batch, Options, Sled, Store, Table};

const ROUNDS: u64 = 20;
const COMMITS: u64 = 100;

struct Timed {
    total: Duration,
    each: Vec<Duration>,
}

impl Timed {
    fn new() -> Self {
        Timed { total: Duration::ZERO, each: Vec::new() }
    }

    fn run(&mut self, mut action: impl FnMut()) {
        for _ in 0..COMMITS {
            let start = Instant::now();
            action();
            self.each.push(start.elapsed());
            self.total += start.elapsed();
        }
    }

    fn tell(&mut self, name: &str) -> f64 {
        self.each.sort();
        let count = self.each.len();
        let rate = count as f64 / self.total.as_secs_f64();
        let at = |share: usize| self.each[count * share / 100].as_secs_f64() * 1e3;
        println!("{name:24} {rate:8.0} /s   p50 {:6.2} ms   p99 {:6.2} ms", at(50), at(99));
        rate
    }
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let mut sled = Sled::open(dir.path().join("store"), Options::default()).unwrap();
    let mut file = File::create(dir.path().join("peer")).unwrap();
    let (mut ours, mut peer) = (Timed::new(), Timed::new());

    let mut number = 0u64;
    for _ in 0..ROUNDS {
        ours.run(|| {
            number += 1;
            let node = format!("\x01{:0>1200}", number);
            let batch = Batch::new()
                .put(Table::Node, format!("n{}", number % 40), node)
                .event(format!("\x01{number:0>200}"));
            sled.commit(batch).unwrap();
        });
        peer.run(|| {
            file.write_all(&[b'x'; 1500]).unwrap();
            file.sync_data().unwrap();
        });
    }
    let ours = ours.tell("store: node and event");
    let peer = peer.tell("file: append, fdatasync");
    println!("ratio {:.2}", ours / peer);
}
