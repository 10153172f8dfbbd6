use crate::{Goal, Journey, Sight};
use core::fmt;
use core::time::Duration;
use rack::{BootDevice, DeployInterface, Power, ProvisionState};
use serde::{Deserialize, Serialize};

/// A stretch of a journey. The names are shown to people and stand in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The BMC is asked who it is.
    Bmc,
    /// The node is off and its port is in the provisioning (or cleaning) VLAN.
    SecurePort,
    /// It is switched on and fetches its boot script.
    Pxe,
    /// Its ramdisk says hello.
    Agent,
    /// Its agent exports its disk.
    Export,
    /// The image goes onto its disk.
    WriteImage,
    /// Its agent finishes the disk that the appliance has written.
    Finish,
    /// A clone of the image is made and exported to it.
    Clone,
    /// Its disks are wiped.
    Erase,
    /// The node is off and its port is in the tenant's VLAN.
    ReleasePort,
    /// It is switched on from its disk.
    Boot,
    /// It is seen on the tenant's network.
    Verify,
    /// The node is off and its ports are in quarantine.
    Park,
    /// The node is off, its ports are in quarantine and it is logged in to nothing.
    Fence,
    /// A journey failed: its ports go to quarantine.
    Quarantine,
    /// A journey failed: its boot override is cleared and it is switched off, if its BMC obeys.
    Disarm,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Step::Bmc => "bmc",
            Step::SecurePort => "secure-port",
            Step::Pxe => "pxe",
            Step::Agent => "agent",
            Step::Export => "export",
            Step::WriteImage => "write-image",
            Step::Finish => "finish",
            Step::Clone => "clone",
            Step::Erase => "erase",
            Step::ReleasePort => "release-port",
            Step::Boot => "boot",
            Step::Verify => "verify",
            Step::Park => "park",
            Step::Fence => "fence",
            Step::Quarantine => "quarantine",
            Step::Disarm => "disarm",
        })
    }
}

/// Which network the node's ports are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The boot port in the provisioning network, the others in quarantine.
    Provisioning,
    /// The boot port in the cleaning network, the others in quarantine.
    Cleaning,
    /// The boot port in the tenant's network, its storage port in that network's storage network, the others
    /// in quarantine.
    Tenant,
    /// All in quarantine.
    Quarantine,
}

/// What the node may boot from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Nothing.
    Nothing,
    /// The deploy ramdisk.
    Ramdisk,
    /// Its volume, from its tenant's network or that network's storage network.
    San,
}

/// What the agent is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Wait.
    Nothing,
    /// Write the image.
    Write,
    /// Export the disk.
    Export,
    /// Go on exporting it, while the appliance writes the image.
    Push,
    /// Finish the disk that was exported.
    Finish,
    /// Wipe the disks.
    Erase,
}

/// What should be so while a leg lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Power, and what to boot when it is switched on; none: left alone.
    pub power: Option<(Power, BootDevice)>,
    /// Ports.
    pub place: Place,
    /// Boot files.
    pub offer: Offer,
    /// The agent's job. With [`Work::Nothing`] the session stays open as long as the ramdisk is offered.
    pub work: Work,
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Leg {
    /// Which.
    pub step: Step,
    /// What should be so.
    pub wish: Wish,
    /// Whether it is over.
    pub reached: fn(&Journey, &Sight) -> bool,
    /// How long it may take.
    pub patience: fn(&Patience) -> Duration,
    /// Where to begin again when patience is out; none: give up.
    pub again: Option<Step>,
    /// How the node's state is called meanwhile.
    pub state: ProvisionState,
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leg({})", self.step)
    }
}

/// How long to wait, by what is waited for. Real servers spend minutes in their firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// Seconds for a BMC or a switch to do as wished.
    pub hand: u64,
    /// Seconds from power on to the boot script: firmware and its DHCP.
    pub firmware: u64,
    /// Seconds from the boot script to the ramdisk's hello.
    pub ramdisk: u64,
    /// Seconds that an agent may go without any progress.
    pub progress: u64,
    /// Seconds from power on to the tenant's system being seen.
    pub system: u64,
    /// How often a leg is begun again before giving up.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { hand: 60, firmware: 900, ramdisk: 300, progress: 120, system: 1200, tries: 3 }
    }
}

