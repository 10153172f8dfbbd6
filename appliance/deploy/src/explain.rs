use crate::{Journey, Offer, Place, PortSight, Sight, Step, leg, place};
use agent_proto::Phase;
use boot::{DhcpMoment, PushState, VolumeState};
use core::fmt;
use rack::{DeployInterface, LinkState, Power};
use serde::{Deserialize, Serialize};

/// One arrow of the picture of a deployment: something that has to be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrow {
    /// What has to be seen.
    pub what: String,
    /// Whether it was.
    pub seen: Seen,
    /// What was seen instead, or with it.
    pub last_seen: String,
}

/// Whether an arrow was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Yes.
    Yes,
    /// Not yet, and it is the one that is awaited.
    Missing,
    /// It comes after the one that is awaited.
    Later,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Seen::Yes => "seen",
            Seen::Missing => "MISSING",
            Seen::Later => "later",
        })
    }
}

/// The arrows of the step a journey is on, in the order in which they must be seen.
pub fn arrows(journey: &Journey, sight: &Sight) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    let mut missing = false;
    let mut arrow = |what: String, seen: bool, last_seen: String| {
        let seen = match (seen, missing) {
            (true, _) => Seen::Yes,
            (false, false) => {
                missing = true;
                Seen::Missing
            }
            (false, true) => Seen::Later,
        };
        arrows.push(Arrow { what, seen, last_seen });
    };
    let off_first = matches!(
        journey.step,
        Step::SecurePort | Step::ReleasePort | Step::Park | Step::Clone | Step::Disarm
    ) || journey.step == Step::Fence && !journey.off_by_hand;
    match journey.step {
        Step::Bmc => arrow("the BMC answers".into(), sight.bmc_answers(), power_seen(journey, sight)),
        _ if off_first => {
            arrow("the BMC says the node is off".into(), sight.is_off(journey), power_seen(journey, sight))
        }
        _ => {}
    }
    if journey.step != Step::Bmc && journey.step != Step::Disarm {
        if sight.ports.is_empty() {
            let what = format!("there is a network for its ports ({})", network(place(journey)));
            arrow(what, false, "none: kiln network create makes one".into());
        }
        for port in &sight.ports {
            let what = format!(
                "switch {} says port {} is in VLAN {} ({})",
                port.link.switch,
                port.link.port,
                port.wanted,
                network(place(journey))
            );
            let fresh = port.wish.as_ref() == Some(&journey.wish());
            let placed = port.is_placed()
                && (fresh || !(off_first || matches!(journey.step, Step::Quarantine | Step::Fence)));
            arrow(what, placed, port_seen(port));
        }
    }
    let ramdisk = leg(journey).wish.offer == Offer::Ramdisk;
    let san = leg(journey).wish.offer == Offer::San && journey.step != Step::ReleasePort;
    if ramdisk || matches!(journey.step, Step::Boot | Step::Verify) {
        let on = match journey.step {
            Step::Boot => sight.is_on(journey),
            _ => sight.power == Some(Power::On),
        };
        arrow("the BMC says the node is on".into(), on, power_seen(journey, sight));
    }
    if ramdisk {
        let agent = sight.agent_connected(journey);
        let script = sight.script_fetched(journey);
        let client = sight.boot_client.as_ref().filter(|c| c.attempt == Some(journey.attempt()));
        let asked = client.is_some();
        let bound = client.is_some_and(|c| c.moment == DhcpMoment::Bound);
        let seen = client.map_or_else(
            || format!("nothing from it in this attempt{}", link_seen(sight)),
            |c| client_seen(c.moment, c.address.map(|a| a.to_string())),
        );
        let where_ = boot_port(sight);
        arrow(format!("a DHCP DISCOVER comes from it{where_}"), asked || script || agent, seen.clone());
        arrow("it takes the address it is offered".into(), bound || script || agent, seen);
        arrow(
            "it fetches its boot script".into(),
            script || agent,
            if script { "fetched".into() } else { "not fetched in this attempt".into() },
        );
        arrow("its ramdisk says hello".into(), agent, agent_seen(journey, sight));
    }
    if let Some((what, done)) = work(journey, sight) {
        arrow(what.into(), done, job_seen(journey, sight));
    }
    if journey.step == Step::Clone {
        for (what, seen, last_seen) in volume_seen(sight) {
            arrow(what, seen, last_seen);
        }
    }
    if san && journey.step == Step::Verify {
        let client = sight.san_client.as_ref().filter(|c| c.attempt == Some(journey.system()));
        let on = sight.seen_by_tenant(journey) || !sight.sessions.is_empty();
        let seen = client.map_or_else(
            || format!("nothing from it since it was switched on{}", link_seen(sight)),
            |c| client_seen(c.moment, c.address.map(|a| a.to_string())),
        );
        let script = sight.san_script_fetched(journey);
        let asked = client.is_some() || script || on;
        arrow("a DHCP DISCOVER comes from it on the network it boots from".into(), asked, seen);
        let fetched = if script { "fetched" } else { "not fetched since it was switched on" };
        arrow("it fetches its boot script".into(), script || on, fetched.into());
        let sessions = if sight.sessions.is_empty() {
            "no session of its".to_owned()
        } else {
            format!("logged in from {}", sight.sessions.join(" and "))
        };
        arrow("it logs in to its volume".into(), on, sessions);
    }
    if matches!(journey.step, Step::Fence | Step::Quarantine | Step::Park) && !sight.open_to_it.is_empty() {
        arrow("nothing of it can reach its volumes".into(), false, sight.open_to_it.join("; "));
    }
    if journey.step == Step::Verify {
        let client = sight.tenant_client.as_ref().filter(|c| c.attempt == Some(journey.system()));
        let seen = client.map_or_else(
            || {
                format!(
                    "nothing from it on the tenant's network since it was switched on{}",
                    link_seen(sight)
                )
            },
            |c| client_seen(c.moment, c.address.map(|a| a.to_string())),
        );
        arrow(
            format!("it is seen on the tenant's network{}", boot_port(sight)),
            sight.seen_by_tenant(journey),
            seen,
        );
    }
    arrows
}

