//! A box alone: its image in QEMU, its uplink QEMU's own network, and the operator on this machine's loopback.

use hw_tests::rack::until;
use hw_tests::stand::built;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(super) const MAC: &str = "52:54:00:4b:fe:01";
pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The stick, and the uplink's card but for its MAC, as QEMU plugs them in.
pub(super) const STICK: &str = "usb-storage,bus=usb.0,drive=stick,removable=on,id=stick";
pub(super) const NIC: &str = "virtio-net-pci,netdev=net,id=nic,romfile=,mac=";

/// What a box starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start<'a> {
    Bios,
    /// BIOS, and the stick not put in yet.
    Bare,
    /// BIOS, from a disk that is write-protected.
    Protected,
    /// BIOS, every write to the disk in this log.
    Logged(&'a Path),
    /// UEFI with Secure Boot, its variables in `vars.fd` of the folder: made, in setup mode, unless they are there.
    Secure,
    /// The same, every write to the disk in this log.
    SecureLogged(&'a Path),
}

impl<'a> Start<'a> {
    fn is_secure(self) -> bool {
        matches!(self, Start::Secure | Start::SecureLogged(_))
    }

    fn log(self) -> Option<&'a Path> {
        match self {
            Start::Logged(log) | Start::SecureLogged(log) => Some(log),
            Start::Bios | Start::Bare | Start::Protected | Start::Secure => None,
        }
    }
}

/// A box; ended when it is dropped.
pub(super) struct Lone {
    folder: PathBuf,
    port: u16,
    qemu: Child,
}

/// Flashes an image on a disk of 2 GiB, with a stick beside it that has a configuration.
pub(super) fn flash(image: &Path, folder: &Path) -> PathBuf {
    flash_on(2 << 30, image, folder)
}

/// The same on a disk of so many octets; fewer than the image has: of as many as that.
pub(super) fn flash_on(size: u64, image: &Path, folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let disk = folder.join("disk.img");
    copy(image, &disk);
    let open = File::options().write(true).open(&disk).unwrap();
    open.set_len(open.metadata().unwrap().len().max(size)).unwrap();
    let stick = folder.join("stick.img");
    File::create(&stick).unwrap().set_len(4 << 20).unwrap();
    good(Command::new("mkfs.vfat").args(["-n", "KILN-CONFIG"]).arg(&stick));
    let toml = format!(
        "[uplink]\ndevice = \"{MAC}\"\naddress = \"10.0.2.15/24\"\ngateway = \"10.0.2.2\"\n\n[api]\ntoken = \"{TOKEN}\"\n"
    );
    configure(folder, &toml);
    fs::write(folder.join("token"), TOKEN).unwrap();
    disk
}

/// Puts a configuration on the stick.
pub(super) fn configure(folder: &Path, toml: &str) {
    let text = folder.join("kiln.toml");
    fs::write(&text, toml).unwrap();
    good(
        Command::new("mcopy").arg("-o").arg("-i").arg(folder.join("stick.img")).arg(&text).arg("::kiln.toml"),
    );
}

/// Takes the configuration from the stick.
pub(super) fn wipe_stick(folder: &Path) {
    fs::write(folder.join("stick.img"), vec![0; 4 << 20]).unwrap();
}

/// A copy, its holes kept.
pub(super) fn copy(from: &Path, to: &Path) {
    good(Command::new("cp").arg("--sparse=always").arg(from).arg(to));
}

