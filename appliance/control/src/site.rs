use boot::Device;
use deploy::Patience;
use rack::{IqnPrefix, NetworkName};
use std::collections::BTreeMap;

/// What the appliance itself is: its interfaces, directories and boot files. From its configuration.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The interface by which each network is reached.
    pub interfaces: BTreeMap<NetworkName, Device>,
    /// What nodes boot.
    pub files: BootFiles,
    /// The directory of the image store.
    pub images: String,
    /// The directory of volumes.
    pub volumes: String,
    /// What the names of our iSCSI targets and of nodes' initiators begin with.
    pub iqn: IqnPrefix,
    /// TCP port of iSCSI; 3260 as a rule.
    pub iscsi_port: u16,
    /// The directory of config drives, each named by its digest.
    pub drives: String,
    /// The directory of agents' logs.
    pub logs: String,
    /// TCP port of the boot files and the agents; 80 as a rule.
    pub http_port: u16,
    /// UDP port of TFTP; 69 as a rule.
    pub tftp_port: u16,
    /// Added to the ramdisk's kernel command line.
    pub kernel_args: String,
    /// Whether the appliance is its image, with two slots and a host hand.
    pub image: bool,
    /// How long to wait for what.
    pub patience: Patience,
}

/// Where the boot files are on the appliance's disk.
#[derive(Clone, Debug, Default)]
pub struct BootFiles {
    /// iPXE for BIOS PXE ROMs.
    pub ipxe_bios: String,
    /// iPXE for x86-64 UEFI.
    pub ipxe_uefi: String,
    /// The deploy ramdisk's kernel.
    pub kernel: String,
    /// The deploy ramdisk's initramfs.
    pub initramfs: String,
}
