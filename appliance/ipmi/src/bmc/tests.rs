use crate::testbed::World;
use crate::{
    BmcEvent, BootDevice, BootFlags, BootOption, Bug, ChassisStatus, Command, Control, Failure, Reply,
    set_boot_flags,
};
use core::time::Duration;

fn is_on(world: &mut World) -> bool {
    match world.ask(Command::GetChassisStatus) {
        Ok(Reply::Chassis(ChassisStatus { power, .. })) => power,
        other => panic!("{other:?}"),
    }
}

fn flags(world: &mut World) -> BootFlags {
    match world.ask(Command::GetBootFlags) {
        Ok(Reply::BootFlags(flags)) => flags,
        other => panic!("{other:?}"),
    }
}

fn control(world: &mut World, control: Control) -> Result<Reply, Failure> {
    world.ask(Command::ChassisControl(control))
}

fn arm(world: &mut World, flags: BootFlags) {
    for command in set_boot_flags(flags) {
        assert_eq!(world.ask(command), Ok(Reply::Done));
    }
}

#[test]
fn an_override_for_one_boot_is_used_up_by_it() {
    let mut world = World::new(1, vec![]);
    let pxe = BootFlags::once(BootDevice::Pxe, true);
    arm(&mut world, pxe);
    assert_eq!(flags(&mut world), pxe);
    control(&mut world, Control::On).unwrap();
    assert_eq!(world.bmc.poll_event(), Some(BmcEvent::On(pxe)));
    assert_eq!(flags(&mut world), BootFlags::none());
    control(&mut world, Control::Reset).unwrap();
    assert_eq!(world.bmc.poll_event(), Some(BmcEvent::Reset(BootFlags::none())));
}

#[test]
fn a_persistent_override_stays() {
    let mut world = World::new(2, vec![]);
    let disk = BootFlags { valid: true, persistent: true, uefi: false, device: BootDevice::Disk };
    arm(&mut world, disk);
    control(&mut world, Control::On).unwrap();
    control(&mut world, Control::Reset).unwrap();
    assert_eq!(flags(&mut world), disk);
}

/// Table 28-14, parameter 3: "do not clear valid bit if a Chassis Control command … is not received within
/// 60-second timeout".
#[test]
fn an_override_expires_after_a_minute_unless_it_is_to_be_kept() {
    let mut world = World::new(3, vec![]);
    let pxe = BootFlags::once(BootDevice::Pxe, false);
    world.ask(Command::SetBootOption(BootOption::Flags(pxe))).unwrap();
    world.run_for(Duration::from_secs(61));
    assert_eq!(flags(&mut world), BootFlags::none());
    arm(&mut world, pxe);
    world.run_for(Duration::from_secs(300));
    assert_eq!(flags(&mut world), pxe);
}

#[test]
fn a_power_cycle_is_off_for_a_second() {
    let mut world = World::new(4, vec![]);
    control(&mut world, Control::On).unwrap();
    control(&mut world, Control::Cycle).unwrap();
    assert!(!is_on(&mut world));
    world.run_for(Duration::from_secs(2));
    assert!(is_on(&mut world));
    let events: Vec<_> = core::iter::from_fn(|| world.bmc.poll_event()).collect();
    assert!(matches!(events[..], [BmcEvent::On(_), BmcEvent::Off, BmcEvent::On(_)]), "{events:?}");
}

#[test]
fn what_makes_no_sense_on_a_machine_that_is_off_is_refused() {
    let mut world = World::new(5, vec![]);
    for verb in [Control::Reset, Control::Cycle] {
        let refused = Failure::Refused { command: "Chassis Control", code: 0xd5 };
        assert_eq!(control(&mut world, verb), Err(refused));
    }
    assert_eq!(world.bmc.poll_event(), None);
}

#[test]
fn the_bugs_are_what_they_say() {
    let mut world = World::new(6, vec![Bug::IgnoresPowerOn]);
    assert_eq!(control(&mut world, Control::On), Ok(Reply::Done));
    assert!(!is_on(&mut world));
    world.bmc.set_bugs(vec![Bug::ForgetsBootFlags]);
    arm(&mut world, BootFlags::once(BootDevice::Pxe, false));
    assert_eq!(flags(&mut world), BootFlags::none());
    world.bmc.set_bugs(vec![Bug::SlowPower(Duration::from_secs(4))]);
    control(&mut world, Control::On).unwrap();
    assert!(!is_on(&mut world));
    world.run_for(Duration::from_secs(5));
    assert!(is_on(&mut world));
    world.bmc.set_bugs(vec![Bug::IgnoresPowerOff]);
    assert_eq!(control(&mut world, Control::Off), Ok(Reply::Done));
    assert!(is_on(&mut world));
    world.bmc.set_bugs(vec![Bug::OnlyBootFlags, Bug::BootFlagsUnread]);
    let keep = world.ask(Command::SetBootOption(BootOption::KeepFlags));
    assert_eq!(keep, Err(Failure::Refused { command: "Set System Boot Options", code: 0x80 }));
    assert!(world.ask(Command::GetBootFlags).is_err());
}

#[test]
fn an_idle_session_times_out() {
    let mut world = World::new(7, vec![]);
    assert!(!is_on(&mut world));
    assert_eq!(world.bmc.sessions(), 1);
    let later = world.now + Duration::from_secs(61);
    world.bmc.handle_timeout(later);
    assert_eq!(world.bmc.sessions(), 0);
}
