//! Commands and their responses, as far as a provisioning appliance needs them.

use crate::error::Misbehaviour;
use ipmi_rs_core::app::{DeviceId, GetDeviceId};
use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

/// A request to a BMC. Each is one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Get Device ID (section 20.1). Answered by [`Reply::Device`].
    GetDeviceId,
    /// Get System GUID (section 22.14). Answered by [`Reply::Guid`].
    GetSystemGuid,
    /// Get Chassis Status (section 28.2). Answered by [`Reply::Chassis`].
    GetChassisStatus,
    /// Chassis Control (section 28.3). Answered by [`Reply::Done`], which promises nothing: look again.
    ChassisControl(Control),
    /// Set System Boot Options (section 28.12), one parameter. Answered by [`Reply::Done`].
    SetBootOption(BootOption),
    /// Get System Boot Options (section 28.13), parameter 5. Answered by [`Reply::BootFlags`].
    GetBootFlags,
    /// Get SEL Info (section 31.2). Answered by [`Reply::Bytes`].
    GetSelInfo,
    /// Any other command. Answered by [`Reply::Bytes`], without the completion code.
    Raw {
        /// Network function.
        netfn: NetFn,
        /// Command.
        command: u8,
        /// Request data.
        data: Vec<u8>,
    },
}

/// What Chassis Control does (table 28-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Power down, at once.
    Off,
    /// Power up.
    On,
    /// Off, and on after at least a second.
    Cycle,
    /// Hard reset.
    Reset,
    /// Soft shutdown by way of the operating system (ACPI).
    Soft,
}

impl Control {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Control::Off => 0,
            Control::On => 1,
            Control::Cycle => 2,
            Control::Reset => 3,
            Control::Soft => 5,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Control> {
        [Control::Off, Control::On, Control::Cycle, Control::Reset, Control::Soft]
            .into_iter()
            .find(|control| control.byte() == byte & 0x0f)
    }
}

/// One parameter of the boot options (table 28-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootOption {
    /// Parameter 0: a change begins.
    InProgress,
    /// Parameter 0: the change is to be kept.
    Commit,
    /// Parameter 0: the change has ended.
    Complete,
    /// Parameter 3, bit 3: the flags stay valid when no Chassis Control follows within 60 seconds.
    KeepFlags,
    /// Parameter 4: the BIOS shall look at the flags.
    Acknowledge,
    /// Parameter 5.
    Flags(BootFlags),
}

/// From where a machine boots (table 28-14, parameter 5, data 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootDevice {
    /// No override.
    None,
    /// The network.
    Pxe,
    /// The default hard disk.
    Disk,
    /// The firmware's setup.
    Setup,
    /// Another of the standard's codes.
    Other(u8),
}

impl BootDevice {
    const fn code(self) -> u8 {
        match self {
            BootDevice::None => 0,
            BootDevice::Pxe => 1,
            BootDevice::Disk => 2,
            BootDevice::Setup => 6,
            BootDevice::Other(code) => code & 0x0f,
        }
    }

    const fn from_code(code: u8) -> BootDevice {
        match code & 0x0f {
            0 => BootDevice::None,
            1 => BootDevice::Pxe,
            2 => BootDevice::Disk,
            6 => BootDevice::Setup,
            other => BootDevice::Other(other),
        }
    }
}

/// The boot flags: parameter 5 of the boot options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootFlags {
    /// Whether the firmware shall look at them.
    pub valid: bool,
    /// For every boot, not only the next.
    pub persistent: bool,
    /// For a UEFI boot, not one by the BIOS.
    pub uefi: bool,
    /// From where.
    pub device: BootDevice,
}

impl BootFlags {
    /// For the next boot only.
    pub const fn once(device: BootDevice, uefi: bool) -> BootFlags {
        BootFlags { valid: true, persistent: false, uefi, device }
    }

    /// No override.
    pub const fn none() -> BootFlags {
        BootFlags { valid: false, persistent: false, uefi: false, device: BootDevice::None }
    }

    /// What the firmware will do by them.
    pub const fn effective(&self) -> BootDevice {
        if self.valid { self.device } else { BootDevice::None }
    }

    pub(crate) const fn bytes(self) -> [u8; 5] {
        let bits = (self.valid as u8) << 7 | (self.persistent as u8) << 6 | (self.uefi as u8) << 5;
        [bits, self.device.code() << 2, 0, 0, 0]
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<BootFlags> {
        let [bits, device, ..] = *bytes else {
            return None;
        };
        Some(BootFlags {
            valid: bits & 0x80 != 0,
            persistent: bits & 0x40 != 0,
            uefi: bits & 0x20 != 0,
            device: BootDevice::from_code(device >> 2),
        })
    }
}

/// What Get Chassis Status says (table 28-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChassisStatus {
    /// The system is powered.
    pub power: bool,
    /// It was shut down by a power overload.
    pub overload: bool,
    /// It was shut down by an interlock switch.
    pub interlock: bool,
    /// A fault in the main power subsystem.
    pub power_fault: bool,
    /// The attempt to turn power on or off failed.
    pub control_fault: bool,
}

