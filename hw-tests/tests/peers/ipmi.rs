//! Our console against OpenIPMI's `ipmi_sim`, and `ipmitool` against our BMC.
//!
//! `ipmi_sim` knows cipher suite 3 only, so suite 17 is tried with `ipmitool` against ours, and ours against ours.

#![cfg(test)]

use ipmi::{
    Account, Bmc, BmcConfig, BmcEvent, BootDevice, BootFlags, CipherSuite, Command, Config, Console, Control,
    Event, Failure, Password, Privilege, Reply, UserName,
};
use power::Double;
use rack::{BmcPlan, BmcTrouble, BootWish, Power, PowerFact, PowerPlan, PowerWish};
use sansio::Time;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

const PATIENCE: Duration = Duration::from_secs(30);
const USER: &str = "admin";
const PASSWORD: &str = "secret-n1";

/// The chassis of the simulated BMC: its state is files beside it.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
verb=$1; shift
while [ $# -gt 0 ]; do
  case $verb:$1 in
    get:power) echo "power:$(cat power 2>/dev/null || echo 0)"; shift;;
    get:boot) echo "boot:$(cat boot 2>/dev/null || echo none)"; shift;;
    set:*) echo "$2" >"$1"; echo "$1 $2" >>done; shift 2;;
    *) exit 1;;
  esac
done
"#;

/// A running `ipmi_sim`, gone when dropped.
struct Sim {
    child: Child,
    dir: PathBuf,
    address: SocketAddr,
}

