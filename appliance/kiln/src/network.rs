use crate::Output;
use crate::client::Client;
use crate::show::{json, table};
use anyhow::Result;
use boot::{Device, Pool, Prefix};
use clap::{Args, Subcommand, ValueEnum};
use control::NetworkView;
use rack::{NetworkDhcp, NetworkName, NetworkSpec, Purpose, Vlan};
use std::net::Ipv4Addr;

#[derive(Subcommand)]
pub(crate) enum Network {
    /// Describes a network, or describes it anew.
    Create(Create),
    /// All networks.
    List,
    /// Forgets one.
    Delete { network: NetworkName },
}

#[derive(Args)]
pub(crate) struct Create {
    network: NetworkName,
    /// Its VLAN on the switches.
    #[arg(long)]
    vlan: Vlan,
    /// What it is for.
    #[arg(long, value_enum)]
    purpose: PurposeChoice,
    /// The appliance's address on it, with the prefix length: 10.7.0.1/24.
    #[arg(long)]
    subnet: Prefix,
    /// Who gives addresses on it.
    #[arg(long, value_enum, default_value_t = DhcpChoice::Kiln)]
    dhcp: DhcpChoice,
    /// The first address for machines.
    #[arg(long, requires = "pool_last")]
    pool_first: Option<Ipv4Addr>,
    /// The last address for machines.
    #[arg(long, requires = "pool_first")]
    pool_last: Option<Ipv4Addr>,
    /// What machines are told to route by.
    #[arg(long)]
    router: Option<Ipv4Addr>,
    /// A name server that machines are told; may be given again.
    #[arg(long)]
    dns: Vec<Ipv4Addr>,
    /// The appliance's interface on it; without it the one its configuration names.
    #[arg(long)]
    device: Option<Device>,
    /// The storage network by which machines of this tenant's network reach their volumes.
    #[arg(long)]
    storage: Option<NetworkName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PurposeChoice {
    Provisioning,
    Cleaning,
    Quarantine,
    Tenant,
    Storage,
}

#[derive(Clone, Copy, ValueEnum)]
enum DhcpChoice {
    /// The appliance.
    Kiln,
    /// Somebody else's server.
    Other,
    /// Nobody.
    None,
}

pub(crate) fn run(client: &Client, output: Output, network: Network) -> Result<()> {
    match network {
        Network::Create(create) => {
            let spec = NetworkSpec {
                name: create.network.clone(),
                purpose: match create.purpose {
                    PurposeChoice::Provisioning => Purpose::Provisioning,
                    PurposeChoice::Cleaning => Purpose::Cleaning,
                    PurposeChoice::Quarantine => Purpose::Quarantine,
                    PurposeChoice::Tenant => Purpose::Tenant,
                    PurposeChoice::Storage => Purpose::Storage,
                },
                vlan: create.vlan,
                subnet: create.subnet,
                dhcp: match create.dhcp {
                    DhcpChoice::Kiln => NetworkDhcp::Kiln,
                    DhcpChoice::Other => NetworkDhcp::Other,
                    DhcpChoice::None => NetworkDhcp::None,
                },
                pool: create.pool_first.zip(create.pool_last).map(|(first, last)| Pool { first, last }),
                router: create.router,
                dns: create.dns,
                device: create.device,
                storage: create.storage,
            };
            client.put(&format!("/v1/networks/{}", create.network), &spec).map(drop)
        }
        Network::List => {
            let networks: Vec<NetworkView> = client.get("/v1/networks")?;
            if output == Output::Json {
                return json(&networks);
            }
            let rows = networks.iter().map(|network| {
                let nodes: Vec<&str> = network.nodes.iter().map(|node| node.as_str()).collect();
                let device = network.device.clone().unwrap_or_else(|| "none: not served".into());
                let spec = &network.spec;
                let dhcp = format!("{:?}", spec.dhcp).to_lowercase();
                [
                    spec.name.to_string(),
                    spec.vlan.to_string(),
                    spec.purpose.to_string(),
                    spec.subnet.to_string(),
                    dhcp,
                    device,
                    nodes.join(" "),
                ]
            });
            table(["NETWORK", "VLAN", "PURPOSE", "SUBNET", "DHCP", "INTERFACE", "NODES"], rows)
        }
        Network::Delete { network } => client.delete(&format!("/v1/networks/{network}")),
    }
}
