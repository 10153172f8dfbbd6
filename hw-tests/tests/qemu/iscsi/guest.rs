//! A machine with Debian's kernel and open-iscsi in memory, on a wire to the namespace it is started in.

use anyhow::{Context as _, Result, bail, ensure};
use hw_tests::artifact::command::{run, text, tool};
use hw_tests::artifact::cpio::Archive;
use hw_tests::artifact::debian::Mirror;
use hw_tests::artifact::kernel::KernelTree;
use hw_tests::artifact::{Flavour, Workshop};
use hw_tests::rack::{readable, until};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Commands of a guest whose processor is emulated.
const PATIENCE: Duration = Duration::from_secs(120);
const MODULES: [&str; 8] =
    ["virtio_pci", "virtio_rng", "virtio_net", "crc32c_generic", "iscsi_tcp", "sd_mod", "ext4", "nls_ascii"];
/// Names of open-iscsi's packages.
const PACKAGES: [&str; 3] = ["open-iscsi", "libopeniscsiusr", "libisns0"];
/// Programs of those packages, and of this machine.
const PROGRAMS: [&str; 2] = ["sbin/iscsid", "sbin/iscsiadm"];
const OWN_PROGRAMS: [&str; 2] = ["/sbin/mke2fs", "/sbin/e2fsck"];
const SCRIPTS: [(&str, &str); 2] = [("init", include_str!("init")), ("bin/writer", include_str!("writer"))];

/// A machine that runs; it is ended when this is dropped.
pub(super) struct Guest {
    folder: PathBuf,
    child: Child,
    orders: BufReader<UnixStream>,
}

