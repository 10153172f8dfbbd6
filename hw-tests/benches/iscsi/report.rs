//! The tables, as people and as programs read them.

use crate::fio::{Load, Moved};
use hw_tests::targets::{Make, Target};
use serde::Serialize;
use std::collections::BTreeMap;

/// What one loading of one target gave.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    /// Octets a second.
    pub(crate) rate: f64,
    /// Seconds of the server's CPU for an octet.
    pub(crate) cpu: f64,
    /// The median latency of a command, in microseconds.
    pub(crate) median_us: f64,
}

impl Figure {
    pub(crate) fn new(moved: &Moved, seconds_of_cpu: f64) -> Figure {
        // The kernel counts in hundredths: what is less than one was not nothing.
        let cpu = seconds_of_cpu.max(0.005) / moved.octets as f64;
        Figure { rate: moved.rate, cpu, median_us: moved.median_us }
    }
}

/// Of each target, its rounds in order.
pub(crate) type Rounds = BTreeMap<Make, Vec<Figure>>;

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
    #[serde(skip)]
    makes: Vec<Make>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    figures: BTreeMap<&'static str, Vec<Figure>>,
    judgement: Option<Judgement>,
}

/// Ours against the peers of the same rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Judgement {
    fastest: &'static str,
    /// Our throughput by the fastest peer's.
    rate: f64,
    /// Our CPU by the fastest peer's.
    cpu: f64,
    /// Our CPU by that of the peer that takes the least.
    leanest: f64,
    met: bool,
}

/// The middle one; of an even number the upper of the two in the middle.
pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn judged(rounds: &Rounds) -> Option<Judgement> {
    let ours = rounds.get(&Make::Ours)?;
    let ratio = |theirs: &[Figure], of: fn(&Figure) -> f64| {
        median(ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)).collect())
    };
    let peers = rounds.iter().filter(|(make, _)| **make != Make::Ours);
    let ratios: Vec<(Make, f64, f64)> = peers
        .map(|(make, theirs)| {
            (*make, ratio(theirs, |figure| figure.rate), ratio(theirs, |figure| figure.cpu))
        })
        .collect();
    let (fastest, rate, cpu) = *ratios.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let leanest = ratios.iter().map(|(_, _, cpu)| *cpu).max_by(f64::total_cmp)?;
    let met = (rate >= 1.5 || cpu <= 0.5) && rate >= 1.0 && leanest <= 1.0;
    Some(Judgement { fastest: fastest.name(), rate, cpu, leanest, met })
}

impl Table {
    /// Prints the head.
    pub(crate) fn begin(place: &str, targets: &[Target], rounds: u8, seconds: f64) -> Table {
        let makes: Vec<Make> = targets.iter().map(Target::make).collect();
        let title = format!("disks {place}, medians of {rounds} rounds of {seconds} s");
        println!("\n{title}");
        println!(
            "throughput in MB/s (4 KiB: thousands a second), CPU in seconds for 1 GB (4 KiB: for a million)\n"
        );
        let mut head = format!("{:<18}", "row");
        for make in &makes {
            head += &format!(" {:>9} {:>6}", make.name(), "cpu");
        }
        println!("{head}  {:>6} {:>6} {:>7}  {:<9}  met", "x rate", "x cpu", "x least", "fastest");
        Table { title, rows: Vec::new(), makes }
    }

    /// A table that its maker prints.
    pub(crate) fn of(title: String) -> Table {
        Table { title, rows: Vec::new(), makes: Vec::new() }
    }

    /// Keeps a row without a word.
    pub(crate) fn keep(&mut self, name: &str, rounds: Rounds) {
        let figures = rounds.into_iter().map(|(make, figures)| (make.name(), figures)).collect();
        self.rows.push(Row { name: name.to_owned(), figures, judgement: None });
    }

    /// Prints a row.
    pub(crate) fn row(&mut self, name: &str, load: Load, rounds: Rounds) {
        let small = load.block <= 4096;
        let (rate_unit, cpu_unit) =
            if small { (load.block as f64 * 1e3, load.block as f64 * 1e6) } else { (1e6, 1e9) };
        let mut line = format!("{name:<18}");
        for make in &self.makes {
            let figures = rounds.get(make).map_or(&[][..], Vec::as_slice);
            let of = |what: fn(&Figure) -> f64| median(figures.iter().map(what).collect());
            let (rate, cpu) = (of(|figure| figure.rate) / rate_unit, of(|figure| figure.cpu) * cpu_unit);
            line +=
                &if small { format!(" {rate:>9.1} {cpu:>6.1}") } else { format!(" {rate:>9.0} {cpu:>6.2}") };
        }
        let judgement = judged(&rounds);
        if let Some(Judgement { fastest, rate, cpu, leanest, met }) = judgement {
            let met = if met { "yes" } else { "NO" };
            line += &format!("  {rate:>6.2} {cpu:>6.2} {leanest:>7.2}  {fastest:<9}  {met}");
        }
        println!("{line}");
        let figures = rounds.into_iter().map(|(make, figures)| (make.name(), figures)).collect();
        self.rows.push(Row { name: name.to_owned(), figures, judgement });
    }

    /// Prints how many rows hold.
    pub(crate) fn end(&self) {
        let judged: Vec<Judgement> = self.rows.iter().filter_map(|row| row.judgement).collect();
        let met = judged.iter().filter(|judgement| judgement.met).count();
        if !judged.is_empty() {
            println!("\n{met} of {} rows hold", judged.len());
        }
    }
}