/// The first arrow that is missing, as one sentence with what was seen instead.
pub fn missing(journey: &Journey, sight: &Sight) -> String {
    let away = match sight.hands_away.as_slice() {
        [] => String::new(),
        hands => format!(" (the {} service is away; it is being restarted)", hands.join(" and the ")),
    };
    let first = arrows(journey, sight).into_iter().find(|arrow| arrow.seen == Seen::Missing);
    first.map_or_else(
        || format!("nothing is missing at {}{away}", journey.step),
        |arrow| format!("waits until {}; last seen: {}{away}", arrow.what, arrow.last_seen),
    )
}

/// What its agent, or the appliance, has to do at a step, and whether that is done.
fn work(journey: &Journey, sight: &Sight) -> Option<(&'static str, bool)> {
    let done = sight.job_done(journey);
    Some(match (journey.step, journey.interface) {
        (Step::Export, _) => ("its agent says that its disk is exported", sight.exported(journey).is_some()),
        (Step::WriteImage, DeployInterface::Iscsi) => (
            "the iscsi service says that the image is written to its disk and read back",
            sight.pushed(journey),
        ),
        (Step::WriteImage, _) => ("its agent says that the image is written and read back", done),
        (Step::Finish, _) => ("its agent says that the disk is finished", done),
        (Step::Erase, _) => ("its agent says that the disks are wiped", done),
        _ => return None,
    })
}

/// Whether its volume is made, and whether it is exported: what has to be so, whether it is, what was seen.
fn volume_seen(sight: &Sight) -> [(String, bool, String); 2] {
    let Some(root) = &sight.root else {
        let none = "none: undeploy it and deploy it again";
        return [
            ("it has a volume to boot from".into(), false, none.into()),
            ("it is exported to this node alone".into(), false, none.into()),
        ];
    };
    let (made, seen) = match &root.state {
        Some(VolumeState::Ready { .. }) => (true, "there".to_owned()),
        Some(VolumeState::Gone) => (false, "not there yet".to_owned()),
        Some(VolumeState::Failed { why }) => (false, why.clone()),
        None => (false, "nothing from the iscsi service yet".to_owned()),
    };
    let exported = match (&root.trouble, root.exported) {
        (Some(trouble), _) => trouble.clone(),
        (None, true) => "exported".to_owned(),
        (None, false) => "not exported yet".to_owned(),
    };
    let good = root.exported && root.trouble.is_none();
    [
        (format!("volume {} is made of the image", root.id), made, seen),
        ("it is exported to this node alone".to_owned(), good, exported),
    ]
}

