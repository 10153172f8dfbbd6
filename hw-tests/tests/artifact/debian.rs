use std::time::Duration;

use anyhow::Result;
use hw_tests::artifact::{Flavour, Greeting, Workshop, system};

use crate::Folder;
use crate::machine::{Firmware, HOST, MAC, Machine};

fn boots(firmware: &Firmware, name: &str) -> Result<()> {
    let folder = Folder::new(name);
    let image = system::image(&Workshop::open()?, Flavour::Cloud)?.path;
    let mut machine = Machine::new(&folder, firmware, 1024)?.card("virtio-net-pci").disk(&image).start()?;
    let said = machine.awaited("KILN debian up", Duration::from_secs(400))?;
    assert_eq!(said, format!("KILN debian up {HOST} 10.0.2.15"));
    let greeting: Greeting = machine.ask(80, "GET / HTTP/1.0\r\n\r\n")?.parse()?;
    assert_eq!(
        greeting,
        Greeting {
            image: "debian".into(),
            host: HOST.into(),
            mac: MAC.parse()?,
            address: "10.0.2.15".parse()?
        }
    );
    folder.passed();
    Ok(())
}

#[test]
#[ignore = "takes minutes to make and to boot: run with --ignored"]
fn it_boots_from_bios_and_takes_its_name_from_dhcp() -> Result<()> {
    boots(&Firmware::Bios, "debian-bios")
}

#[test]
#[ignore = "takes minutes to make and to boot: run with --ignored"]
fn it_boots_from_uefi_and_takes_its_name_from_dhcp() -> Result<()> {
    boots(&Firmware::Uefi, "debian-uefi")
}
