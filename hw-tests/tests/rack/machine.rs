//! A server: firmware, network boot, the deploy ramdisk with its agent, and the system on its disk. It reaches
//! only what is on the VLAN that its switch port is in.

use crate::agent::{Agent, Ends};
use crate::iscsi::{IscsiHand, Login};
use crate::packet::{self, Dress};
use crate::power::{Bmc, Switched};
use crate::services::{DhcpHand, HttpHand, Interfaces, TftpHand};
use boot::{Attempt, Digest, Iqn, Mac, NodeName, Secret};
use core::time::Duration;
use dhcproto::v4::MessageType;
use rack::{BootDevice, SwitchPort, Vlan};
use sansio::Time;
use std::net::Ipv4Addr;

const POST: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(1);
const KERNEL: Duration = Duration::from_secs(6);
const SYSTEM: Duration = Duration::from_secs(15);
/// How often DHCP is asked before the firmware goes on to its next device.
const ASKS: u32 = 4;

/// What a machine reaches now.
pub(crate) struct Net<'a> {
    /// None: the cable is out.
    pub(crate) vlan: Option<Vlan>,
    pub(crate) interfaces: &'a Interfaces,
    pub(crate) dhcp: &'a mut DhcpHand,
    pub(crate) tftp: &'a mut TftpHand,
    pub(crate) http: &'a mut HttpHand,
    pub(crate) iscsi: &'a mut IscsiHand,
    pub(crate) now: Time,
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Blank,
    /// An image, up to where its writer was stopped.
    Torn(Digest),
    Image(Digest, Option<Digest>),
}

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) size: u64,
    pub(crate) content: Content,
    /// As what it is exported, and with which secret.
    pub(crate) exported: Option<(Iqn, Secret)>,
}

/// What may be wrong with a machine.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) cable_out: bool,
    /// So often the ramdisk dies in the middle of writing.
    pub(crate) agent_dies: u32,
    /// The tenant's system never asks for an address.
    pub(crate) system_is_silent: bool,
    /// The tenant's system has an address of its own, and only its ARP is seen.
    pub(crate) own_address: Option<Ipv4Addr>,
    /// The image holds no system that could be booted.
    pub(crate) no_system: bool,
}

/// What happened to a machine, for the judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// From where it was to boot each time it was switched on, and in which VLAN.
    pub(crate) power_ons: Vec<(BootDevice, Vlan)>,
    pub(crate) writes_begun: Vec<Attempt>,
    pub(crate) writes_done: Vec<Attempt>,
    pub(crate) wipes_done: Vec<Attempt>,
}

#[derive(Debug)]
enum Doing {
    Nothing,
    /// The firmware's own tests, then this device.
    Post(BootDevice),
    /// The firmware or iPXE asks for an address.
    Dhcp(Client),
    Fetch(String),
    Script(String),
    Ramdisk(Box<Agent>),
    /// The system on the disk starts; then it asks for an address.
    Starting,
    System(Client),
    Up,
}

/// A DHCP client in the middle of its exchange.
#[derive(Debug)]
pub(crate) struct Client {
    dress: Dress,
    xid: u32,
    offer: Option<(Ipv4Addr, Ipv4Addr)>,
    asks: u32,
}

/// How an exchange goes.
pub(crate) enum Exchange {
    GoesOn,
    Bound { file: Option<String> },
    NobodyAnswers,
}

impl Client {
    pub(crate) fn new(dress: Dress) -> Client {
        Client { dress, xid: 1, offer: None, asks: 0 }
    }

    /// One packet, and what is answered.
    pub(crate) fn ask(&mut self, mac: Mac, net: &mut Net<'_>) -> Exchange {
        self.asks += 1;
        let packet = packet::request(mac, self.xid, self.dress, self.offer);
        let frames = match net.vlan {
            Some(vlan) => net.dhcp.datagram(vlan, net.interfaces, &packet, net.now),
            None => Vec::new(),
        };
        let answer = frames.iter().find_map(|frame| packet::answer(frame, mac, self.xid));
        match (answer, self.offer.take()) {
            (Some(answer), None) if answer.kind == MessageType::Offer => {
                self.asks = 0;
                self.offer = answer.server.map(|server| (answer.address, server));
                Exchange::GoesOn
            }
            (Some(answer), Some(_)) if answer.kind == MessageType::Ack => {
                Exchange::Bound { file: answer.file }
            }
            _ => {
                self.xid += 1;
                Exchange::NobodyAnswers
            }
        }
    }
}

