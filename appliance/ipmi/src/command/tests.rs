use super::*;

fn on_the_wire(command: &Command) -> (u8, u8, Vec<u8>) {
    let message = command.message();
    (message.netfn_raw(), message.cmd(), message.data().to_vec())
}

#[test]
fn commands_are_the_bytes_of_their_tables() {
    assert_eq!(on_the_wire(&Command::GetDeviceId), (0x06, 0x01, vec![]));
    assert_eq!(on_the_wire(&Command::GetSystemGuid), (0x06, 0x37, vec![]));
    assert_eq!(on_the_wire(&Command::GetChassisStatus), (0x00, 0x01, vec![]));
    for (control, byte) in
        [(Control::Off, 0), (Control::On, 1), (Control::Cycle, 2), (Control::Reset, 3), (Control::Soft, 5)]
    {
        assert_eq!(on_the_wire(&Command::ChassisControl(control)), (0x00, 0x02, vec![byte]));
        assert_eq!(Control::from_byte(byte), Some(control));
    }
    assert_eq!(on_the_wire(&Command::GetBootFlags), (0x00, 0x09, vec![5, 0, 0]));
    let flags = BootFlags { valid: true, persistent: true, uefi: false, device: BootDevice::Disk };
    let set = |option| on_the_wire(&Command::SetBootOption(option)).2;
    assert_eq!(set(BootOption::Flags(flags)), [5, 0xc0, 0x08, 0, 0, 0]);
    assert_eq!(set(BootOption::KeepFlags), [3, 0x08]);
}

#[test]
fn boot_flags_are_what_they_were() {
    for device in
        [BootDevice::None, BootDevice::Pxe, BootDevice::Disk, BootDevice::Setup, BootDevice::Other(5)]
    {
        for uefi in [false, true] {
            let flags = BootFlags::once(device, uefi);
            assert_eq!(BootFlags::parse(&flags.bytes()), Some(flags));
        }
    }
}

#[test]
fn a_response_that_is_too_short_is_the_bmc_s_fault() {
    let short = |command: Command| {
        assert_eq!(command.parse(&[]), Err(Misbehaviour::ShortResponse(command.name())));
    };
    short(Command::GetDeviceId);
    short(Command::GetSystemGuid);
    short(Command::GetChassisStatus);
    short(Command::GetBootFlags);
    let other_parameter = [0x01, 0x04, 0, 0, 0, 0, 0];
    assert!(Command::GetBootFlags.parse(&other_parameter).is_err());
    assert_eq!(
        Command::GetBootFlags.parse(&[0x01, 0x85, 0x80, 0x04, 0, 0, 0]),
        Ok(Reply::BootFlags(BootFlags::once(BootDevice::Pxe, false))),
        "the lock bit of the selector says nothing of the flags"
    );
}

#[test]
fn what_must_not_be_done_twice_is_known() {
    assert!(Command::ChassisControl(Control::On).twice_is_once());
    assert!(!Command::ChassisControl(Control::Cycle).twice_is_once());
    assert!(!Command::ChassisControl(Control::Reset).twice_is_once());
}
