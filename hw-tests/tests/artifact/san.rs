use std::time::Duration;

use anyhow::Result;
use hw_tests::artifact::{Flavour, Greeting, Workshop, san};

use crate::Folder;
use crate::machine::{Firmware, HOST, Machine};

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn on_a_machine_that_was_not_booted_over_iscsi_it_finds_its_root_on_the_local_disk() -> Result<()> {
    local("tiny-san-local", &Firmware::Bios, Flavour::Cloud, "virtio-net-pci")
}

#[test]
fn with_a_servers_kernel_it_does_so_by_uefi_with_an_e1000() -> Result<()> {
    local("tiny-san-e1000", &Firmware::Uefi, Flavour::Server, "e1000")
}

fn local(name: &str, firmware: &Firmware, flavour: Flavour, card: &str) -> Result<()> {
    let folder = Folder::new(name);
    let image = san::image(&Workshop::open()?, flavour)?;
    assert!(!san::image(&Workshop::open()?, flavour)?.fresh, "it is made once");
    let mut machine = Machine::new(&folder, firmware, 512)?.card(card).disk(&image.path).start()?;
    assert_eq!(machine.awaited("KILN tiny up", PATIENCE)?, format!("KILN tiny up {HOST} 10.0.2.15"));
    let greeting: Greeting = machine.ask(80, "")?.parse()?;
    assert_eq!((greeting.image.as_str(), greeting.host.as_str()), ("tiny", HOST));
    assert!(machine.ask(82, "GET /boots HTTP/1.0\r\n\r\n")?.ends_with("\r\n\r\n1\n"));
    let disks = machine.ask(82, "GET /disks HTTP/1.0\r\n\r\n")?;
    assert!(disks.contains("\r\n\r\nvda ") && disks.contains(" local "), "{disks}");
    let write = "POST /file/note HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello";
    assert!(machine.ask(82, write)?.ends_with("\r\n\r\nkept\n"));
    assert!(machine.ask(82, "GET /file/note HTTP/1.0\r\n\r\n")?.ends_with("\r\n\r\nhello"));
    assert!(machine.ask(82, "GET /file/none HTTP/1.0\r\n\r\n")?.starts_with("HTTP/1.0 500 "));
    machine.press_power_button()?;
    machine.off(PATIENCE)?;
    folder.passed();
    Ok(())
}
