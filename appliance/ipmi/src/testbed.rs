//! A console and a BMC with weather between them, in time that only the test moves.

use crate::{Account, Bmc, BmcConfig, Bug, Command, Config, Console, Event, Failure, Password, Privilege};
use crate::{Reply, Ticket, UserName};
use core::time::Duration;
use sansio::Time;
use std::net::SocketAddr;

pub(crate) const USER: &str = "admin";
pub(crate) const PASSWORD: &str = "secret-n1";
pub(crate) const GUID: [u8; 16] = *b"a-rack's-first-1";

/// Numbers that look random and are the same on every run (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Percent of datagrams that are lost.
    pub(crate) loss: u64,
    /// Percent of datagrams that come twice.
    pub(crate) doubling: u64,
    /// The longest way takes so many milliseconds more than the shortest: they overtake each other.
    pub(crate) spread: u64,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) console: Console,
    pub(crate) bmc: Bmc,
    pub(crate) weather: Weather,
    pub(crate) dice: Dice,
    pub(crate) events: Vec<Event>,
    /// Every datagram that was sent: to the BMC or not, and itself.
    pub(crate) sent: Vec<(bool, Vec<u8>)>,
    flying: Vec<(Time, bool, Vec<u8>)>,
}

pub(crate) fn account(user: &str, password: &str, limit: Privilege) -> Account {
    Account { user: UserName::new(user).unwrap(), password: Password::new(password).unwrap(), limit }
}

pub(crate) fn config(user: &str, password: &str) -> Config {
    Config::new(UserName::new(user).unwrap(), Password::new(password).unwrap())
}

impl World {
    pub(crate) fn new(seed: u64, bugs: Vec<Bug>) -> World {
        World::with(seed, bugs, config(USER, PASSWORD))
    }

    pub(crate) fn with(seed: u64, bugs: Vec<Bug>, config: Config) -> World {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let accounts = vec![
            account(USER, PASSWORD, Privilege::Administrator),
            account("oper", "oper-pass", Privilege::Operator),
        ];
        let mut bmc = Bmc::new(BmcConfig { guid: GUID, accounts, slots: 4 }, bytes);
        bmc.set_bugs(bugs);
        bytes[31] = 1;
        World {
            now: Time::from_secs(1),
            console: Console::new(config, bytes),
            bmc,
            weather: Weather::default(),
            dice: Dice::new(seed),
            events: Vec::new(),
            sent: Vec::new(),
            flying: Vec::new(),
        }
    }

    fn console_address() -> SocketAddr {
        ([10, 8, 0, 1], 40_000).into()
    }

    fn fly(&mut self, to_bmc: bool, datagram: Vec<u8>) {
        self.sent.push((to_bmc, datagram.clone()));
        if self.dice.percent(self.weather.loss) {
            return;
        }
        let copies = if self.dice.percent(self.weather.doubling) { 2 } else { 1 };
        for _ in 0..copies {
            let way = 200 + self.dice.next() % (self.weather.spread * 1000 + 1);
            self.flying.push((self.now + Duration::from_micros(way), to_bmc, datagram.clone()));
        }
    }

    fn collect(&mut self) {
        while let Some(datagram) = self.console.poll_transmit() {
            self.fly(true, datagram);
        }
        while let Some((to, datagram)) = self.bmc.poll_transmit() {
            assert_eq!(to, World::console_address());
            self.fly(false, datagram);
        }
        while let Some(event) = self.console.poll_event() {
            self.events.push(event);
        }
    }

    /// Goes on to the next moment at which something happens; none: nothing ever will.
    pub(crate) fn step(&mut self) -> Option<()> {
        self.collect();
        let arrival = self.flying.iter().map(|(due, ..)| *due).min();
        let due = [arrival, self.console.poll_timeout(), self.bmc.poll_timeout()];
        self.now = due.into_iter().flatten().min()?.max(self.now);
        let (due, later): (Vec<_>, Vec<_>) =
            core::mem::take(&mut self.flying).into_iter().partition(|(due, ..)| *due <= self.now);
        self.flying = later;
        for (_, to_bmc, datagram) in due {
            if to_bmc {
                self.bmc.handle_datagram(self.now, World::console_address(), &datagram);
            } else {
                self.console.handle_datagram(self.now, &datagram);
            }
        }
        self.console.handle_timeout(self.now);
        self.bmc.handle_timeout(self.now);
        self.collect();
        Some(())
    }

    pub(crate) fn request(&mut self, command: Command) -> Ticket {
        self.console.request(self.now, command).unwrap()
    }

    /// Waits for the reply to a ticket.
    pub(crate) fn reply(&mut self, ticket: Ticket) -> Result<Reply, Failure> {
        for _ in 0..10_000 {
            let found = self
                .events
                .iter()
                .position(|event| matches!(event, Event::Reply { ticket: known, .. } if *known == ticket));
            if let Some(at) = found {
                let Event::Reply { result, .. } = self.events.remove(at) else { unreachable!() };
                return result;
            }
            self.step().expect("something happens until there is a reply");
        }
        panic!("no reply");
    }

    pub(crate) fn ask(&mut self, command: Command) -> Result<Reply, Failure> {
        let ticket = self.request(command);
        self.reply(ticket)
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            if self.step().is_none() {
                self.now = end;
            }
        }
    }
}