impl Sim {
    async fn start(name: &str) -> Sim {
        let dir = std::env::temp_dir().join(format!("kiln-peers-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("state")).unwrap();
        let address = free_address();
        let chassis = dir.join("chassis");
        fs::write(&chassis, CHASSIS).unwrap();
        fs::set_permissions(&chassis, fs::Permissions::from_mode(0o755)).unwrap();
        let lan = format!(
            "name \"{name}\"\nset_working_mc 0x20\n  startlan 1\n    addr {} {}\n    priv_limit admin\n    \
             allowed_auths_callback none md2 md5 straight\n    allowed_auths_user none md2 md5 straight\n    \
             allowed_auths_operator none md2 md5 straight\n    allowed_auths_admin none md2 md5 straight\n    \
             guid a123456789abcdefa123456789abcdef\n  endlan\n  chassis_control \"{}\"\n  \
             user 1 false \"\" \"\" user 10 none\n  \
             user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n  \
             user 3 true \"oper\" \"oper-pass\" operator 10 none md2 md5 straight\n",
            address.ip(),
            address.port(),
            chassis.display()
        );
        fs::write(dir.join("lan.conf"), lan).unwrap();
        let mc = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                  sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
        fs::write(dir.join("mc.emu"), mc).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = std::process::Command::new("ipmi_sim")
            .args(["-n", "-c"])
            .arg(dir.join("lan.conf"))
            .arg("-f")
            .arg(dir.join("mc.emu"))
            .arg("-s")
            .arg(dir.join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("ipmi_sim is installed (Debian's openipmi; hw-tests/setup does it)");
        let sim = Sim { child, dir, address };
        // The reference peer first.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = ipmitool(address, 3, PASSWORD, &["-N", "1", "-R", "1", "mc", "info"]).await;
            if output.status.success() {
                return sim;
            }
            assert!(Instant::now() < deadline, "ipmitool never reached ipmi_sim: {output:?}; {}", sim.log());
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What the chassis was told, a line each.
    fn done(&self) -> Vec<String> {
        read_lines(&self.dir.join("done"))
    }
}

fn read_lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the simulator's files are kept in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn free_address() -> SocketAddr {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.local_addr().unwrap()
}

async fn ipmitool(address: SocketAddr, suite: u8, password: &str, verb: &[&str]) -> Output {
    let suite = suite.to_string();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    tokio::process::Command::new("ipmitool")
        .args(["-I", "lanplus", "-C", &suite, "-H", &host, "-p", &port, "-U", USER, "-P", password])
        .args(verb)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("ipmitool is installed (hw-tests/setup does it)")
}

/// A console on a socket.
struct Asking {
    console: Console,
    socket: UdpSocket,
    start: Instant,
    up: Option<(CipherSuite, Privilege)>,
}

impl Asking {
    async fn new(address: SocketAddr, user: &str, password: &str) -> Asking {
        let config = Config::new(UserName::new(user).unwrap(), Password::new(password).unwrap());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.connect(address).await.unwrap();
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&socket.local_addr().unwrap().port().to_le_bytes());
        seed[2..6].copy_from_slice(&std::process::id().to_le_bytes());
        Asking { console: Console::new(config, seed), socket, start: Instant::now(), up: None }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    async fn send(&mut self) {
        while let Some(datagram) = self.console.poll_transmit() {
            self.socket.send(&datagram).await.unwrap();
        }
    }

    async fn ask(&mut self, command: Command) -> Result<Reply, Failure> {
        let deadline = Instant::now() + PATIENCE;
        self.console.request(self.now(), command.clone()).unwrap();
        let mut buffer = [0; 2048];
        loop {
            self.send().await;
            while let Some(event) = self.console.poll_event() {
                match event {
                    Event::Reply { result, .. } => return result,
                    Event::Up { suite, privilege } => self.up = Some((suite, privilege)),
                    Event::Down { .. } => {}
                }
            }
            assert!(Instant::now() < deadline, "no end to {command:?}");
            let due = self.console.poll_timeout().map_or(deadline, |due| self.start + due.since(Time::ZERO));
            tokio::select! {
                received = self.socket.recv(&mut buffer) => if let Ok(len) = received {
                    self.console.handle_datagram(self.now(), &buffer[..len]);
                },
                () = sleep_until(due) => self.console.handle_timeout(self.now()),
            }
        }
    }

    async fn close(mut self) {
        self.console.close();
        self.send().await;
    }
}

fn is_on(reply: &Result<Reply, Failure>) -> bool {
    match reply {
        Ok(Reply::Chassis(status)) => status.power,
        other => panic!("not a chassis status: {other:?}"),
    }
}

#[tokio::test]
async fn our_console_drives_ipmi_sim() {
    let sim = Sim::start("console").await;
    let mut bmc = Asking::new(sim.address, USER, PASSWORD).await;
    let Ok(Reply::Device(device)) = bmc.ask(Command::GetDeviceId).await else { panic!("no device id") };
    assert_eq!((device.manufacturer_id, device.product_id), (0x1291, 0xf02));
    // It refuses suite 17.
    assert_eq!(bmc.up, Some((CipherSuite::Three, Privilege::Administrator)));
    assert!(!is_on(&bmc.ask(Command::GetChassisStatus).await));
    for command in ipmi::set_boot_flags(BootFlags::once(BootDevice::Pxe, true)) {
        let is_flags = matches!(command, Command::SetBootOption(ipmi::BootOption::Flags(_)));
        let reply = bmc.ask(command).await;
        assert!(!is_flags || reply == Ok(Reply::Done), "{reply:?}");
    }
    let flags = bmc.ask(Command::GetBootFlags).await;
    assert!(matches!(flags, Ok(Reply::BootFlags(BootFlags { device: BootDevice::Pxe, .. }))), "{flags:?}");
    assert_eq!(bmc.ask(Command::ChassisControl(Control::On)).await, Ok(Reply::Done));
    assert!(is_on(&bmc.ask(Command::GetChassisStatus).await));
    assert_eq!(bmc.ask(Command::ChassisControl(Control::Reset)).await, Ok(Reply::Done));
    assert_eq!(bmc.ask(Command::ChassisControl(Control::Off)).await, Ok(Reply::Done));
    assert!(!is_on(&bmc.ask(Command::GetChassisStatus).await));
    assert_eq!(sim.done(), ["boot pxe", "power 1", "reset 1", "power 0"]);
    let guid = bmc.ask(Command::GetSystemGuid).await;
    assert!(matches!(guid, Ok(Reply::Guid(_)) | Err(Failure::Refused { .. })), "{guid:?}");
    bmc.close().await;
}

#[tokio::test]
async fn sessions_that_we_close_leave_ipmi_sim_its_slots() {
    let sim = Sim::start("slots").await;
    for _ in 0..40 {
        let mut bmc = Asking::new(sim.address, USER, PASSWORD).await;
        is_on(&bmc.ask(Command::GetChassisStatus).await);
        bmc.close().await;
    }
}

#[tokio::test]
async fn ipmi_sim_s_refusals_name_the_culprit() {
    let sim = Sim::start("refusals").await;
    let mut bmc = Asking::new(sim.address, USER, "wrong").await;
    assert_eq!(bmc.ask(Command::GetChassisStatus).await, Err(Failure::WrongPassword));
    let mut bmc = Asking::new(sim.address, "nobody", PASSWORD).await;
    assert_eq!(bmc.ask(Command::GetChassisStatus).await, Err(Failure::UnknownUser));
    let mut bmc = Asking::new(sim.address, "oper", "oper-pass").await;
    assert!(!is_on(&bmc.ask(Command::GetChassisStatus).await));
    // It grants an operator the administrator's level (seen in 2.0.33), so which one it is proves nothing.
    assert!(bmc.up.is_some());
    bmc.close().await;
}

/// The power hand, with its channels.
struct Hand {
    plans: watch::Sender<PowerPlan>,
    facts: mpsc::Receiver<PowerFact>,
}

impl Hand {
    fn start(plan: PowerPlan) -> Hand {
        let (plans, receiver) = watch::channel(plan);
        let (sender, facts) = mpsc::channel(16);
        tokio::spawn(power::run(receiver, sender));
        Hand { plans, facts }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&PowerFact) -> bool) -> PowerFact {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.facts.recv()).await {
                Ok(Some(fact)) if is_it(&fact) => return fact,
                Ok(Some(fact)) => println!("{fact:?}"),
                Ok(None) | Err(_) => panic!("no fact that says {what}"),
            }
        }
    }
}