impl Guest {
    /// Starts it on the interface `tap`, and waits until it takes orders. `files` are put into its memory.
    pub(super) fn start(folder: &Path, tap: &str, files: &[(&str, String)]) -> Result<Guest> {
        let workshop = Workshop::open()?;
        let mirror = Mirror::open(&workshop)?;
        let kernel = mirror.kernel_tree(&mirror.kernel(Flavour::Cloud)?)?;
        let initramfs = folder.join("initramfs");
        fs::write(&initramfs, self::initramfs(&mirror, &kernel, files)?)?;
        let socket = folder.join("orders");
        let log = fs::File::create(folder.join("qemu.log"))?;
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-machine", "pc,graphics=off"])
            .args(["-accel", "tcg", "-cpu", "qemu64", "-display", "none", "-nodefaults", "-m", "384"])
            .args(["-no-reboot", "-device", "virtio-rng-pci"])
            .args(["-netdev", &format!("tap,id=net,ifname={tap},script=no,downscript=no")])
            .args(["-device", "virtio-net-pci,netdev=net,id=card,mac=52:54:00:00:00:02,romfile="])
            .args(["-serial", &format!("file:{}", folder.join("console").display())])
            .args(["-serial", &format!("unix:{},server=on,wait=off", socket.display())])
            .args(["-monitor", &format!("unix:{},server=on,wait=off", folder.join("monitor").display())])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", "console=ttyS0 quiet no_timer_check panic=5"]);
        let child = qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let mut child = child.context("setpriv cannot be started: run hw-tests/setup")?;
        let console = || readable(&fs::read(folder.join("console")).unwrap_or_default());
        let ready = until(PATIENCE, "the guest to be ready", || {
            let log = || fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
            ensure!(child.try_wait()?.is_none(), "QEMU ended: {}", log());
            Ok(console().contains("KILN guest ready").then_some(()))
        });
        let orders = ready
            .with_context(|| format!("its console says: {}", console()))
            .and_then(|()| Ok(UnixStream::connect(&socket)?));
        match orders {
            Ok(orders) => Ok(Guest { folder: folder.to_owned(), child, orders: BufReader::new(orders) }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Has it do something; returns whether that ended well, and what it said.
    pub(super) fn attempt(&mut self, order: &str) -> Result<(bool, String)> {
        ensure!(!order.contains('\n'), "an order is one line");
        let stream = self.orders.get_mut();
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{order}\n").as_bytes())?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.orders.read_line(&mut line);
            let read = read.with_context(|| format!("'{order}' does not end; it said: {said}"))?;
            ensure!(read > 0, "the guest ended at '{order}'");
            match line.trim_end().strip_prefix("END ") {
                Some(code) => return Ok((code == "0", said)),
                None => said += &line,
            }
            if said.len() > 1 << 20 {
                bail!("'{order}' talks without end");
            }
        }
    }

    /// The same, when it has to end well.
    pub(super) fn order(&mut self, order: &str) -> Result<String> {
        let (done, said) = self.attempt(order)?;
        ensure!(done, "'{order}' failed: {said}");
        Ok(said)
    }

    /// Takes its cable out, or puts it in again.
    pub(super) fn cable(&self, plugged: bool) -> Result<()> {
        let mut monitor = UnixStream::connect(self.folder.join("monitor"))?;
        monitor.set_read_timeout(Some(PATIENCE))?;
        let word = if plugged { "on" } else { "off" };
        // The second command's answer says that the first was carried out.
        monitor.write_all(format!("set_link card {word}\ninfo name\n").as_bytes())?;
        let mut lines = BufReader::new(monitor).lines();
        while !lines.next().context("the monitor closed")??.contains("info name") {}
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn initramfs(mirror: &Mirror, kernel: &KernelTree, files: &[(&str, String)]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for name in ["bin", "dev", "etc/iscsi", "mnt", "proc", "run", "sbin", "sys", "tmp", "var/lib"] {
        archive.directory(name);
    }
    let busybox = mirror.tree(&mirror.package("busybox-static")?)?.join("bin/busybox");
    archive.file("bin/busybox", fs::read(busybox)?, true);
    for (name, script) in SCRIPTS {
        archive.file(name, script.as_bytes().to_vec(), true);
    }
    let mut trees = Vec::new();
    for package in PACKAGES {
        trees.push(mirror.tree(&mirror.package(package)?)?);
    }
    let mut programs: Vec<(PathBuf, String)> = Vec::new();
    for program in PROGRAMS {
        let tree = trees.first().context("no package")?;
        programs.push((tree.join(program), program.to_owned()));
    }
    programs.extend(OWN_PROGRAMS.map(|program| (PathBuf::from(program), program[1..].to_owned())));
    let libraries: Vec<String> =
        trees.iter().map(|tree| tree.join("usr/lib/x86_64-linux-gnu").display().to_string()).collect();
    let mut needed = BTreeSet::new();
    for (program, name) in programs {
        let listed = text(tool("ldd").arg(&program).env("LD_LIBRARY_PATH", libraries.join(":")))?;
        needed.extend(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
        archive.file(&name, fs::read(&program)?, true);
    }
    for library in needed {
        let name = library.file_name().context("a library without a name")?.to_string_lossy().into_owned();
        let place = if name.starts_with("ld-") { "lib64" } else { "lib/x86_64-linux-gnu" };
        archive.file(&format!("{place}/{name}"), fs::read(&library)?, true);
    }
    let mut order = String::new();
    for path in kernel.read()?.select(MODULES).paths {
        let module = kernel.modules.join(&path);
        let file = path.rsplit('/').next().unwrap_or(&path);
        let (file, data) = match file.strip_suffix(".xz") {
            Some(file) => (file, run(tool("xz").arg("-dc").arg(&module))?),
            None => (file, fs::read(&module)?),
        };
        archive.file(&format!("lib/modules/{file}"), data, false);
        order.extend([file, "\n"]);
    }
    archive.file("lib/modules/order", order.into_bytes(), false);
    for (name, content) in files {
        archive.file(name, content.clone().into_bytes(), false);
    }
    let mut octets = Vec::new();
    archive.write(&mut octets)?;
    Ok(octets)
}