/// A server.
pub(crate) struct Machine {
    pub(crate) name: NodeName,
    pub(crate) mac: Mac,
    pub(crate) port: SwitchPort,
    pub(crate) bmc: Bmc,
    pub(crate) disk: Disk,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
    /// The VLAN that it was in when what runs on it was started, and whether that came from its disk.
    pub(crate) started: Option<(Vlan, bool)>,
    /// The volume that its system runs from.
    pub(crate) volume: Option<Login>,
    doing: Doing,
    at: Option<Time>,
}

impl Machine {
    pub(crate) fn new(name: NodeName, mac: Mac, port: SwitchPort, bmc: Bmc, size: u64) -> Machine {
        Machine {
            name,
            mac,
            port,
            bmc,
            disk: Disk { size, content: Content::Blank, exported: None },
            faults: Faults::default(),
            ledger: Ledger::default(),
            started: None,
            volume: None,
            doing: Doing::Nothing,
            at: None,
        }
    }

    /// One on which a tenant's system has been running for long.
    pub(crate) fn run_system(&mut self, content: Content, vlan: Vlan) {
        self.disk.content = content;
        self.bmc.is_on = true;
        self.started = Some((vlan, true));
        self.doing = Doing::Up;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.bmc.is_on
    }

    /// Whether the tenant's system runs and has its address.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.doing, Doing::Up)
    }

    /// Whether it runs iPXE with a script that starts nothing.
    pub(crate) fn is_held(&self) -> bool {
        matches!(&self.doing, Doing::Script(url) if url.ends_with("/boot/hold.ipxe"))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        [self.at, self.bmc.poll_timeout()].into_iter().flatten().min()
    }

    /// Something that an agent may wait for came about.
    pub(crate) fn wake(&mut self, now: Time) {
        if matches!(self.doing, Doing::Ramdisk(_)) {
            self.at = self.at.map(|at| at.min(now));
        }
    }

    pub(crate) fn handle_timeout(&mut self, port: Vlan, net: &mut Net<'_>) {
        let now = net.now;
        match self.bmc.handle_timeout(now) {
            Some(Switched::On(device)) => {
                self.ledger.power_ons.push((device, port));
                self.start(device, port, now);
                return;
            }
            Some(Switched::Off) => {
                (self.doing, self.at, self.started) = (Doing::Nothing, None, None);
                (self.disk.exported, self.volume) = (None, None);
                net.iscsi.log_out(&self.name);
                return;
            }
            None => {}
        }
        if self.at.is_some_and(|at| at <= now) {
            self.at = self.go_on(port, net).map(|rest| now + rest);
        }
    }

    /// The firmware starts, after power came or a reset.
    fn start(&mut self, device: BootDevice, port: Vlan, now: Time) {
        let from_disk = device == BootDevice::Disk || device == BootDevice::None && self.boots();
        self.started = Some((port, from_disk));
        (self.disk.exported, self.volume) = (None, None);
        self.doing = Doing::Post(device);
        self.at = Some(now + POST);
    }

    fn boots(&self) -> bool {
        matches!(self.disk.content, Content::Image(..)) && !self.faults.no_system
    }

    fn network_boot(&mut self) -> Option<Duration> {
        self.doing = Doing::Dhcp(Client::new(Dress::Rom));
        Some(SOON)
    }

    /// What is next, and how long it rests before that.
    fn go_on(&mut self, port: Vlan, net: &mut Net<'_>) -> Option<Duration> {
        let boots = self.boots();
        match &mut self.doing {
            Doing::Nothing | Doing::Up => None,
            Doing::Post(BootDevice::Pxe) => self.network_boot(),
            Doing::Post(_) if boots => {
                self.doing = Doing::Starting;
                Some(SYSTEM)
            }
            // A firmware that finds no system goes on to its next device.
            Doing::Post(_) => self.network_boot(),
            Doing::Dhcp(client) => match client.ask(self.mac, net) {
                Exchange::Bound { file: Some(file) } if client.dress == Dress::Rom => {
                    self.doing = Doing::Fetch(file);
                    Some(SOON)
                }
                Exchange::Bound { file: Some(file) } => {
                    self.doing = Doing::Script(file);
                    Some(SOON)
                }
                Exchange::GoesOn => Some(Duration::from_millis(100)),
                Exchange::NobodyAnswers if client.asks < ASKS => Some(SOON * 2),
                Exchange::NobodyAnswers | Exchange::Bound { file: None } => {
                    self.doing = Doing::Post(BootDevice::None);
                    Some(SOON * 5)
                }
            },
            Doing::Fetch(file) => {
                if net.vlan.is_some_and(|vlan| net.tftp.get(vlan, net.interfaces, file)) {
                    self.doing = Doing::Dhcp(Client::new(Dress::Ipxe));
                }
                Some(SOON)
            }
            Doing::Script(url) => {
                let Some(vlan) = net.vlan else { return Some(SOON * 2) };
                match net.http.script(vlan, net.interfaces, url) {
                    Some(script) if net.http.assets(vlan, net.interfaces) => {
                        if let Some(login) = Login::of(script.expose()) {
                            let image = net.iscsi.log_in(vlan, net.interfaces, &login, &self.name);
                            if image.is_none() || self.faults.no_system {
                                // The script sleeps, and is fetched again.
                                return Some(SOON * 5);
                            }
                            self.volume = Some(login);
                            self.doing = Doing::Starting;
                            return Some(SYSTEM);
                        }
                        let Some(agent) = Agent::of(script.expose()) else {
                            // The hold script: sleep, and ask again.
                            return Some(SOON * 30);
                        };
                        self.doing = Doing::Ramdisk(Box::new(agent));
                        Some(KERNEL)
                    }
                    Some(_) => Some(SOON * 2),
                    None => {
                        self.doing = Doing::Post(BootDevice::Pxe);
                        Some(SOON * 10)
                    }
                }
            }
            Doing::Ramdisk(agent) => {
                match agent.go_on(self.mac, &mut self.disk, &mut self.faults, &mut self.ledger, net) {
                    Ends::Rests(rest) => Some(rest),
                    // panic=5, without an override any more.
                    Ends::Panics => {
                        let now = net.now;
                        self.start(BootDevice::None, port, now);
                        self.at.map(|at| at.since(now))
                    }
                }
            }
            Doing::Starting if self.faults.system_is_silent => {
                self.doing = Doing::Up;
                None
            }
            Doing::Starting
                if self.volume.as_ref().is_some_and(|login| !net.iscsi.write(login, &self.name)) =>
            {
                // Its session fell: it logs in again, for as long as it takes.
                let (login, vlan) = (self.volume.clone()?, net.vlan?);
                net.iscsi.log_in(vlan, net.interfaces, &login, &self.name);
                Some(SOON)
            }
            Doing::Starting => {
                self.doing = Doing::System(Client::new(Dress::System));
                Some(SOON)
            }
            Doing::System(client) => {
                if let (Some(address), Some(vlan)) = (self.faults.own_address, net.vlan) {
                    let frame = packet::announcement(self.mac, address);
                    net.dhcp.frame(vlan, net.interfaces, &frame, net.now);
                    return Some(SOON * 10);
                }
                match client.ask(self.mac, net) {
                    Exchange::Bound { .. } => {
                        self.doing = Doing::Up;
                        None
                    }
                    Exchange::GoesOn => Some(Duration::from_millis(100)),
                    Exchange::NobodyAnswers => Some(SOON * 3),
                }
            }
        }
    }
}
