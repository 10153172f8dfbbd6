//! Real firmware, from power-on to its boot script: the three hands on one wire, and QEMU at its other end.
//!
//! QEMU's own network ROM is Debian's iPXE of 2019; without `romfile=` OVMF boots by its own PXE and HTTP.

use crate::{
    dhcp,
    tftp::plan as tftp_plan,
    wire::{CLIENT_MAC, Daemon, PATIENCE, SERVER, Watch, Wire, on_a_wire},
};
use hw_tests::rack::until;
use serde_json::{Value, json};
use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

const LOADERS: &str = "/usr/lib/ipxe";
const RAN: &str = "KILN-SCRIPT-RUNS";
const BIOS: &str = "-machine pc,graphics=off";
const NO_PXE: &str = "-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=no \
                      -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=no";

/// One emulated machine at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A TAP for the machine, in the server's place, instead of the wire.
fn tap(wire: &Wire) {
    wire.run("ip address flush dev s0");
    wire.run("ip tuntap add dev n1 mode tap");
    wire.run("ip link set n1 up");
    wire.run(&format!("ip address add {SERVER}/24 dev n1"));
}

fn script() -> String {
    format!("#!ipxe\necho {RAN} ${{net0/ip}} ${{platform}}\nsleep 600\n")
}

fn http(wire: &Wire) -> Daemon {
    let plan = json!({
        "listen": [[format!("{SERVER}:8080"), "n1"]],
        "assets": [{ "path": "/snponly.efi", "file": format!("{LOADERS}/snponly.efi") }],
        "scripts": [{ "path": "/boot/n1-4-2", "body": script(), "attempt": "n1-4-2" }],
        "images": null, "logs": null, "sessions": [],
    });
    wire.bootd("http", &plan)
}

fn tftp(wire: &Wire) -> Daemon {
    let mut plan = tftp_plan(&[("snponly.efi", &format!("{LOADERS}/snponly.efi"))]);
    plan["listen"][0]["device"] = json!("n1");
    wire.bootd("tftp", &plan)
}

/// Powers a machine on.
fn machine(wire: &Wire, firmware: &str, card: &str) -> Daemon {
    wire.start("qemu", &format!(
        "qemu-system-x86_64 -accel tcg -cpu qemu64 -m 256 -nodefaults -display none -no-reboot {firmware} \
         -netdev tap,id=n,ifname=n1,script=no,downscript=no,vnet_hdr=off -device {card},netdev=n,mac={CLIENT_MAC},bootindex=1 \
         -device virtio-rng-pci -serial file:{}", wire.path("serial.log")
    ))
}

fn ovmf(wire: &Wire) -> String {
    let firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    let variables = wire.path("variables.fd");
    fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables)
        .expect("the package ovmf is not installed: run hw-tests/setup");
    format!(
        "-machine q35,graphics=off -drive if=pflash,unit=0,format=raw,readonly=on,file={firmware} \
         -drive if=pflash,unit=1,format=raw,file={variables}"
    )
}

/// Seconds from power-on to each of these, which happen in this order.
fn phases(wire: &Wire, watch: &Watch, wanted: &[(&str, &str, &str)]) -> Vec<f64> {
    let mut seconds = Vec::new();
    for (name, file, text) in wanted {
        let file = if *file == "serial" { "serial.log" } else { file };
        until(PATIENCE, name, || Ok(wire.read(file).contains(text).then_some(())))
            .unwrap_or_else(|error| panic!("{error:#}; serial: {}", wire.read("serial.log")));
        seconds.push(watch.seconds());
        println!("{:6.1} s  {name}", watch.seconds());
    }
    seconds
}

const SCRIPT: (&str, &str, &str) = ("script fetched", "http.out", "\"script\":{\"attempt\":\"n1-4-2\"");
const RUNS: (&str, &str, &str) = ("script runs", "serial", RAN);