fn plan(address: SocketAddr, password: &str, power: Power, attempt: &str) -> PowerPlan {
    let boot = (power == Power::On).then_some(BootWish {
        device: rack::BootDevice::Pxe,
        uefi: false,
        persistent: false,
    });
    let bmc = BmcPlan {
        revision: 1,
        node: "n1".parse().unwrap(),
        address,
        user: USER.to_owned(),
        password: boot::Secret::new(password),
        wish: Some(PowerWish { power, boot, attempt: attempt.parse().unwrap() }),
    };
    PowerPlan { bmcs: vec![bmc] }
}

#[tokio::test]
async fn the_power_hand_powers_a_node_of_ipmi_sim_on_and_off() {
    let sim = Sim::start("hand").await;
    let began = Instant::now();
    let mut hand = Hand::start(plan(sim.address, PASSWORD, Power::On, "a1"));
    let fact = hand.until("on", |fact| fact.fulfilled.is_some()).await;
    assert_eq!((fact.power, fact.boot, fact.acted), (Some(Power::On), Some(rack::BootDevice::Pxe), 1));
    let on = began.elapsed();
    hand.plans.send(plan(sim.address, PASSWORD, Power::Off, "a2")).unwrap();
    let fact = hand.until("off", |fact| fact.fulfilled == "a2".parse().ok()).await;
    assert_eq!((fact.power, fact.trouble), (Some(Power::Off), None));
    println!("on {on:?}, then off {:?}", began.elapsed() - on);
    assert_eq!(sim.done(), ["boot pxe", "power 1", "power 0", "boot none"]);
}

