//! Many sessions at once beside one: what they move together, and what memory each takes: its share of all
//! that the process has of its own.

use crate::fio::{Fio, Load};
use crate::report::{Figure, Rounds, Table, median};
use crate::{Arguments, CLIENT, KIB, meter};
use anyhow::{Context as _, Result};
use hw_tests::rack::until;
use hw_tests::targets::{Make, Target};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What a session may take.
const MOST_MIB: f64 = 4.0;

/// Loads each target but istgt with one session and with many, in turn.
pub(crate) fn table(fio: &Fio, targets: &[Target], arguments: &Arguments) -> Result<Table> {
    let many = arguments.sessions;
    println!("\n{many} sessions at once beside one, 8 commands under way in each, on a disk\n");
    println!(
        "{:<28} {:>10} {:>10} {:>6} {:>14}  met",
        "row", "one, MB/s", "many, MB/s", "ratio", "MiB a session"
    );
    let mut table = Table::of(format!("{many} sessions"));
    for pattern in ["read", "write"] {
        for target in targets.iter().filter(|target| target.make() != Make::Istgt) {
            let load = |sessions| Load { pattern, block: 256 * KIB, depth: 8, sessions };
            let mut rounds: BTreeMap<u32, Vec<Figure>> = BTreeMap::new();
            let (mut ratios, mut memory) = (Vec::new(), Vec::new());
            for _ in 0..arguments.rounds {
                let one = loaded(fio, target, load(1), arguments.seconds)?.0;
                let (all, peak) = loaded(fio, target, load(many), arguments.seconds)?;
                ratios.push(all.rate / one.rate);
                // All that the process has: what it keeps from earlier sessions would hide what these take.
                memory.push(peak as f64 / f64::from(many) / 1024.0 / 1024.0);
                rounds.entry(1).or_default().push(one);
                rounds.entry(many).or_default().push(all);
            }
            let rate = |sessions| median(rounds[&sessions].iter().map(|figure| figure.rate / 1e6).collect());
            let (ratio, mib) = (median(ratios), median(memory));
            let name = format!("{} {pattern}-256k-qd8", target.make().name());
            let met = if ratio >= 1.0 && mib <= MOST_MIB { "yes" } else { "NO" };
            println!("{name:<28} {:>10.0} {:>10.0} {ratio:>6.2} {mib:>14.2}  {met}", rate(1), rate(many));
            let figures = rounds.remove(&many).unwrap_or_default();
            table.keep(&name, Rounds::from([(target.make(), figures)]));
        }
    }
    Ok(table)
}

/// The figure, and the most memory that was seen meanwhile.
fn loaded(fio: &Fio, target: &Target, load: Load, seconds: f64) -> Result<(Figure, u64)> {
    let done = AtomicBool::new(false);
    let pid = target.pid();
    thread::scope(|scope| {
        let watch = scope.spawn(|| -> Result<u64> {
            let mut most = 0;
            until(Duration::from_secs(180), "fio to end", || {
                most = most.max(meter::own_memory(pid)?);
                Ok(done.load(Ordering::Relaxed).then_some(most))
            })
        });
        let before = meter::seconds_of_cpu(pid)?;
        let moved = fio.load(target, load, CLIENT, seconds);
        done.store(true, Ordering::Relaxed);
        let most = watch.join().ok().context("the watch over memory panicked")??;
        Ok((Figure::new(&moved?, meter::seconds_of_cpu(pid)? - before), most))
    })
}
