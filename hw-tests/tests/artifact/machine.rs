//! A machine with one network card, whose network is QEMU itself: DHCP, with a host name in option 12.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hw_tests::rack::{readable, until};

pub(crate) const HOST: &str = "node-9";
pub(crate) const MAC: &str = "52:54:00:00:00:09";

pub(crate) enum Firmware {
    Bios,
    Uefi,
}

/// How to start a machine.
pub(crate) struct Machine {
    folder: PathBuf,
    qemu: Command,
    disks: u32,
}

impl Machine {
    /// A machine that keeps its files in `folder`. Its emulator ends with the thread that starts it.
    pub(crate) fn new(folder: &Path, firmware: &Firmware, memory_mib: u32) -> Result<Self> {
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "nice", "-n", "5", "qemu-system-x86_64"]);
        match firmware {
            Firmware::Bios => qemu.args(["-machine", "pc,graphics=off"]),
            Firmware::Uefi => {
                let variables = folder.join("variables");
                fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables)
                    .context("no OVMF: run hw-tests/setup")?;
                qemu.args(["-machine", "q35,graphics=off", "-drive"])
                    .arg("if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd")
                    .arg("-drive")
                    .arg(format!("if=pflash,format=raw,file={}", variables.display()))
            }
        };
        qemu.args(["-accel", "tcg", "-cpu", "qemu64", "-display", "none", "-nodefaults"])
            .args(["-m", &memory_mib.to_string(), "-device", "virtio-rng-pci"])
            .args(["-serial", &format!("file:{}", folder.join("console").display())])
            .args(["-monitor", &format!("unix:{},server=on,wait=off", folder.join("monitor").display())])
            .args(["-netdev"])
            .arg(format!(
                "user,id=net,hostname={HOST},hostfwd=tcp:127.0.0.1:0-:80,hostfwd=tcp:127.0.0.1:0-:81,\
                 hostfwd=tcp:127.0.0.1:0-:82"
            ));
        Ok(Self { folder: folder.to_owned(), qemu, disks: 0 })
    }

    pub(crate) fn card(mut self, model: &str) -> Self {
        self.qemu.args(["-device", &format!("{model},netdev=net,mac={MAC},romfile=")]);
        self
    }

    /// Attaches a raw image; what is written to it is lost. The first is booted from.
    pub(crate) fn disk(self, image: &Path) -> Self {
        self.disk_on("virtio-blk-pci", image)
    }

    /// The same, on another model of disk.
    pub(crate) fn disk_on(mut self, model: &str, image: &Path) -> Self {
        self.disks += 1;
        let name = format!("disk{}", self.disks);
        let drive = format!("if=none,id={name},format=raw,snapshot=on,file={}", image.display());
        let device = format!("{model},drive={name},bootindex={}", self.disks);
        self.qemu.args(["-drive", &drive, "-device", &device]);
        self
    }

    pub(crate) fn kernel(mut self, kernel: &Path, initramfs: &Path, arguments: &str) -> Self {
        self.qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).args(["-append", arguments]);
        self
    }

    pub(crate) fn start(mut self) -> Result<Running> {
        let log = fs::File::create(self.folder.join("qemu.log"))?;
        let child = self
            .qemu
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv cannot be started")?;
        Ok(Running { folder: self.folder, child })
    }
}

/// A machine that runs; it is ended when this is dropped.
pub(crate) struct Running {
    folder: PathBuf,
    child: Child,
}

impl Running {
    /// What it wrote to its serial port.
    pub(crate) fn console(&self) -> String {
        readable(&fs::read(self.folder.join("console")).unwrap_or_default())
    }

    /// Waits for a line of the console that begins with `start`, and returns it.
    pub(crate) fn awaited(&mut self, start: &str, patience: Duration) -> Result<String> {
        self.awaited_again(start, 1, patience)
    }

    /// Waits until so many lines of the console begin with `start`, and returns the last of them.
    pub(crate) fn awaited_again(&mut self, start: &str, times: usize, patience: Duration) -> Result<String> {
        let folder = self.folder.clone();
        let said = until(patience, &format!("'{start}' on the console"), || {
            // Looked at first: one that says it and turns itself off has said it.
            let ended = self.child.try_wait()?;
            let console = self.console();
            let said = console.lines().filter(|line| line.starts_with(start)).nth(times - 1);
            ensure!(
                said.is_some() || ended.is_none(),
                "QEMU ended: {}",
                fs::read_to_string(folder.join("qemu.log"))?
            );
            Ok(said.map(str::to_owned))
        });
        said.with_context(|| format!("the console said:\n{}", self.console()))
    }

    /// Waits until the machine has turned itself off.
    pub(crate) fn off(&mut self, patience: Duration) -> Result<()> {
        until(patience, "the machine to turn itself off", || Ok(self.child.try_wait()?.map(drop)))
    }

    fn monitor(&self, command: &str) -> Result<BufReader<UnixStream>> {
        let mut monitor = UnixStream::connect(self.folder.join("monitor"))?;
        monitor.set_read_timeout(Some(Duration::from_secs(10)))?;
        monitor.write_all(command.as_bytes())?;
        monitor.write_all(b"\n")?;
        Ok(BufReader::new(monitor))
    }

    pub(crate) fn press_power_button(&self) -> Result<()> {
        self.told("system_powerdown")
    }

    /// Gives the monitor a command and waits until it was taken.
    fn told(&self, command: &str) -> Result<()> {
        let mut answer = String::new();
        // The prompt after the command says that it was taken.
        let mut monitor = self.monitor(&format!("{command}\ninfo name"))?;
        while !answer.contains("info name") {
            answer.clear();
            ensure!(monitor.read_line(&mut answer)? > 0, "the monitor closed");
        }
        Ok(())
    }

    /// Holds a key down for a minute. One press: of a row of them, the key is up half of the time.
    pub(crate) fn hold_key(&self, key: &str) -> Result<()> {
        self.told(&format!("sendkey {key} 60000"))
    }

    /// The port on this host that leads to the machine's `port`.
    fn forwarded(&self, port: u16) -> Result<u16> {
        let mut monitor = self.monitor("info usernet")?;
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(monitor.read_line(&mut line)? > 0, "the monitor closed without naming port {port}");
            // Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.first() == Some(&"TCP[HOST_FORWARD]") && words.get(5) == Some(&port.to_string().as_str())
            {
                return words
                    .get(3)
                    .and_then(|word| word.parse().ok())
                    .context("the source port is no number");
            }
        }
    }

    /// Connects to the machine's port, sends `request` and returns all that comes back.
    pub(crate) fn ask(&self, port: u16, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.forwarded(port)?))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request.as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
