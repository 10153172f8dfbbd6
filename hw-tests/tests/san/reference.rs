//! The image and the boot script on other people's parts alone: dnsmasq, tgtd, Debian's iPXE.

use crate::guest::Guest;
use crate::scene::{SOON, WHOLE, directory, diskless, image};
use hw_tests::rack::{Firmware, Namespace, VirtualRack, Vlan, until};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const TARGET: &str = "iqn.2026-11.example.target:volume";
/// Tells the targets of this process apart.
static NUMBER: AtomicU32 = AtomicU32::new(0);
const INITIATOR: &str = "iqn.2026-11.example.initiator:node1";
/// Name and secret of the node, and of the target.
const CHAP: [(&str, &str); 2] = [("node1", "the-nodes-secret"), ("target", "the-targets-own1")];

fn script() -> String {
    let [(user, secret), (target_user, target_secret)] = CHAP;
    format!(
        "#!ipxe\nset initiator-iqn {INITIATOR}\nset username {user}\nset password {secret}\n\
         set reverse-username {target_user}\nset reverse-password {target_secret}\n\
         sanboot --drive 0x80 iscsi:10.7.0.1::3260:1:{TARGET} || reboot\n"
    )
}

/// tgtd with a copy of the image; killed with the rack, its control socket removed here.
struct Tgtd {
    control: String,
}

impl Tgtd {
    fn start(inside: &Namespace, directory: &Path) -> Tgtd {
        let disk = directory.join("volume");
        std::fs::copy(image(), &disk).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tgtd = Tgtd { control: (1000 + (std::process::id() * 8 + number) % 30000).to_string() };
        tgtd.forget();
        let log = std::fs::File::create(directory.join("tgtd.log")).unwrap();
        let mut command = Command::new("tgtd");
        command.args(["-f", "-C", &tgtd.control, "--iscsi", "portal=10.7.0.1:3260"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        drop(inside.spawn(&mut command).unwrap());
        until(SOON, "tgtd", || Ok(tgtd.tell(inside, &["--mode", "sys", "--op", "show"]).ok().map(drop)))
            .unwrap();
        let disk = disk.display().to_string();
        let mut lines: Vec<Vec<&str>> = vec![
            vec!["--mode", "target", "--op", "new", "--tid", "1", "-T", TARGET],
            vec!["--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", &disk],
            vec!["--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL"],
        ];
        for (user, secret) in CHAP {
            lines.push(vec!["--mode", "account", "--op", "new", "--user", user, "--password", secret]);
        }
        lines.push(vec!["--mode", "account", "--op", "bind", "--tid", "1", "--user", CHAP[0].0]);
        lines.push(vec![
            "--mode",
            "account",
            "--op",
            "bind",
            "--tid",
            "1",
            "--user",
            CHAP[1].0,
            "--outgoing",
        ]);
        for line in lines {
            tgtd.tell(inside, &line).unwrap();
        }
        tgtd
    }

    fn tell(&self, inside: &Namespace, words: &[&str]) -> anyhow::Result<String> {
        inside.run(Command::new("tgtadm").args(["-C", &self.control, "--lld", "iscsi"]).args(words))
    }

    fn forget(&self) {
        for name in [format!("socket.{}", self.control), format!("socket.{}.lock", self.control)] {
            std::fs::remove_file(Path::new("/var/run/tgtd").join(name)).ok();
        }
    }
}

impl Drop for Tgtd {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Gives the script to whoever asks for anything.
fn serve(inside: &Namespace) {
    let to = SocketAddrV4::new([10, 7, 0, 1].into(), 8080);
    let listener = inside.inside(|| TcpListener::bind(to)).unwrap().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 2048];
            let script = script();
            let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", script.len());
            // A client that is gone asks again.
            let _ = stream.read(&mut asked).and_then(|_| stream.write_all((head + &script).as_bytes()));
        }
    });
}

fn dnsmasq(inside: &Namespace, directory: &Path) {
    let boot = directory.join("tftp");
    std::fs::create_dir_all(&boot).unwrap();
    std::fs::copy("/usr/lib/ipxe/snponly.efi", boot.join("snponly.efi")).unwrap();
    let lines = format!(
        "port=0\nbind-interfaces\ninterface=prov\nno-ping\ndhcp-authoritative\nuser=root\n\
         dhcp-range=10.7.0.50,10.7.0.99,255.255.255.0,1h\nenable-ra\ndhcp-range=fd07::,ra-only\n\
         dhcp-host=52:54:00:4b:00:01,node1\ndhcp-leasefile={0}/leases\nenable-tftp\ntftp-root={0}/tftp\n\
         dhcp-match=set:ipxe,175\ndhcp-option-force=tag:ipxe,encap:175,176,1b\n\
         dhcp-boot=tag:ipxe,http://10.7.0.1:8080/boot.ipxe\ndhcp-boot=tag:!ipxe,snponly.efi\n",
        directory.display()
    );
    let file = directory.join("dnsmasq.conf");
    std::fs::write(&file, lines).unwrap();
    let log = std::fs::File::create(directory.join("dnsmasq.log")).unwrap();
    let mut command = Command::new("dnsmasq");
    command.arg("-C").arg(file).args(["-k", "-d", "--pid-file="]);
    inside.run(Command::new("ip").args(["addr", "add", "fd07::1/64", "dev", "prov", "nodad"])).unwrap();
    let log_too = log.try_clone().unwrap();
    drop(inside.spawn(command.stdin(Stdio::null()).stdout(log).stderr(log_too)).unwrap());
}

fn boots(test: &str, firmware: Firmware) {
    let mut description = diskless(1, firmware);
    description.nodes[0].hardware.as_mut().unwrap().rom = firmware == Firmware::Bios;
    let rack = VirtualRack::raise(&description, &directory(test)).unwrap();
    let _tgtd = Tgtd::start(rack.kiln(), rack.directory());
    serve(rack.kiln());
    dnsmasq(rack.kiln(), rack.directory());
    rack.set_vlan_behind_our_back("node1", Vlan::new(100).unwrap()).unwrap();
    rack.ipmitool("node1", "chassis bootdev pxe").unwrap();
    rack.ipmitool("node1", "chassis power on").unwrap();
    let said = rack.wait_console("node1", Default::default(), "KILN tiny up node1 10.7.0.", WHOLE).unwrap();
    assert!(said.contains(&format!("KILN boots from {TARGET} as {INITIATOR} by eth0")), "{said}");
    let address = said.split("KILN tiny up node1 ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let guest = Guest::of(rack.kiln(), address.unwrap().parse().unwrap());
    guest.booted(1);
    guest.keep("diary", b"first day");
    rack.qemu_kill("node1").unwrap();
    rack.ipmitool("node1", "chassis power on").unwrap();
    guest.booted(2);
    assert_eq!(guest.kept("diary").unwrap(), b"first day");
    assert_eq!(guest.trouble(), "");
}

#[test]
fn the_image_boots_by_bios_from_other_peoples_target_with_mutual_chap() {
    boots("reference-bios", Firmware::Bios);
}

#[test]
fn the_image_boots_by_uefi_from_other_peoples_target_with_mutual_chap() {
    boots("reference-uefi", Firmware::Uefi);
}