const fn wish(power: Option<(Power, BootDevice)>, place: Place, offer: Offer, work: Work) -> Wish {
    Wish { power, place, offer, work }
}

const OFF: Option<(Power, BootDevice)> = Some((Power::Off, BootDevice::None));
const ON_PXE: Option<(Power, BootDevice)> = Some((Power::On, BootDevice::Pxe));
const ON_DISK: Option<(Power, BootDevice)> = Some((Power::On, BootDevice::Disk));

fn hand(p: &Patience) -> Duration {
    Duration::from_secs(p.hand)
}
fn firmware(p: &Patience) -> Duration {
    Duration::from_secs(p.firmware)
}
fn ramdisk(p: &Patience) -> Duration {
    Duration::from_secs(p.ramdisk)
}
fn progress(p: &Patience) -> Duration {
    Duration::from_secs(p.progress)
}
fn system(p: &Patience) -> Duration {
    Duration::from_secs(p.system)
}

macro_rules! leg {
    ($step:ident: $power:expr, $place:ident, $offer:ident, $work:ident; $state:ident; until $reached:expr, $patience:ident $(, again $again:ident)?) => {
        Leg {
            step: Step::$step,
            wish: wish($power, Place::$place, Offer::$offer, Work::$work),
            reached: $reached,
            patience: $patience,
            again: [$(Some(Step::$again),)? None][0],
            state: ProvisionState::$state,
        }
    };
}

static MANAGE: [Leg; 2] = [
    leg!(Bmc: None, Quarantine, Nothing, Nothing; Verifying; until |_, s| s.bmc_answers(), hand),
    leg!(Park: OFF, Quarantine, Nothing, Nothing; Verifying; until |j, s| s.is_off(j) && s.ports_placed(j), hand),
];

static DEPLOY: [Leg; 7] = [
    leg!(SecurePort: OFF, Provisioning, Nothing, Nothing; Deploying;
         until |j, s| s.is_off(j) && s.ports_placed(j), hand),
    leg!(Pxe: ON_PXE, Provisioning, Ramdisk, Nothing; WaitCallBack;
         until |j, s| s.script_fetched(j) || s.agent_connected(j), firmware, again SecurePort),
    leg!(Agent: ON_PXE, Provisioning, Ramdisk, Nothing; WaitCallBack;
         until |j, s| s.agent_connected(j), ramdisk, again SecurePort),
    leg!(WriteImage: ON_PXE, Provisioning, Ramdisk, Write; Deploying;
         until |j, s| s.job_done(j), progress, again SecurePort),
    leg!(ReleasePort: OFF, Tenant, Nothing, Nothing; Deploying;
         until |j, s| s.is_off(j) && s.ports_placed(j), hand),
    leg!(Boot: ON_DISK, Tenant, Nothing, Nothing; Deploying;
         until |j, s| s.is_on(j), hand, again ReleasePort),
    leg!(Verify: ON_DISK, Tenant, Nothing, Nothing; Deploying;
         until |j, s| s.seen_by_tenant(j), system, again ReleasePort),
];

/// The appliance writes the disk that the agent exports.
static PUSH: [Leg; 9] = [
    DEPLOY[0],
    DEPLOY[1],
    DEPLOY[2],
    leg!(Export: ON_PXE, Provisioning, Ramdisk, Export; Deploying;
         until |j, s| s.exported(j).is_some(), progress, again SecurePort),
    leg!(WriteImage: ON_PXE, Provisioning, Ramdisk, Push; Deploying;
         until |j, s| s.pushed(j), progress, again SecurePort),
    leg!(Finish: ON_PXE, Provisioning, Ramdisk, Finish; Deploying;
         until |j, s| s.job_done(j), progress, again SecurePort),
    DEPLOY[4],
    DEPLOY[5],
    DEPLOY[6],
];