#[tokio::test]
async fn the_power_hand_tells_a_wrong_password() {
    let sim = Sim::start("password").await;
    let mut hand = Hand::start(plan(sim.address, "wrong", Power::On, "a1"));
    let fact = hand.until("trouble", |fact| fact.trouble.is_some()).await;
    assert!(matches!(fact.trouble, Some(BmcTrouble::Credentials(_))), "{fact:?}");
    assert!(sim.done().is_empty());
}

async fn our_bmc() -> Double {
    let account = Account {
        user: UserName::new(USER).unwrap(),
        password: Password::new(PASSWORD).unwrap(),
        limit: Privilege::Administrator,
    };
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&std::process::id().to_le_bytes());
    let bmc = Bmc::new(BmcConfig { guid: *b"kiln-test-bmc-01", accounts: vec![account], slots: 4 }, seed);
    Double::start(bmc, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

async fn says(address: SocketAddr, suite: u8, verb: &[&str], expected: &[&str]) {
    let output = ipmitool(address, suite, PASSWORD, verb).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{verb:?}: {output:?}");
    for line in expected {
        assert!(text.contains(line), "{verb:?} does not say {line:?}: {text}");
    }
}

async fn ipmitool_drives_ours(suite: u8) {
    let double = our_bmc().await;
    let at = double.address();
    says(at, suite, &["mc", "info"], &["IPMI Version              : 2.0", "Chassis Device"]).await;
    says(at, suite, &["chassis", "power", "status"], &["Chassis Power is off"]).await;
    says(at, suite, &["chassis", "bootdev", "pxe", "options=efiboot"], &["Set Boot Device to pxe"]).await;
    says(
        at,
        suite,
        &["chassis", "bootparam", "get", "5"],
        &["Boot Flag Valid", "only next boot", "BIOS EFI boot", "Force PXE"],
    )
    .await;
    says(at, suite, &["chassis", "power", "on"], &["Up/On"]).await;
    says(at, suite, &["chassis", "status"], &["System Power         : on"]).await;
    says(at, suite, &["chassis", "bootparam", "get", "5"], &["Boot Flag Invalid"]).await;
    says(at, suite, &["chassis", "power", "reset"], &["Reset"]).await;
    says(at, suite, &["chassis", "power", "off"], &["Down/Off"]).await;
    says(at, suite, &["chassis", "power", "status"], &["Chassis Power is off"]).await;
    says(at, suite, &["mc", "guid"], &["System GUID"]).await;
    let events = double.events();
    assert!(
        matches!(
            &events[..],
            [
                BmcEvent::On(BootFlags {
                    device: BootDevice::Pxe,
                    uefi: true,
                    persistent: false,
                    valid: true
                }),
                BmcEvent::Reset(BootFlags { device: BootDevice::None, .. }),
                BmcEvent::Off
            ]
        ),
        "{events:?}"
    );
    assert_eq!(double.bmc().sessions(), 0, "ipmitool closes its sessions");
    let output = ipmitool(at, suite, "wrong", &["chassis", "power", "status"]).await;
    assert!(!output.status.success());
}

#[tokio::test]
async fn ipmitool_drives_our_bmc_by_suite_3() {
    ipmitool_drives_ours(3).await;
}

#[tokio::test]
async fn ipmitool_drives_our_bmc_by_suite_17() {
    ipmitool_drives_ours(17).await;
}

#[tokio::test]
async fn ipmitool_finds_our_best_suite_by_itself() {
    let double = our_bmc().await;
    let (host, port) = (double.address().ip().to_string(), double.address().port().to_string());
    let output = tokio::process::Command::new("ipmitool")
        .args(["-v", "-I", "lanplus", "-H", &host, "-p", &port, "-U", USER, "-P", PASSWORD, "mc", "info"])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Using best available cipher suite 17"), "{said}");
}