fn network(place: Place) -> &'static str {
    match place {
        Place::Provisioning => "provisioning",
        Place::Cleaning => "cleaning",
        Place::Tenant => "the tenant's",
        Place::Quarantine => "quarantine",
    }
}

fn power_seen(journey: &Journey, sight: &Sight) -> String {
    let bmc = &sight.bmc;
    match (&sight.bmc_trouble, sight.power) {
        (Some(trouble), _) => format!("BMC {bmc}: {trouble}"),
        (None, Some(power)) if sight.power_acts > 1 => {
            format!("BMC {bmc}: power {power} after {} power commands that it accepted", sight.power_acts)
        }
        (None, Some(power)) if sight.power_wish.as_ref() != Some(&journey.wish()) => {
            format!(
                "BMC {bmc}: power {power} when it last answered; it was asked again and has not answered yet"
            )
        }
        (None, Some(power)) => format!("power {power}"),
        (None, None) => format!("BMC {bmc}: no answer yet"),
    }
}

fn port_seen(port: &PortSight) -> String {
    if let Some(trouble) = &port.trouble {
        return trouble.clone();
    }
    let mode = port.mode.map_or_else(|| "nothing from the switch yet".to_owned(), |mode| mode.to_string());
    match port.drifts {
        0 => mode,
        drifts => format!("{mode}; moved by somebody else {drifts} times"),
    }
}

fn boot_port(sight: &Sight) -> String {
    sight.ports.first().map_or_else(String::new, |port| {
        format!(" on port {} of switch {}, VLAN {}", port.link.port, port.link.switch, port.wanted)
    })
}

fn link_seen(sight: &Sight) -> &'static str {
    match sight.ports.first().map(|port| port.state) {
        Some(LinkState::Down) => ", and the switch says the port has no link: look at the cable",
        Some(LinkState::Up) => ", though the switch says the port has a link",
        _ => "",
    }
}

fn client_seen(moment: DhcpMoment, address: Option<String>) -> String {
    let address = address.unwrap_or_else(|| "no address".into());
    match moment {
        DhcpMoment::Ignored => "a DHCP DISCOVER that was not answered".into(),
        DhcpMoment::Offered => {
            format!("a DHCP DISCOVER, answered with an offer of {address}, which it has not taken")
        }
        DhcpMoment::Refused => format!("a DHCP REQUEST for {address}, refused"),
        DhcpMoment::Bound => format!("bound to {address}"),
        DhcpMoment::Released => format!("{address} given back"),
        DhcpMoment::Declined => format!("it says that somebody else uses {address}"),
        DhcpMoment::Seen => format!("ARP from {address}"),
    }
}

fn agent_seen(journey: &Journey, sight: &Sight) -> String {
    match sight.agent(journey) {
        Some(agent) if agent.connected => "on the line".into(),
        Some(_) => "it was on the line, and is gone".into(),
        None => "no agent of this attempt".into(),
    }
}

fn job_seen(journey: &Journey, sight: &Sight) -> String {
    if let Some((failure, _)) = sight.job_failure(journey) {
        return failure.to_owned();
    }
    if let Some(PushState::Connecting { last }) = sight.push(journey) {
        let last = last.as_deref().unwrap_or("not tried yet");
        return format!("logging in to its disk: {last}");
    }
    let at = sight.job_progress(journey).map_or_else(
        || "not begun".to_owned(),
        |progress| {
            let phase = match progress.phase {
                Phase::Prepare => "preparing",
                Phase::Write => "writing",
                Phase::Verify => "reading back",
                Phase::Finish => "finishing",
                Phase::Erase => "wiping",
            };
            format!("{phase}, {} of {} MiB", progress.done >> 20, progress.total.div_ceil(1 << 20))
        },
    );
    match sight.agent(journey) {
        Some(agent) if !agent.connected => format!("{at}; the agent is off the line"),
        _ => at,
    }
}