/// The node boots a clone of the image from the appliance.
static SAN: [Leg; 4] = [
    leg!(Clone: OFF, Quarantine, Nothing, Nothing; Deploying;
         until |j, s| s.is_off(j) && s.ports_placed(j) && s.root_exported(), progress),
    leg!(ReleasePort: OFF, Tenant, San, Nothing; Deploying;
         until |j, s| s.is_off(j) && s.ports_placed(j), hand),
    leg!(Boot: ON_PXE, Tenant, San, Nothing; Deploying;
         until |j, s| s.is_on(j), hand, again ReleasePort),
    leg!(Verify: ON_PXE, Tenant, San, Nothing; Deploying;
         until |j, s| s.seen_by_tenant(j), system, again ReleasePort),
];

static DELETE: [Leg; 1] = [leg!(Park: OFF, Quarantine, Nothing, Nothing; Deleting;
         until |j, s| s.is_off(j) && s.ports_placed(j) && s.shut_out(), hand)];

/// Its volumes go to another node when nothing of this one can write to them any more.
static FENCE: [Leg; 1] = [leg!(Fence: OFF, Quarantine, Nothing, Nothing; Deleting;
         until |j, s| s.is_off(j) && s.ports_placed(j) && s.shut_out(), hand)];

/// The same, where somebody answers for its being off.
static FENCE_BY_HAND: [Leg; 1] = [leg!(Fence: None, Quarantine, Nothing, Nothing; Deleting;
         until |j, s| s.ports_placed(j) && s.shut_out(), hand)];

static CLEAN: [Leg; 5] = [
    leg!(SecurePort: OFF, Cleaning, Nothing, Nothing; Cleaning;
         until |j, s| s.is_off(j) && s.ports_placed(j), hand),
    leg!(Pxe: ON_PXE, Cleaning, Ramdisk, Nothing; CleanWait;
         until |j, s| s.script_fetched(j) || s.agent_connected(j), firmware, again SecurePort),
    leg!(Agent: ON_PXE, Cleaning, Ramdisk, Nothing; CleanWait;
         until |j, s| s.agent_connected(j), ramdisk, again SecurePort),
    leg!(Erase: ON_PXE, Cleaning, Ramdisk, Erase; Cleaning;
         until |j, s| s.job_done(j), progress, again SecurePort),
    leg!(Park: OFF, Quarantine, Nothing, Nothing; Cleaning; until |j, s| s.is_off(j) && s.ports_placed(j), hand),
];

/// Every failure ends by this road, whatever its goal was; what it cannot reach it leaves as evidence.
static FAIL: [Leg; 2] = [
    leg!(Quarantine: None, Quarantine, Nothing, Nothing; Deploying;
         until |j, s| s.ports_placed(j) && s.shut_out(), hand),
    leg!(Disarm: OFF, Quarantine, Nothing, Nothing; Deploying; until |j, s| s.is_off(j), hand),
];

/// The legs of a journey, in order.
pub fn route(journey: &Journey) -> &'static [Leg] {
    if journey.failure.is_some() {
        return &FAIL;
    }
    match journey.goal {
        Goal::Manage => &MANAGE,
        Goal::Deploy => match journey.interface {
            DeployInterface::Direct => &DEPLOY,
            DeployInterface::Iscsi => &PUSH,
            DeployInterface::San => &SAN,
        },
        Goal::Delete => &DELETE,
        Goal::Clean => &CLEAN,
        Goal::Fence if journey.off_by_hand => &FENCE_BY_HAND,
        Goal::Fence => &FENCE,
    }
}

/// The leg a journey is on.
pub fn leg(journey: &Journey) -> &'static Leg {
    let route = route(journey);
    route.iter().find(|leg| leg.step == journey.step).unwrap_or(&route[0])
}

/// Where the node's ports belong now. What runs on a node may be anybody's, so a step that switches it off
/// moves them into its network when the node was seen off; until then they are in quarantine.
pub fn place(journey: &Journey) -> Place {
    let wish = leg(journey).wish;
    match wish.power {
        Some((Power::Off, _)) if !journey.off_seen => Place::Quarantine,
        _ => wish.place,
    }
}

/// Where a step is on its route, counted from one, and how many there are.
pub fn position(journey: &Journey) -> (usize, usize) {
    let route = route(journey);
    let at = route.iter().position(|leg| leg.step == journey.step).unwrap_or(0);
    (at + 1, route.len())
}
