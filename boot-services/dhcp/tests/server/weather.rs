//! Twenty machines and the server, in bad weather.

use crate::client::*;
use boot::Mac;
use dhcp::{Event, Server, Transmit};
use dhcproto::v4::{DhcpOption, MessageType};
use sansio::{
    Time,
    sim::{self, Dice, Station, Weather},
};
use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};

const AGAIN: Duration = Duration::from_secs(4);

/// What travels: to the server a message, to the machines what the server sent.
#[derive(Clone, Debug)]
enum Packet {
    Up(Vec<u8>),
    Down(Transmit),
}

/// The server, whose disk takes a while.
struct Served {
    server: Server,
    disk: VecDeque<(Time, dhcp::Ticket)>,
}

impl Served {
    fn look(&mut self, now: Time) {
        while let Some(event) = self.server.poll_event() {
            if let Event::Store(ticket, _) = event {
                self.disk.push_back((now + Duration::from_millis(30), ticket));
            }
        }
    }
}

impl Station for Served {
    type Packet = Packet;

    fn receive(&mut self, packet: Packet, now: Time) {
        if let Packet::Up(bytes) = packet {
            self.server.handle_datagram(NETWORK, &bytes, now);
        }
        self.look(now);
    }

    fn timeout(&mut self, now: Time) {
        while let Some((_, ticket)) = self.disk.pop_front_if(|(at, _)| *at <= now) {
            self.server.handle_stored(ticket);
        }
        self.server.handle_timeout(now);
        self.look(now);
    }

    fn transmit(&mut self, _: Time) -> Option<Packet> {
        self.server.poll_transmit().map(Packet::Down)
    }

    fn deadline(&self) -> Option<Time> {
        self.disk.front().map(|(at, _)| *at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    Offer,
    Ack(Ipv4Addr),
    Nothing(Ipv4Addr),
}

struct Machine {
    mac: Mac,
    want: Want,
    again: Time,
}

struct Machines {
    all: Vec<Machine>,
    out: VecDeque<Packet>,
}

impl Machines {
    fn ask(&mut self, which: usize, now: Time) {
        let machine = &mut self.all[which];
        machine.again = now + AGAIN;
        let ask = match machine.want {
            Want::Offer => Ask::discover(machine.mac),
            Want::Ack(address) => Ask::select(machine.mac, address),
            Want::Nothing(_) => return,
        };
        self.out.push_back(Packet::Up(ask.bytes()));
    }

    fn bound(&self) -> Vec<Ipv4Addr> {
        let address = |machine: &Machine| match machine.want {
            Want::Nothing(address) => Some(address),
            _ => None,
        };
        self.all.iter().filter_map(address).collect()
    }
}

impl Station for Machines {
    type Packet = Packet;

    fn receive(&mut self, packet: Packet, now: Time) {
        let Packet::Down(transmit) = packet else { return };
        let answer = Answer::of(&transmit);
        let Some(which) = self.all.iter().position(|m| m.mac.0 == answer.message.chaddr()) else {
            panic!("{answer:?}")
        };
        let address = answer.message.yiaddr();
        match (self.all[which].want, answer.kind()) {
            (Want::Offer, MessageType::Offer) => {
                self.all[which].want = Want::Ack(address);
                self.ask(which, now);
            }
            (Want::Ack(wanted), MessageType::Ack) if wanted == address => {
                self.all[which].want = Want::Nothing(address)
            }
            (Want::Ack(_), MessageType::Nak) => {
                self.all[which].want = Want::Offer;
                self.ask(which, now);
            }
            _ => {}
        }
    }

    fn timeout(&mut self, now: Time) {
        for which in 0..self.all.len() {
            if self.all[which].again <= now {
                self.ask(which, now);
            }
        }
    }

    fn transmit(&mut self, _: Time) -> Option<Packet> {
        self.out.pop_front()
    }

    fn deadline(&self) -> Option<Time> {
        self.all.iter().filter(|m| !matches!(m.want, Want::Nothing(_))).map(|m| m.again).min()
    }
}

#[test]
fn twenty_machines_get_twenty_addresses_from_a_pool_of_twenty_in_any_weather() {
    for seed in 0..300 {
        let mut dice = Dice::new(seed);
        let machine = |i| Machine {
            mac: Mac([2, 0, 0, 0, seed as u8, i]),
            want: Want::Offer,
            again: Time::from_millis(dice.below(3000)),
        };
        let mut machines = Machines { all: (0..20).map(machine).collect(), out: VecDeque::new() };
        let mut served = Served { server: server(&plan()), disk: VecDeque::new() };
        let end =
            sim::run(&mut served, &mut machines, Weather::FOUL, seed, 20_000, |_, m| m.bound().len() == 20);
        let end = end.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        let mut given = machines.bound();
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 20, "seed {seed}: an address was given twice");
        let leases = served.server.leases(end);
        for machine in &machines.all {
            let Want::Nothing(address) = machine.want else { panic!() };
            assert!(
                leases.iter().any(|lease| lease.mac == machine.mac && lease.address == address),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_lease_that_is_renewed_in_any_weather_never_moves() {
    for seed in 0..100 {
        let mut dice = Dice::new(seed);
        let mut server = server(&plan());
        let address = lease(&mut server, STRANGER, Time::ZERO);
        let mut now = Time::ZERO;
        for _ in 0..50 {
            now = now + Duration::from_secs(dice.below(70));
            let ask = match dice.below(5) {
                0 => Ask::discover(STRANGER),
                1 => Ask::reboot(STRANGER, address),
                2 => Ask::renew(STRANGER, address),
                3 => Ask::select(STRANGER, address),
                _ => Ask::discover(Mac([2, 0, 0, 0, 9, dice.below(40) as u8]))
                    .option(DhcpOption::RequestedIpAddress(address)),
            };
            for answer in send(&mut server, &ask, now).answers {
                if answer.message.chaddr() == STRANGER.0 {
                    assert_eq!(
                        (answer.kind() != MessageType::Nak, answer.message.yiaddr()),
                        (true, address),
                        "seed {seed}"
                    );
                }
            }
        }
    }
}