impl ChassisStatus {
    pub(crate) fn parse(bytes: &[u8]) -> Option<ChassisStatus> {
        // Data byte 4 is optional; BMCs that leave out bytes 2 and 3 as well have been seen.
        let bits = *bytes.first()?;
        Some(ChassisStatus {
            power: bits & 0x01 != 0,
            overload: bits & 0x02 != 0,
            interlock: bits & 0x04 != 0,
            power_fault: bits & 0x08 != 0,
            control_fault: bits & 0x10 != 0,
        })
    }
}

/// The response to a [`Command`] that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To [`Command::GetDeviceId`].
    Device(DeviceId),
    /// To [`Command::GetSystemGuid`], in the BMC's own order of bytes.
    Guid([u8; 16]),
    /// To [`Command::GetChassisStatus`].
    Chassis(ChassisStatus),
    /// To [`Command::GetBootFlags`].
    BootFlags(BootFlags),
    /// To a command without response data.
    Done,
    /// To [`Command::GetSelInfo`] and [`Command::Raw`].
    Bytes(Vec<u8>),
}

/// The requests that set the boot flags, in the order that BMCs have been met to want. All but
/// [`BootOption::Flags`] are courtesies: a BMC that refuses one may still do what it is told.
pub fn set_boot_flags(flags: BootFlags) -> [Command; 6] {
    [
        Command::SetBootOption(BootOption::InProgress),
        Command::SetBootOption(BootOption::Acknowledge),
        Command::SetBootOption(BootOption::KeepFlags),
        Command::SetBootOption(BootOption::Flags(flags)),
        Command::SetBootOption(BootOption::Commit),
        Command::SetBootOption(BootOption::Complete),
    ]
}

impl Command {
    /// The standard's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Command::GetDeviceId => "Get Device ID",
            Command::GetSystemGuid => "Get System GUID",
            Command::GetChassisStatus => "Get Chassis Status",
            Command::ChassisControl(_) => "Chassis Control",
            Command::SetBootOption(_) => "Set System Boot Options",
            Command::GetBootFlags => "Get System Boot Options",
            Command::GetSelInfo => "Get SEL Info",
            Command::Raw { .. } => "a raw command",
        }
    }

    /// Whether the command may be carried out twice when it is asked once: it is not sent a second time
    /// otherwise, and when no answer comes nobody knows whether it was done.
    pub const fn twice_is_once(&self) -> bool {
        match self {
            Command::ChassisControl(control) => matches!(control, Control::On | Control::Off),
            Command::Raw { .. } => false,
            _ => true,
        }
    }

    pub(crate) fn message(&self) -> Message {
        let request = |netfn, command, data: &[u8]| Message::new_request(netfn, command, data.to_vec());
        match self {
            Command::GetDeviceId => GetDeviceId.into(),
            Command::GetSystemGuid => request(NetFn::App, 0x37, &[]),
            Command::GetChassisStatus => request(NetFn::Chassis, 0x01, &[]),
            Command::ChassisControl(control) => request(NetFn::Chassis, 0x02, &[control.byte()]),
            Command::SetBootOption(option) => match option {
                BootOption::Complete => request(NetFn::Chassis, 0x08, &[0, 0]),
                BootOption::InProgress => request(NetFn::Chassis, 0x08, &[0, 1]),
                BootOption::Commit => request(NetFn::Chassis, 0x08, &[0, 2]),
                BootOption::KeepFlags => request(NetFn::Chassis, 0x08, &[3, 0x08]),
                // Data 1 masks the bit that data 2 sets: 1, handled by the BIOS or POST.
                BootOption::Acknowledge => request(NetFn::Chassis, 0x08, &[4, 0x01, 0x01]),
                BootOption::Flags(flags) => {
                    let [a, b, c, d, e] = flags.bytes();
                    request(NetFn::Chassis, 0x08, &[5, a, b, c, d, e])
                }
            },
            Command::GetBootFlags => request(NetFn::Chassis, 0x09, &[5, 0, 0]),
            Command::GetSelInfo => request(NetFn::Storage, 0x40, &[]),
            Command::Raw { netfn, command, data } => request(*netfn, *command, data),
        }
    }

    pub(crate) fn parse(&self, data: &[u8]) -> Result<Reply, Misbehaviour> {
        let reply = match self {
            Command::GetDeviceId => GetDeviceId::parse_success_response(data).ok().map(Reply::Device),
            Command::GetSystemGuid => data.first_chunk().map(|guid| Reply::Guid(*guid)),
            Command::GetChassisStatus => ChassisStatus::parse(data).map(Reply::Chassis),
            Command::ChassisControl(_) | Command::SetBootOption(_) => Some(Reply::Done),
            // Parameter version, parameter selector with the lock bit, and the parameter.
            Command::GetBootFlags => match data {
                [_, selector, flags @ ..] if selector & 0x7f == 5 => {
                    BootFlags::parse(flags).map(Reply::BootFlags)
                }
                _ => None,
            },
            Command::GetSelInfo | Command::Raw { .. } => Some(Reply::Bytes(data.to_vec())),
        };
        reply.ok_or(Misbehaviour::ShortResponse(self.name()))
    }
}

#[cfg(test)]
mod tests;
