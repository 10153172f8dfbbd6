//! What is in the squashfs, as a folder.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Recipe, Release, Sources, host, libraries};
use crate::artifact::command::{text, tool};
use crate::artifact::cpio::Archive;
use crate::artifact::ramdisk;

const ROOTFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rootfs");

/// Empty folders, with their modes.
const FOLDERS: [(&str, u32); 12] = [
    ("", 0o755),
    ("data", 0o755),
    ("dev", 0o755),
    ("lib/modules", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/bin", 0o755),
    ("var", 0o755),
];

/// The files of `rootfs/etc`, by their path on the target, in order.
pub(super) fn files() -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from("etc")];
    while let Some(folder) = folders.pop() {
        let here = Path::new(ROOTFS).join(&folder);
        for entry in fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push((path.to_string_lossy().into_owned(), fs::read(entry.path())?));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Fills the folder `root`, which is not there yet.
pub(super) fn write(sources: &Sources, recipe: &Recipe, scratch: &Path, root: &Path) -> Result<()> {
    let tree = Tree(root);
    for (name, mode) in FOLDERS {
        tree.folder(name, mode)?;
    }
    for (name, octets) in files()? {
        tree.file(&name, &octets, 0o644)?;
    }
    tree.file("etc/os-release", os_release(recipe.release).as_bytes(), 0o644)?;
    tree.link("etc/resolv.conf", "/run/resolv.conf")?;

    for (path, file) in libraries::with_programs(&sources.tools, &[&sources.rauc])? {
        tree.file(&path, &read(&file)?, 0o755)?;
    }
    let busybox = sources.busybox.join("bin/busybox");
    tree.file("bin/busybox", &read(&busybox)?, 0o755)?;
    for applet in text(tool(&busybox.to_string_lossy()).arg("--list-full"))?.lines() {
        // Debian's own programs come first, and linuxrc is init's name in an initrd.
        if !root.join(applet).exists() && applet != "linuxrc" {
            tree.link(applet, "/bin/busybox")?;
        }
    }
    for name in ["undionly.kpxe", "snponly.efi"] {
        let file = sources.ipxe.join("usr/lib/ipxe").join(name);
        tree.file(&format!("usr/share/kiln/{name}"), &read(&file)?, 0o644)?;
    }

    tree.file("usr/bin/rauc", &read(&sources.rauc)?, 0o755)?;
    // RAUC's name for what reads and writes the boot loader's variables.
    tree.link("usr/bin/grub-editenv", "host")?;
    if let Some(signer) = recipe.signer {
        tree.file("etc/rauc/keyring.pem", &read(&signer.certificate)?, 0o644)?;
    }

    let programs = recipe.programs;
    let init = ramdisk::stripped(&programs.host, scratch)?;
    tree.file("usr/bin/host", &init, 0o755)?;
    for (name, program) in
        [("applianced", &programs.applianced), ("bootd", &programs.bootd), ("kiln", &programs.kiln)]
    {
        tree.file(&format!("usr/bin/{name}"), &ramdisk::stripped(program, scratch)?, 0o755)?;
    }

    let deploy = ramdisk::build(&sources.kernel, &programs.agent, &scratch.join("ramdisk"))?;
    tree.file("boot/kernel", &read(&deploy.kernel)?, 0o644)?;
    tree.file("boot/initramfs", &read(&deploy.initramfs)?, 0o644)?;
    let mut archive = Archive::default();
    host::fill(&mut archive, &sources.kernel, init)?;
    let mut octets = Vec::new();
    // The kernel unpacks archives that follow one another.
    archive.write(&mut octets)?;
    recipe.more.write(&mut octets)?;
    tree.file("boot/host.cpio", &octets, 0o644)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// os-release(5).
fn os_release(release: &Release) -> String {
    let (Release { version, commit }, built) = (release, release.built());
    format!(
        "ID=kiln\nNAME=Kiln\nPRETTY_NAME=\"Kiln {version}\"\nVERSION_ID={version}\nBUILD_ID={commit}\nKILN_BUILT={built}\n"
    )
}

/// A folder that becomes a file system: modes are set, whatever the umask.
struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn folder(&self, name: &str, mode: u32) -> Result<()> {
        self.above(name)?;
        let path = self.0.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn above(&self, name: &str) -> Result<()> {
        for (at, _) in name.match_indices('/') {
            let folder = self.0.join(&name[..at]);
            if !folder.exists() {
                fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    fn file(&self, name: &str, octets: &[u8], mode: u32) -> Result<()> {
        self.above(name)?;
        let path = self.0.join(name);
        fs::write(&path, octets).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn link(&self, name: &str, target: &str) -> Result<()> {
        self.above(name)?;
        let path = self.0.join(name);
        symlink(target, &path).with_context(|| format!("cannot make the link {}", path.display()))
    }
}
