use crate::Output;
use crate::client::Client;
use crate::show::{json, table};
use anyhow::Result;
use clap::Subcommand;
use control::SwitchView;
use rack::{SwitchDriver, SwitchName, SwitchSpec};

#[derive(Subcommand)]
pub(crate) enum Switch {
    /// Describes a switch, or describes it anew.
    Add {
        switch: SwitchName,
        /// The address of its OVSDB server: HOST:PORT, or unix:PATH.
        #[arg(long, value_name = "ADDRESS")]
        ovsdb: String,
    },
    /// All switches.
    List,
    /// What the switches say of the ports that are ours to set.
    Ports,
    /// Forgets one.
    Delete { switch: SwitchName },
}

pub(crate) fn run(client: &Client, output: Output, switch: Switch) -> Result<()> {
    match switch {
        Switch::Add { switch, ovsdb } => {
            let path = format!("/v1/switches/{switch}");
            let spec = SwitchSpec { name: switch, driver: SwitchDriver::Ovsdb { address: ovsdb } };
            client.put(&path, &spec).map(drop)
        }
        Switch::List => {
            let switches: Vec<SwitchView> = client.get("/v1/switches")?;
            if output == Output::Json {
                return json(&switches);
            }
            let rows = switches.iter().map(|switch| {
                let SwitchDriver::Ovsdb { address } = &switch.driver;
                let trouble = switch.trouble.clone().unwrap_or_else(|| "answers".into());
                [switch.name.clone(), format!("ovsdb {address}"), switch.ports.len().to_string(), trouble]
            });
            table(["SWITCH", "DRIVER", "PORTS", "STATE"], rows)
        }
        Switch::Ports => {
            let switches: Vec<SwitchView> = client.get("/v1/switches")?;
            if output == Output::Json {
                return json(&switches);
            }
            let rows = switches.iter().flat_map(|switch| &switch.ports).map(|(node, port)| {
                let mode = port.mode.map_or_else(|| "not read".to_owned(), |mode| mode.to_string());
                let link = format!("{:?}", port.link).to_lowercase();
                [
                    port.switch.clone(),
                    port.switch_port.clone(),
                    node.to_string(),
                    port.mac.clone(),
                    mode,
                    link,
                ]
            });
            table(["SWITCH", "PORT", "NODE", "MAC", "SAYS", "LINK"], rows)
        }
        Switch::Delete { switch } => client.delete(&format!("/v1/switches/{switch}")),
    }
}
