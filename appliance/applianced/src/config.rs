use anyhow::{Context as _, Result, bail};
use boot::Device;
use control::{BootFiles, Site};
use deploy::Patience;
use rack::{IqnPrefix, NetworkName};
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The appliance's configuration, as it is written. What nodes, networks and switches there are is not
/// in it: that comes by the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) appliance: Appliance,
    /// The appliance's interfaces.
    #[serde(default, rename = "interface")]
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) files: Files,
    /// Who sets the machine's clock; none: not we.
    pub(crate) ntp: Option<Ntp>,
    /// How long to wait for what.
    #[serde(default)]
    pub(crate) patience: Patience,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Appliance {
    /// What survives everything: store, images, token.
    pub(crate) data: PathBuf,
    /// What survives until the machine is switched off: sockets, plans.
    pub(crate) run: PathBuf,
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    /// The largest disk that an image may describe, in GiB.
    #[serde(default = "most_image_gib")]
    pub(crate) most_image_gib: u64,
    /// Added to the ramdisk's kernel command line.
    #[serde(default = "kernel_args")]
    pub(crate) kernel_args: String,
    /// What the names of iSCSI targets and initiators begin with.
    #[serde(default)]
    pub(crate) iqn: IqnPrefix,
    /// The first of the user ids that services run as; each has one of the eight from here on. The group
    /// of all is the same number.
    #[serde(default = "first_user")]
    pub(crate) first_user: u32,
    /// Run once, as root, when all services were ready for a minute: it tells the boot loader that this
    /// system is good. None: nobody is told.
    #[serde(default)]
    pub(crate) good: Vec<String>,
    /// Whether this is the appliance's image: two slots, and a service that updates them.
    #[serde(default)]
    pub(crate) image: bool,
    /// The device of the machine's watchdog, which restarts it when the supervisor stands still. None: nobody does.
    pub(crate) watchdog: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ntp {
    /// chronyd, run as the system's user `kiln-ntp`.
    pub(crate) program: PathBuf,
    /// Time servers.
    pub(crate) servers: Vec<Ipv4Addr>,
}

fn most_image_gib() -> u64 {
    1024
}

fn kernel_args() -> String {
    "console=tty0 console=ttyS0,115200 quiet panic=30".to_owned()
}

fn first_user() -> u32 {
    64700
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interface {
    /// Which network it is on.
    pub(crate) network: NetworkName,
    /// What the kernel calls it.
    pub(crate) device: Device,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) ipxe_bios: PathBuf,
    pub(crate) ipxe_uefi: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

impl Config {
    /// Reads it, and says which line is wrong.
    pub(crate) fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read the configuration {} (--config FILE names another)", path.display())
        })?;
        let config: Config =
            toml::from_str(&text).with_context(|| format!("{} is not a configuration", path.display()))?;
        for (at, interface) in config.interfaces.iter().enumerate() {
            if config.interfaces[..at].iter().any(|other| other.network == interface.network) {
                bail!("{}: network {} has two interfaces: leave one", path.display(), interface.network);
            }
        }
        for directory in [&config.appliance.data, &config.appliance.run] {
            if !directory.is_absolute() {
                bail!("{}: {} must be an absolute path", path.display(), directory.display());
            }
        }
        Ok(config)
    }

    fn data(&self, part: &str) -> PathBuf {
        self.appliance.data.join(part)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.data("store")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data("images")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.data("volumes")
    }

    pub(crate) fn drives(&self) -> PathBuf {
        self.data("drives")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.data("logs")
    }

    /// Bundles that were sent and are not installed yet.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.data("bundles")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.data("token")
    }

    /// Where what is to be restored waits.
    pub(crate) fn restore(&self) -> PathBuf {
        self.data("restore")
    }

    /// The box's own configuration, where this is an appliance's image.
    pub(crate) fn box_kept(&self) -> PathBuf {
        self.data("kiln.toml")
    }

    /// The same, for control.
    pub(crate) fn box_shown(&self) -> PathBuf {
        self.appliance.run.join("box.toml")
    }

    /// The socket of a hand.
    pub(crate) fn socket(&self, hand: &str) -> PathBuf {
        self.appliance.run.join(format!("{hand}.socket"))
    }

    /// What control must know of all this.
    pub(crate) fn site(&self) -> Site {
        let text = |path: &Path| path.display().to_string();
        Site {
            interfaces: self.interfaces.iter().map(|i| (i.network.clone(), i.device.clone())).collect(),
            files: BootFiles {
                ipxe_bios: text(&self.files.ipxe_bios),
                ipxe_uefi: text(&self.files.ipxe_uefi),
                kernel: text(&self.files.kernel),
                initramfs: text(&self.files.initramfs),
            },
            images: text(&self.images()),
            volumes: text(&self.volumes()),
            iqn: self.appliance.iqn.clone(),
            iscsi_port: 3260,
            drives: text(&self.drives()),
            logs: text(&self.logs()),
            http_port: 80,
            tftp_port: 69,
            kernel_args: self.appliance.kernel_args.clone(),
            image: self.appliance.image,
            patience: self.patience,
        }
    }
}
