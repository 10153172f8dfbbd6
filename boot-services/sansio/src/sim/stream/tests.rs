use super::*;
use std::collections::BTreeMap;

/// Sends the octets of a text that were not echoed yet, anew on each stream.
#[derive(Default)]
struct Asker {
    stream: Option<u64>,
    dialled: u32,
    sent: usize,
    echoed: Vec<u8>,
    deadline: Option<Time>,
}

const TEXT: &[u8] = b"the quick brown fox jumps over the lazy dog, again and again and again";

impl End for Asker {
    fn dials(&mut self, now: Time) -> bool {
        let dials = self.deadline.is_none();
        if dials {
            self.dialled += 1;
            self.deadline = Some(now + Duration::from_secs(1));
        }
        dials
    }

    fn opened(&mut self, stream: u64, now: Time) {
        (self.stream, self.sent) = (Some(stream), self.echoed.len());
        self.deadline = Some(now + Duration::from_secs(1));
    }

    fn receive(&mut self, stream: u64, octets: &[u8], now: Time) {
        if self.stream == Some(stream) {
            self.echoed.extend_from_slice(octets);
            self.deadline = Some(now + Duration::from_secs(1));
        }
    }

    fn closed(&mut self, _: u64, _: Time) {
        (self.stream, self.deadline) = (None, None);
    }

    fn transmit(&mut self, stream: u64, _: Time) -> Option<Vec<u8>> {
        if self.stream != Some(stream) || self.sent == TEXT.len() {
            return None;
        }
        let rest = TEXT[self.sent..].to_vec();
        self.sent = TEXT.len();
        Some(rest)
    }

    fn hangs_up(&mut self, stream: u64) -> bool {
        self.deadline.is_none() && self.stream != Some(stream)
    }

    fn timeout(&mut self, _: Time) {
        (self.stream, self.deadline) = (None, None);
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }
}

#[derive(Default)]
struct Echo(BTreeMap<u64, Vec<u8>>);

impl End for Echo {
    fn dials(&mut self, _: Time) -> bool {
        false
    }

    fn opened(&mut self, stream: u64, _: Time) {
        self.0.insert(stream, Vec::new());
    }

    fn receive(&mut self, stream: u64, octets: &[u8], _: Time) {
        self.0.entry(stream).or_default().extend_from_slice(octets);
    }

    fn closed(&mut self, stream: u64, _: Time) {
        self.0.remove(&stream);
    }

    fn transmit(&mut self, stream: u64, _: Time) -> Option<Vec<u8>> {
        self.0.get_mut(&stream).filter(|octets| !octets.is_empty()).map(std::mem::take)
    }

    fn hangs_up(&mut self, _: u64) -> bool {
        false
    }

    fn timeout(&mut self, _: Time) {}

    fn deadline(&self) -> Option<Time> {
        None
    }
}

fn ask(rapids: Rapids, seed: u64) -> (Asker, Result<Time, Stuck>) {
    let mut asker = Asker::default();
    let result = run(&mut asker, &mut Echo::default(), rapids, seed, 50_000, |asker, _| {
        asker.echoed.len() == TEXT.len()
    });
    (asker, result)
}

const WILD: Rapids = Rapids {
    refused: 2_000,
    cut: 300,
    unheard: 3_000,
    piece: (1, 3),
    delay: (Duration::from_millis(1), Duration::from_millis(40)),
    window: 16,
};

#[test]
fn in_calm_water_it_takes_a_dial_and_a_round_trip() {
    let (asker, end) = ask(Rapids::CALM, 1);
    assert_eq!((end, asker.dialled), (Ok(Time::from_micros(300)), 1));
}

#[test]
fn what_arrives_arrives_in_order_whatever_is_cut() {
    let dialled: u32 = (0..200)
        .map(|seed| {
            let (asker, end) = ask(WILD, seed);
            assert!(end.is_ok(), "seed {seed}: {end:?}");
            assert_eq!(asker.echoed, TEXT, "seed {seed}");
            asker.dialled
        })
        .sum();
    assert!(dialled > 400, "little was cut: {dialled}");
}

#[test]
fn a_seed_gives_the_same_rapids_again() {
    assert_eq!(ask(WILD, 7).1, ask(WILD, 7).1);
    assert_ne!(ask(WILD, 7).1, ask(WILD, 8).1);
}

#[test]
fn where_every_dial_is_refused_it_never_ends() {
    assert!(matches!(ask(Rapids { refused: 10_000, ..WILD }, 1).1, Err(Stuck::Endless(_))));
}
