use super::*;

/// Sends a number until it is echoed.
#[derive(Default)]
struct Asker {
    wanted: u32,
    out: Vec<u32>,
    again: Option<Time>,
}

impl Station for Asker {
    type Packet = u32;

    fn receive(&mut self, packet: u32, now: Time) {
        if packet == self.wanted {
            self.wanted += 1;
            self.timeout(now);
        }
    }

    fn timeout(&mut self, now: Time) {
        self.out.push(self.wanted);
        self.again = Some(now + Duration::from_secs(1));
    }

    fn transmit(&mut self, now: Time) -> Option<u32> {
        if self.again.is_none() {
            self.timeout(now);
        }
        self.out.pop()
    }

    fn deadline(&self) -> Option<Time> {
        self.again
    }
}

#[derive(Default)]
struct Echo(Vec<u32>);

impl Station for Echo {
    type Packet = u32;

    fn receive(&mut self, packet: u32, _: Time) {
        self.0.push(packet);
    }

    fn timeout(&mut self, _: Time) {}

    fn transmit(&mut self, _: Time) -> Option<u32> {
        self.0.pop()
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

fn ask(weather: Weather, seed: u64, until: u32) -> Result<Time, Stuck> {
    run(&mut Asker::default(), &mut Echo::default(), weather, seed, 20_000, |asker, _| asker.wanted == until)
}

#[test]
fn fair_weather_takes_a_round_trip_each() {
    assert_eq!(ask(Weather::FAIR, 1, 10), Ok(Time::from_micros(2000)));
}

#[test]
fn a_seed_gives_the_same_weather_again_and_another_gives_another() {
    let first = ask(Weather::FOUL, 7, 50).unwrap();
    assert_eq!(ask(Weather::FOUL, 7, 50), Ok(first));
    assert_ne!(ask(Weather::FOUL, 8, 50), Ok(first));
    assert!(first > Time::from_secs(1), "nothing was lost");
}

#[test]
fn what_never_ends_is_endless() {
    let all_lost = Weather { lost: 1000, ..Weather::FAIR };
    assert!(matches!(ask(all_lost, 1, 1), Err(Stuck::Endless(at)) if at > Time::from_secs(10_000)));
}

#[test]
fn what_waits_for_nothing_is_silent() {
    let stuck = run(&mut Echo::default(), &mut Echo::default(), Weather::FAIR, 1, 10, |_, _| false);
    assert_eq!(stuck, Err(Stuck::Silent(Time::ZERO)));
}
