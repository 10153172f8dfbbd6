use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use hw_tests::artifact::debian::Mirror;
use hw_tests::artifact::{Flavour, Greeting, Workshop, tiny};

use crate::Folder;
use crate::machine::{Firmware, HOST, MAC, Machine, Running};

const PATIENCE: Duration = Duration::from_secs(120);
const GET: &str = "GET / HTTP/1.1\r\nHost: node\r\n\r\n";
const USER_DATA: &str = "#cloud-config\nhostname: given\n";

#[test]
fn made_twice_of_the_same_packages_it_is_the_same_to_the_octet() -> Result<()> {
    let workshop = Workshop::open()?;
    let mirror = Mirror::open(&workshop)?;
    let kernel = mirror.kernel_tree(&mirror.kernel(Flavour::Cloud)?)?;
    let busybox = mirror.tree(&mirror.package("busybox-static")?)?;
    let kept = tiny::image(&workshop, Flavour::Cloud)?;
    let folder = Folder::new("tiny-twice");
    let again = tiny::write(&kernel, &busybox, &folder)?;
    assert!(
        fs::read(&kept.path)? == fs::read(&again)?,
        "{} differs from {}",
        again.display(),
        kept.path.display()
    );
    let asked_again = tiny::image(&workshop, Flavour::Cloud)?;
    assert!(!asked_again.fresh);
    folder.passed();
    Ok(())
}

#[test]
fn it_boots_from_bios_and_reads_a_config_drive_on_iso_9660() -> Result<()> {
    let folder = Folder::new("tiny-bios");
    let seed = folder.join("seed");
    fs::create_dir_all(seed.join("openstack/latest"))?;
    fs::write(seed.join("openstack/latest/user_data"), USER_DATA)?;
    let drive = folder.join("drive");
    tool("xorriso", &["-as", "mkisofs", "-quiet", "-V", "config-2", "-J", "-r", "-o"], &[&drive, &seed]);
    let mut machine = boot(&folder, &Firmware::Bios, &drive)?;
    machine.press_power_button()?;
    machine.off(PATIENCE)?;
    folder.passed();
    Ok(())
}

#[test]
fn it_boots_from_uefi_and_reads_a_config_drive_on_fat() -> Result<()> {
    let folder = Folder::new("tiny-uefi");
    let (drive, data) = (folder.join("drive"), folder.join("user_data"));
    fs::write(&data, USER_DATA)?;
    fs::File::create(&drive)?.set_len(1 << 20)?;
    tool("mkfs.vfat", &["-n", "CONFIG-2"], &[&drive]);
    tool("mmd", &["-i", path(&drive), "::openstack", "::openstack/latest"], &[]);
    tool("mcopy", &["-i", path(&drive), path(&data), "::openstack/latest/user_data"], &[]);
    boot(&folder, &Firmware::Uefi, &drive)?;
    folder.passed();
    Ok(())
}

#[test]
fn with_a_servers_kernel_it_drives_an_e1000() -> Result<()> {
    let folder = Folder::new("tiny-e1000");
    let image = tiny::image(&Workshop::open()?, Flavour::Server)?.path;
    let mut machine = Machine::new(&folder, &Firmware::Bios, 512)?.card("e1000").disk(&image).start()?;
    assert_eq!(machine.awaited("KILN tiny up", PATIENCE)?, format!("KILN tiny up {HOST} 10.0.2.15"));
    assert!(machine.ask(81, GET)?.ends_with("\r\n\r\n"), "there is no user data without a config drive");
    folder.passed();
    Ok(())
}

fn boot(folder: &Folder, firmware: &Firmware, drive: &Path) -> Result<Running> {
    let image = tiny::image(&Workshop::open()?, Flavour::Cloud)?.path;
    let mut machine =
        Machine::new(folder, firmware, 512)?.card("virtio-net-pci").disk(&image).disk(drive).start()?;
    assert_eq!(machine.awaited("KILN tiny up", PATIENCE)?, format!("KILN tiny up {HOST} 10.0.2.15"));
    let asked: Greeting = machine.ask(80, GET)?.parse()?;
    let unasked: Greeting = machine.ask(80, "")?.parse()?;
    assert_eq!(asked, unasked);
    assert_eq!(
        asked,
        Greeting {
            image: "tiny".into(),
            host: HOST.into(),
            mac: MAC.parse()?,
            address: "10.0.2.15".parse()?
        }
    );
    assert!(machine.ask(81, GET)?.ends_with(&format!("\r\n\r\n{USER_DATA}")));
    Ok(machine)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn tool(name: &str, arguments: &[&str], paths: &[&Path]) {
    let output = Command::new(name).args(arguments).args(paths).output();
    let output = output.unwrap_or_else(|e| panic!("{name}: {e}: run hw-tests/setup"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}
