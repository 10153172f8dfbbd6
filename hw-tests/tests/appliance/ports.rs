//! What answers, asked from every side: each of 65535 ports, and addresses of other legs.

use crate::table::{LEGS, tcp};
use hw_tests::rack::Namespace;
use hw_tests::stand::Stand;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// At once; more make the emulated box no faster.
const THREADS: usize = 32;
/// A port that is closed says so at once; a busy box may take a moment.
const CLOSED: Duration = Duration::from_secs(5);
/// Who does not answer by then is deaf.
const DEAF: Duration = Duration::from_secs(2);

/// Which of these accept a connection, and which say nothing.
fn scan(
    from: &Namespace,
    to: Vec<SocketAddrV4>,
    patience: Duration,
) -> (Vec<SocketAddrV4>, Vec<SocketAddrV4>) {
    let (left, open, silent) = (Mutex::new(to), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(at) = { left.lock().unwrap().pop() } {
            match TcpStream::connect_timeout(&at.into(), patience) {
                Ok(_) => open.lock().unwrap().push(at),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => silent.lock().unwrap().push(at),
            }
        }
    };
    // A thread is in the namespace of the one that began it.
    from.inside(|| {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(work);
            }
        });
    })
    .unwrap();
    let sorted = |list: Mutex<Vec<SocketAddrV4>>| {
        let mut list = list.into_inner().unwrap();
        list.sort_unstable();
        list
    };
    (sorted(open), sorted(silent))
}

fn at(address: Ipv4Addr, ports: impl IntoIterator<Item = u16>) -> Vec<SocketAddrV4> {
    ports.into_iter().map(|port| SocketAddrV4::new(address, port)).collect()
}

/// From the uplink, the OOB network, a tenant's and the provisioning network.
pub(crate) fn are_as_written(stand: &Stand) {
    let rack = stand.rack();
    let address = |leg: &str| LEGS.iter().find(|(name, _)| *name == leg).unwrap().1;
    let (tenant, _) = rack.tenant("tenant-1").unwrap();
    let on_prov = rack.move_tenant("tenant-2", "prov", Ipv4Addr::new(10, 7, 0, 200)).unwrap();
    let sides = [("uplink", rack.kiln()), ("oob", rack.switch()), ("tenant-1", tenant), ("prov", on_prov)];
    for (leg, from) in sides {
        let (open, silent) = scan(from, at(address(leg), 1..=u16::MAX), CLOSED);
        assert_eq!(open, at(address(leg), tcp(leg)), "open on {leg}, and written in rootfs/README.md");
        assert_eq!(silent, [], "a closed port of {leg} says so");
    }
    // The strong host model: whatever the sender's routes, a leg's address is deaf on the others.
    for (leg, from) in sides {
        let others: Vec<Ipv4Addr> = LEGS.iter().filter(|(name, _)| *name != leg).map(|(_, of)| *of).collect();
        for of in &others {
            let words = ["route", "replace", &of.to_string(), "via", &address(leg).to_string()];
            from.run(Command::new("ip").args(words)).unwrap();
        }
        let asked: Vec<SocketAddrV4> = others.iter().flat_map(|of| at(*of, [22, 80, 8080, 1])).collect();
        let (open, silent) = scan(from, asked.clone(), DEAF);
        for of in &others {
            from.run(Command::new("ip").args(["route", "del", &of.to_string()])).unwrap();
        }
        assert_eq!(open, [], "an address of another leg answers on {leg}");
        let mut asked = asked;
        asked.sort_unstable();
        assert_eq!(silent, asked, "addresses of other legs are deaf on {leg}, not closed");
    }
}