/// Whether iPXE waits for what does not come: twelve seconds for a router, three for a proxy.
#[test]
fn ipxe_loses_none_of_the_seconds_that_it_loses_with_a_plain_dnsmasq() {
    let _turn = turn();
    let boot = |name: &str, hand: &(dyn Fn(&Wire) -> Daemon + Sync), asked: (&str, &str, &str)| {
        let mut waited = 0.0;
        on_a_wire(name, |wire| {
            tap(wire);
            let _served = (hand(wire), http(wire));
            println!("{name}");
            let watch = Watch::start();
            let _machine = machine(wire, BIOS, "virtio-net-pci");
            let seconds = phases(wire, &watch, &[("asked", asked.1, asked.2), SCRIPT, RUNS]);
            waited = seconds[2] - seconds[0];
        });
        waited
    };
    let plain = |wire: &Wire| {
        let lines = format!(
            "port=0\ninterface=n1\nbind-interfaces\nno-ping\nlog-dhcp\nlog-facility=-\nuser=root\ndhcp-leasefile={}\n\
             dhcp-range=10.7.0.50,10.7.0.59,255.255.255.0,2m\ndhcp-boot=http://{SERVER}:8080/boot/n1-4-2\n",
            wire.path("dnsmasq.leases")
        );
        let configuration = wire.write("dnsmasq.conf", &lines);
        wire.start("dnsmasq", &format!("dnsmasq -k -C {configuration} --pid-file="))
    };
    let reference = boot("ipxe-dnsmasq", &plain, ("asked", "dnsmasq.log", "DHCPDISCOVER"));
    let hand = |wire: &Wire| wire.bootd("dhcp", &dhcp::plan("n1", |_| ()));
    let ours = boot("ipxe-bootd", &hand, ("asked", "dhcp.out", "\"moment\":\"offered\""));
    println!("from DISCOVER to script: {ours:.1} s, with a plain dnsmasq {reference:.1} s");
    assert!(reference - ours > 10.0, "{ours:.1} s is too near {reference:.1} s");
}

/// The address comes by DHCP, the loader by TFTP or HTTP, the script by HTTP; each is told with its facts.
fn boots(name: &str, firmware: fn(&Wire) -> String, card: &str, wanted: &[(&str, &str, &str)]) {
    let _turn = turn();
    on_a_wire(name, |wire| {
        tap(wire);
        let _served = (wire.bootd("dhcp", &dhcp::plan("n1", |_| ())), tftp(wire), http(wire));
        let watch = Watch::start();
        let _machine = machine(wire, &firmware(wire), card);
        phases(wire, &watch, wanted);
    });
}

#[test]
fn an_e1000_with_ipxe_boots() {
    let asked = ("asked, as BIOS iPXE", "dhcp.out", "\"architecture\":\"bios\"");
    boots("e1000", |_| BIOS.to_owned(), "e1000", &[asked, SCRIPT, RUNS]);
}

#[test]
fn uefi_boots_by_pxe_then_tftp_then_ipxe() {
    let asked = ("asked, as UEFI PXE", "dhcp.out", "\"architecture\":\"uefi-x64\"");
    let loader = ("loader fetched", "tftp.out", "\"ended\":\"done\"");
    let again = ("asked, as iPXE", "dhcp.out", "\"ipxe\":true");
    boots("uefi-pxe", ovmf, "virtio-net-pci,romfile=", &[asked, loader, again, SCRIPT, RUNS]);
}

#[test]
fn uefi_boots_by_http() {
    let asked = ("asked, as UEFI HTTP", "dhcp.out", "\"architecture\":\"uefi-x64-http\"");
    let loader = ("loader fetched", "http.out", "/snponly.efi");
    let again = ("asked, as iPXE", "dhcp.out", "\"ipxe\":true");
    let firmware = |wire: &Wire| format!("{} {NO_PXE}", ovmf(wire));
    boots("uefi-http", firmware, "virtio-net-pci,romfile=", &[asked, loader, again, SCRIPT, RUNS]);
}

/// A boot that is not offered costs nothing: iPXE goes on to the disk.
#[test]
fn a_machine_that_is_to_boot_from_its_disk_is_sent_there() {
    let _turn = turn();
    on_a_wire("disk", |wire| {
        tap(wire);
        let none = |network: &mut Value| network["hosts"][0]["boot"] = Value::Null;
        let _served = (wire.bootd("dhcp", &dhcp::plan("n1", none)), http(wire));
        let watch = Watch::start();
        let _machine = machine(wire, BIOS, "virtio-net-pci");
        let bound = ("bound", "dhcp.out", "\"moment\":\"bound\"");
        let disk = ("sent to its disk", "serial", "No bootable device");
        phases(wire, &watch, &[bound, disk]);
        assert!(!wire.read("http.out").contains("\"script\""));
    });
}