fn good(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lone {
    /// Switches it on, with a disk and the stick of `flash` in the same folder.
    pub(super) fn start(folder: &Path, disk: &Path, from: Start) -> Lone {
        // Whoever takes the port in between makes QEMU fail, which is seen.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64"]);
        qemu.args(["-m", "512", "-nodefaults", "-display", "none"]);
        if from.is_secure() {
            let variables = folder.join("vars.fd");
            if !variables.exists() {
                fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).unwrap();
            }
            qemu.args(["-machine", "q35,smm=on,graphics=off"]);
            qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on"]);
            qemu.args(["-global", "ICH9-LPC.disable_s3=1", "-drive"]);
            qemu.arg("if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd");
            qemu.arg("-drive").arg(format!("if=pflash,unit=1,format=raw,file={}", variables.display()));
        } else {
            qemu.args(["-machine", "pc,graphics=off"]);
        }
        let (disk, here) = (disk.display(), folder.display());
        let only = if from == Start::Protected { ",read-only=on" } else { "" };
        let file = format!("driver=file,filename={disk},node-name=file,discard=unmap{only}");
        qemu.arg("-blockdev").arg(file);
        qemu.arg("-blockdev").arg(format!("driver=raw,file=file,node-name=raw{only}"));
        if let Some(log) = from.log() {
            File::create(log).unwrap();
            qemu.arg("-blockdev").arg(format!("driver=file,filename={},node-name=log", log.display()));
            qemu.arg("-blockdev").arg(
                "driver=blklogwrites,file=raw,log=log,log-sector-size=512,log-super-update-interval=1,node-name=logged",
            );
        }
        // The log puts a piece before each write's: one that QEMU merged to as many pieces as the host takes at once
        // would fail.
        let drive = if from.log().is_some() { "logged,request-merging=off" } else { "raw" };
        qemu.args(["-device", &format!("virtio-blk-pci,drive={drive},bootindex=1,write-cache=on")]);
        qemu.args(["-device", "qemu-xhci,id=usb"]);
        qemu.args(["-drive", &format!("if=none,id=stick,format=raw,readonly=on,file={here}/stick.img")]);
        if from != Start::Bare {
            qemu.args(["-device", STICK]);
        }
        qemu.args([
            "-netdev",
            &format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:8080"),
        ]);
        qemu.args(["-device", &format!("{NIC}{MAC}")]);
        qemu.arg("-monitor").arg(format!("unix:{here}/monitor,server=on,wait=off"));
        qemu.args(["-device", "virtio-rng-pci"]);
        let _ = fs::remove_file(folder.join("serial"));
        qemu.args(["-chardev", &format!("socket,id=serial,path={here}/serial,server=on,wait=off,logfile={here}/console.log,logappend=on")]);
        qemu.args(["-serial", "chardev:serial"]);
        let errors = File::create(folder.join("qemu.log")).unwrap();
        let qemu = qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        Lone { folder: folder.to_owned(), port, qemu }
    }

    /// All its console said since the folder was made.
    pub(super) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("console.log")).unwrap_or_default()).into_owned()
    }

    /// A person at its serial port.
    pub(super) fn person(&mut self) -> UnixStream {
        let socket = self.folder.join("serial");
        let what = "QEMU to make the serial port";
        let person = self.wait(Duration::from_secs(30), what, |_| UnixStream::connect(&socket).ok());
        // What is said is read from the log; here it must only not pile up, or the box waits for its reader.
        let mut said = person.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        person
    }

    /// Has QEMU plug something in, or take it out (`device_add`, `device_del`). What it refuses is asked again: what was
    /// taken out goes by and by.
    pub(super) fn hands(&mut self, command: &str) {
        self.wait(Duration::from_secs(60), &format!("QEMU to take {command:?}"), |lone| {
            lone.order(command).inspect_err(|refused| println!("{command}: {refused}")).ok()
        });
    }

    fn order(&self, command: &str) -> Result<(), String> {
        let monitor = UnixStream::connect(self.folder.join("monitor"));
        let monitor = monitor.map_err(|e| format!("no monitor: {e}"))?;
        monitor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let hear = || -> String {
            let mut said = String::new();
            while !said.ends_with("(qemu) ") {
                let mut octets = [0; 4096];
                let length = (&monitor).read(&mut octets).unwrap();
                assert_ne!(length, 0, "the monitor went away: {said}");
                said.push_str(&String::from_utf8_lossy(&octets[..length]));
            }
            said
        };
        hear();
        (&monitor).write_all(format!("{command}\n").as_bytes()).unwrap();
        let answer = hear();
        if answer.contains("Error") { Err(answer) } else { Ok(()) }
    }

    /// Runs `kiln` as its operator.
    pub(super) fn kiln(&self, arguments: &[&str]) -> Result<String, String> {
        let mut kiln = Command::new(built("kiln").unwrap());
        kiln.env("KILN_URL", format!("http://127.0.0.1:{}", self.port));
        kiln.env("KILN_TOKEN_FILE", self.folder.join("token"));
        let output = kiln.args(arguments).stdin(Stdio::null()).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `kiln -o json` says.
    pub(super) fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, String> {
        let said = self.kiln(&[&["-o", "json"], arguments].concat())?;
        serde_json::from_str(&said).map_err(|e| format!("{e}: {said}"))
    }

    /// Waits until something is so.
    pub(super) fn wait<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut(&Lone) -> Option<T>,
    ) -> T {
        let waited = until(patience, what, || {
            if let Some(ended) = self.qemu.try_wait()? {
                let said = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
                anyhow::bail!("QEMU ended ({ended}): {said}");
            }
            Ok(look(self))
        });
        waited.unwrap_or_else(|e| {
            panic!("{e:#}\nits console, in {}:\n{}", self.folder.display(), self.console())
        })
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        // One that has ended is what is wished.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
