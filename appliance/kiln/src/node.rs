use crate::Output;
use crate::client::Client;
use crate::journey::{self, explain};
use crate::show::{self, json, span, table};
use anyhow::{Context as _, Result, bail};
use boot::{Mac, NodeName, Secret};
use clap::{Args, Subcommand, ValueEnum};
use control::{CredentialsView, NodeView};
use rack::{
    BmcSpec, DeployInterface, DiskHint, Firmware, LocalLink, NodeSpec, PortSpec, SwitchName, SwitchPort,
};
use serde_json::{Value, json as value};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum Node {
    /// Describes a server: its BMC is checked and its ports go to quarantine.
    Enroll(Enroll),
    /// All nodes.
    List,
    /// One node.
    Show { node: NodeName },
    /// Checks its BMC again and puts its ports in quarantine.
    Manage {
        node: NodeName,
        #[command(flatten)]
        wait: Wait,
    },
    /// Makes it available, its disks wiped first.
    Provide {
        node: NodeName,
        /// Its disks are clean already.
        #[arg(long)]
        no_clean: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Puts an image on it and hands it to a tenant.
    Deploy {
        node: NodeName,
        /// The image's name.
        #[arg(long)]
        image: String,
        /// The tenant's network.
        #[arg(long)]
        network: String,
        /// How the image comes to it.
        #[arg(long, value_enum, default_value_t = InterfaceChoice::Direct)]
        interface: InterfaceChoice,
        /// A file for cloud-init, given on a config drive.
        #[arg(long, value_name = "FILE")]
        user_data: Option<PathBuf>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Takes it from its tenant and wipes its disks.
    Undeploy {
        node: NodeName,
        #[command(flatten)]
        wait: Wait,
    },
    /// Shuts it out of its networks and volumes, and lets another node take its place.
    Replace {
        node: NodeName,
        /// The node that takes its place; it must be available.
        #[arg(long = "with", value_name = "SPARE")]
        spare: NodeName,
        /// Its BMC does not answer, and you have seen to it that it is off: pulled its plugs.
        #[arg(long)]
        off_by_hand: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// What its system needs to log in to its volumes: names and secrets.
    Credentials { node: NodeName },
    /// Forgets it.
    Delete { node: NodeName },
    /// Says what it waits for, and which arrow of the picture is missing.
    Explain { node: NodeName },
    /// What happened to it so far.
    Timeline { node: NodeName },
    /// What happens to it from now on.
    Watch { node: NodeName },
}

#[derive(Args)]
pub(crate) struct Wait {
    /// Return at once instead of showing how it goes.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
pub(crate) struct Enroll {
    /// Its name; not needed with --file.
    #[arg(required_unless_present = "file")]
    node: Option<NodeName>,
    /// A TOML or JSON file with the whole description.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bmc", "mac", "switch", "port", "user"])]
    file: Option<PathBuf>,
    /// Its BMC's address.
    #[arg(long, required_unless_present = "file")]
    bmc: Option<IpAddr>,
    /// The BMC's user.
    #[arg(long, required_unless_present = "file")]
    user: Option<String>,
    /// A file that holds the BMC's password; - is standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "file")]
    password_file: Option<PathBuf>,
    /// The MAC address of the interface it boots by.
    #[arg(long, required_unless_present = "file")]
    mac: Option<Mac>,
    /// The switch its cable goes to.
    #[arg(long, required_unless_present = "file")]
    switch: Option<SwitchName>,
    /// The switch's port.
    #[arg(long, required_unless_present = "file")]
    port: Option<SwitchPort>,
    /// The MAC address of the interface by which it reaches volumes on a storage network.
    #[arg(long, requires = "storage_port")]
    storage_mac: Option<Mac>,
    /// The port of the same switch that it hangs on.
    #[arg(long, requires = "storage_mac")]
    storage_port: Option<SwitchPort>,
    /// It has no disks: it boots from volumes, and there is nothing to wipe.
    #[arg(long)]
    diskless: bool,
    /// How it boots.
    #[arg(long, value_enum, default_value_t = FirmwareChoice::Any)]
    firmware: FirmwareChoice,
    /// The serial number of the disk that images go on.
    #[arg(long)]
    disk_serial: Option<String>,
    /// Make it available as soon as its BMC was checked; its disks are wiped first.
    #[arg(long)]
    provide: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum InterfaceChoice {
    /// The agent fetches it over HTTP and writes it on the disk.
    Direct,
    /// The agent exports the disk over iSCSI and the appliance writes it.
    Iscsi,
    /// The node boots a clone of it over iSCSI; nothing is written on its disks.
    San,
}

#[derive(Clone, Copy, ValueEnum)]
enum FirmwareChoice {
    Bios,
    Uefi,
    Any,
}

pub(crate) fn run(client: &Client, output: Output, node: Node) -> Result<()> {
    match node {
        Node::Enroll(enroll) => self::enroll(client, output, enroll),
        Node::List => list(client, output),
        Node::Show { node } => {
            let view = view(client, &node)?;
            if output == Output::Json { json(&view) } else { explain(&view) }
        }
        Node::Explain { node } => {
            let view = view(client, &node)?;
            if output == Output::Json {
                json(&value!({ "step": view.step, "failure": view.failure }))
            } else {
                explain(&view)
            }
        }
        Node::Manage { node, wait } => begin(client, output, &node, "manage", &value!({}), &wait),
        Node::Provide { node, no_clean, wait } => {
            begin(client, output, &node, "provide", &value!({ "clean": !no_clean }), &wait)
        }
        Node::Deploy { node, image, network, interface, user_data, wait } => {
            let interface = match interface {
                InterfaceChoice::Direct => DeployInterface::Direct,
                InterfaceChoice::Iscsi => DeployInterface::Iscsi,
                InterfaceChoice::San => DeployInterface::San,
            };
            let mut body = value!({ "image": image, "network": network, "interface": interface });
            if let Some(path) = user_data {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read the user data {} as text", path.display()))?;
                body["user_data"] = Value::String(text);
            }
            begin(client, output, &node, "deploy", &body, &wait)
        }
        Node::Undeploy { node, wait } => begin(client, output, &node, "undeploy", &value!({}), &wait),
        Node::Replace { node, spare, off_by_hand, wait } => {
            let body = value!({ "with": spare, "off_by_hand": off_by_hand });
            let fenced = Wait { no_wait: wait.no_wait };
            begin(client, output, &node, "replace", &body, &fenced)?;
            if wait.no_wait { Ok(()) } else { journey::follow(client, output, &spare) }
        }
        Node::Credentials { node } => {
            let view: CredentialsView = client.get(&format!("/v1/nodes/{node}/credentials"))?;
            if output == Output::Json { json(&view) } else { show::credentials(&view) }
        }
        Node::Delete { node } => client.delete(&format!("/v1/nodes/{node}")),
        Node::Timeline { node } => {
            view(client, &node)?;
            show::timeline(client, output, node.as_str())
        }
        Node::Watch { node } => {
            view(client, &node)?;
            show::watch(client, output, Some(node.as_str()), None)
        }
    }
}

pub(crate) fn view(client: &Client, node: &NodeName) -> Result<NodeView> {
    client.get(&format!("/v1/nodes/{node}"))
}

fn list(client: &Client, output: Output) -> Result<()> {
    let nodes: Vec<NodeView> = client.get("/v1/nodes")?;
    if output == Output::Json {
        return json(&nodes);
    }
    let rows = nodes.iter().map(|node| {
        let step = node.step.as_ref().map_or_else(String::new, |step| {
            format!(
                "{}/{} {} for {}",
                step.position.0,
                step.position.1,
                step.step,
                span(node.now.since(step.since))
            )
        });
        [
            node.name.to_string(),
            node.provision_state.to_string(),
            node.power.map(|power| power.to_string()).unwrap_or_else(|| "?".into()),
            node.image.clone().unwrap_or_default(),
            node.network.clone().unwrap_or_default(),
            node.address.map(|address| address.to_string()).unwrap_or_default(),
            step,
        ]
    });
    table(["NODE", "STATE", "POWER", "IMAGE", "NETWORK", "ADDRESS", "STEP"], rows)
}

fn begin(
    client: &Client,
    output: Output,
    node: &NodeName,
    verb: &str,
    body: &Value,
    wait: &Wait,
) -> Result<()> {
    let view: NodeView = client.post(&format!("/v1/nodes/{node}/{verb}"), body)?;
    if wait.no_wait {
        return if output == Output::Json { json(&view) } else { Ok(()) };
    }
    journey::follow(client, output, node)
}

fn enroll(client: &Client, output: Output, enroll: Enroll) -> Result<()> {
    let (provide, wait) = (enroll.provide, Wait { no_wait: enroll.wait.no_wait });
    let spec = match &enroll.file {
        Some(path) => read_spec(path)?,
        None => described(enroll)?,
    };
    let name = spec.name.clone();
    client.put(&format!("/v1/nodes/{name}"), &spec)?;
    if wait.no_wait && !provide {
        return Ok(());
    }
    journey::follow(client, output, &name)?;
    if provide { begin(client, output, &name, "provide", &value!({ "clean": true }), &wait) } else { Ok(()) }
}

fn described(enroll: Enroll) -> Result<NodeSpec> {
    let Enroll { node: Some(name), bmc: Some(address), user: Some(user), .. } = &enroll else {
        bail!("a name, --bmc and --user are needed, or --file");
    };
    let (Some(mac), Some(switch), Some(port), Some(password)) =
        (enroll.mac, &enroll.switch, &enroll.port, &enroll.password_file)
    else {
        bail!("--mac, --switch, --port and --password-file are needed, or --file");
    };
    let password = Secret::new(read(password)?.trim_end_matches(['\r', '\n']));
    Ok(NodeSpec {
        name: name.clone(),
        bmc: BmcSpec { address: *address, port: 623, user: user.clone(), password },
        ports: [Some((mac, port)), enroll.storage_mac.zip(enroll.storage_port.as_ref())]
            .into_iter()
            .flatten()
            .map(|(mac, port)| PortSpec {
                mac,
                local_link: LocalLink { switch: switch.clone(), port: port.clone() },
                pxe_enabled: true,
            })
            .collect(),
        firmware: match enroll.firmware {
            FirmwareChoice::Bios => Firmware::Bios,
            FirmwareChoice::Uefi => Firmware::Uefi,
            FirmwareChoice::Any => Firmware::Any,
        },
        root_disk: DiskHint { serial: enroll.disk_serial, ..DiskHint::default() },
        diskless: enroll.diskless,
    })
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
    } else {
        text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

fn read_spec(path: &Path) -> Result<NodeSpec> {
    let text = read(path)?;
    let wrong = || format!("{} does not describe a node", path.display());
    if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).with_context(wrong)
    } else {
        toml::from_str(&text).with_context(wrong)
    }
}
