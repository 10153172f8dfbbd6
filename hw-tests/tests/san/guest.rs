//! The system that runs on a node, asked from another machine of its tenant.

use crate::scene::{SOON, WHOLE};
use hw_tests::artifact::Greeting;
use hw_tests::rack::{Namespace, reach, until};
use hw_tests::stand::Stand;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// How long it may take to do what it is asked, while its processor is emulated.
const ANSWER: Duration = Duration::from_secs(30);
/// Where the image speaks of its disks.
const DISKS: u16 = 82;

/// A node's system.
#[derive(Clone, Copy)]
pub(crate) struct Guest<'a> {
    pub(crate) beside: &'a Namespace,
    pub(crate) address: Ipv4Addr,
}

/// A disk as the system sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) octets: u64,
    /// Its logical unit, if it is at the other end of an iSCSI session.
    pub(crate) lun: Option<u16>,
}

impl<'a> Guest<'a> {
    pub(crate) fn of(beside: &'a Namespace, address: Ipv4Addr) -> Guest<'a> {
        Guest { beside, address }
    }

    /// Waits until the node is active and its system greets with its name; it was booted so often.
    pub(crate) fn active(stand: &'a Stand, node: &str, network: &str, boots: u32) -> Guest<'a> {
        let view = stand.wait_state(node, "active", WHOLE).unwrap();
        let (beside, _) = stand.rack().tenant(network).unwrap();
        let guest = Guest { beside, address: view.address.unwrap() };
        guest.booted(boots);
        guest.named(node);
        guest
    }

    /// Waits until it greets with this name, which it learns with its lease.
    pub(crate) fn named(self, node: &str) -> Greeting {
        let greeting = until(SOON, &format!("{} to greet as {node}", self.address), || {
            Ok(self.greeting().filter(|greeting| greeting.host == node))
        });
        let greeting = greeting.unwrap();
        assert_eq!(greeting.address, self.address);
        greeting
    }

    pub(crate) fn greeting(self) -> Option<Greeting> {
        reach(self.beside, SocketAddrV4::new(self.address, 80)).ok()?.parse().ok()
    }

    /// Waits until it says that it was booted so often.
    pub(crate) fn booted(self, boots: u32) {
        until(WHOLE, &format!("{} to have been booted {boots} times", self.address), || {
            Ok(self
                .ask("GET", "/boots", b"")
                .filter(|said| *said == format!("{boots}\n").into_bytes())
                .map(drop))
        })
        .unwrap();
    }

    /// The user data it found.
    pub(crate) fn user_data(self) -> String {
        let said = reach(self.beside, SocketAddrV4::new(self.address, 81)).unwrap();
        said.split_once("\r\n\r\n").map(|(_, data)| data.to_owned()).unwrap()
    }

    pub(crate) fn keep(self, file: &str, data: &[u8]) {
        self.post(&format!("/file/{file}"), data);
    }

    pub(crate) fn kept(self, file: &str) -> Option<Vec<u8>> {
        self.ask("GET", &format!("/file/{file}"), b"")
    }

    pub(crate) fn disks(self) -> Vec<Disk> {
        listed(&self.get("/disks"))
    }

    /// Has it look for new disks, and let go of those that are gone.
    pub(crate) fn scan(self) -> Vec<Disk> {
        listed(&self.post("/scan", b""))
    }

    /// Waits until it has, or has not, a disk that is this logical unit.
    pub(crate) fn disk(self, lun: u16, there: bool) -> Option<Disk> {
        until(SOON, &format!("logical unit {lun} to be {}", if there { "there" } else { "gone" }), || {
            let found = self.scan().into_iter().find(|disk| disk.lun == Some(lun));
            Ok((found.is_some() == there).then_some(found))
        })
        .unwrap()
    }

    /// Writes at a disk's beginning, flushed. None: it failed.
    pub(crate) fn write(self, disk: &str, data: &[u8]) -> Option<()> {
        self.ask("POST", &format!("/disk/{disk}"), data).map(drop)
    }

    /// The first 4 KiB of a disk.
    pub(crate) fn read(self, disk: &str) -> Vec<u8> {
        self.get(&format!("/disk/{disk}"))
    }

    /// What its kernel says of reads and writes that failed.
    pub(crate) fn trouble(self) -> String {
        String::from_utf8_lossy(&self.get("/trouble")).into_owned()
    }

    pub(crate) fn get(self, path: &str) -> Vec<u8> {
        self.ask("GET", path, b"").unwrap_or_else(|| panic!("{} does not answer GET {path}", self.address))
    }

    pub(crate) fn post(self, path: &str, data: &[u8]) -> Vec<u8> {
        let said = self.ask("POST", path, data);
        said.unwrap_or_else(|| panic!("{} does not answer POST {path}", self.address))
    }

    /// The body of its answer; none: it does not answer, or says that it failed.
    pub(crate) fn ask(self, method: &str, path: &str, data: &[u8]) -> Option<Vec<u8>> {
        self.ask_within(method, path, data, ANSWER)
    }

    pub(crate) fn ask_within(
        self,
        method: &str,
        path: &str,
        data: &[u8],
        patience: Duration,
    ) -> Option<Vec<u8>> {
        let ask = || -> std::io::Result<Vec<u8>> {
            let to = SocketAddrV4::new(self.address, DISKS);
            let mut stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(3))?;
            stream.set_read_timeout(Some(patience))?;
            let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", data.len());
            stream.write_all(&[head.as_bytes(), data].concat())?;
            let mut said = Vec::new();
            stream.take(1 << 20).read_to_end(&mut said)?;
            Ok(said)
        };
        let said = self.beside.inside(ask).unwrap().ok()?;
        let head = said.windows(4).position(|end| end == b"\r\n\r\n")?;
        said.starts_with(b"HTTP/1.0 200 ").then(|| said[head + 4..].to_vec())
    }
}

fn listed(text: &[u8]) -> Vec<Disk> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let disk = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, octets, at, address] = words.as_slice() else { panic!("{line:?} is no disk") };
        let lun = (*at == "iscsi").then(|| address.rsplit(':').next().unwrap().parse().unwrap());
        Disk { name: (*name).to_owned(), octets: octets.parse().unwrap(), lun }
    };
    text.lines().map(disk).collect()
}
