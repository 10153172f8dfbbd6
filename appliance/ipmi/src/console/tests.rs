use super::*;
use crate::testbed::{Dice, GUID, PASSWORD, USER, Weather, World, config};
use crate::{BootDevice, BootFlags, BootOption, Bug, ChassisStatus, Control, NetFn};

fn power(reply: Result<Reply, Failure>) -> Result<bool, Failure> {
    match reply {
        Ok(Reply::Chassis(ChassisStatus { power, .. })) => Ok(power),
        Ok(other) => panic!("{other:?} is no chassis status"),
        Err(failure) => Err(failure),
    }
}

fn suite_of(world: &World) -> Option<(CipherSuite, Privilege)> {
    world.events.iter().rev().find_map(|event| match event {
        Event::Up { suite, privilege } => Some((*suite, *privilege)),
        _ => None,
    })
}

/// What the machine is, if every command is carried out once and in order.
#[derive(Debug, Default)]
struct Model {
    on: Option<bool>,
    flags: Option<BootFlags>,
}

impl Model {
    /// Checks a reply and follows what was done.
    fn check(&mut self, command: &Command, result: &Result<Reply, Failure>) {
        let failed = result.is_err();
        match (command, result) {
            (Command::GetDeviceId, Ok(Reply::Device(device))) => assert_eq!(device.device_id, 0x20),
            (Command::GetSystemGuid, Ok(Reply::Guid(guid))) => assert_eq!(*guid, GUID),
            (Command::GetChassisStatus, Ok(Reply::Chassis(status))) => {
                assert!(self.on.is_none_or(|on| on == status.power), "power is {status:?}, not {self:?}");
                self.on = Some(status.power);
            }
            (Command::GetBootFlags, Ok(Reply::BootFlags(flags))) => {
                assert!(self.flags.is_none_or(|known| known == *flags), "{flags:?}, not {self:?}");
                self.flags = Some(*flags);
            }
            (Command::ChassisControl(control), Ok(Reply::Done) | Err(_)) => {
                let on = *control == Control::On;
                if on && self.on != Some(true) {
                    // The flags are used up when the machine was off.
                    self.flags = self.on.and(Some(BootFlags::none())).filter(|_| !failed);
                }
                self.on = (!failed).then_some(on);
            }
            (Command::SetBootOption(BootOption::Flags(flags)), Ok(Reply::Done) | Err(_)) => {
                self.flags = (!failed).then_some(*flags);
            }
            (Command::SetBootOption(_), Ok(Reply::Done)) | (_, Err(_)) => {}
            (command, reply) => panic!("{reply:?} is no answer to {command:?}"),
        }
    }
}

fn any_command(dice: &mut Dice) -> Command {
    match dice.below(10) {
        0 => Command::GetDeviceId,
        1 => Command::GetSystemGuid,
        2..=4 => Command::GetChassisStatus,
        5 => Command::ChassisControl(Control::On),
        6 => Command::ChassisControl(Control::Off),
        7 => Command::GetBootFlags,
        _ => {
            let device = [BootDevice::Pxe, BootDevice::Disk, BootDevice::Setup][dice.below(3)];
            Command::SetBootOption(BootOption::Flags(BootFlags::once(device, dice.percent(50))))
        }
    }
}

#[test]
fn no_weather_makes_an_answer_wrong() {
    let mut lost = 0;
    for seed in 0..500 {
        let mut world = World::new(seed, vec![Bug::BusyEvery(7)]);
        world.weather = Weather {
            loss: seed % 20,
            doubling: seed / 7 % 30,
            spread: [0, 5, 100, 800, 2_000][seed as usize % 5],
        };
        if seed % 3 == 0 {
            world.bmc.set_bugs(vec![Bug::AnswersTwice, Bug::FreshRandom]);
        }
        let mut model = Model::default();
        let mut commands = vec![Command::SetBootOption(BootOption::KeepFlags)];
        commands.extend((0..20).map(|_| any_command(&mut world.dice)));
        for command in commands {
            let began = world.now;
            let result = world.ask(command.clone());
            lost += u32::from(result.is_err());
            model.check(&command, &result);
            let took = world.now.since(began);
            assert!(took < Duration::from_secs(120), "seed {seed}: {command:?} took {took:?}: {result:?}");
        }
        assert!(world.console.out.is_empty() && world.console.queue.is_empty());
    }
    // The weather costs time, and hardly ever an answer.
    assert!(lost < 100, "{lost} of 10500 requests failed");
}

#[test]
fn a_bmc_that_restarts_is_asked_in_a_new_session() {
    let mut world = World::new(1, vec![]);
    assert_eq!(
        power(
            world
                .ask(Command::ChassisControl(Control::On))
                .map(|_| Reply::Done)
                .and(world.ask(Command::GetChassisStatus))
        ),
        Ok(true)
    );
    world.bmc.restart();
    assert_eq!(power(world.ask(Command::GetChassisStatus)), Ok(true));
    let ups = world.events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
    assert_eq!(ups, 2);
}

#[test]
fn suite_17_is_taken_where_it_can_be_had_and_3_where_not() {
    use CipherSuite::{Seventeen, Three};
    for (bugs, suite) in [
        (vec![], Seventeen),
        (vec![Bug::NoCapabilities], Seventeen),
        (vec![Bug::RefusesSuite17], Three),
        (vec![Bug::SilentOnSuite17], Three),
        (vec![Bug::AlwaysSuite3], Three),
    ] {
        let mut world = World::new(2, bugs.clone());
        assert_eq!(power(world.ask(Command::GetChassisStatus)), Ok(false), "{bugs:?}");
        assert_eq!(suite_of(&world), Some((suite, Privilege::Administrator)), "{bugs:?}");
    }
}

#[test]
fn a_refused_suite_is_not_tried_again() {
    let mut world = World::new(3, vec![Bug::SilentOnSuite17]);
    world.ask(Command::GetDeviceId).unwrap();
    world.console.close();
    world.step();
    let began = world.now;
    world.ask(Command::GetDeviceId).unwrap();
    assert!(world.now.since(began) < Duration::from_millis(100));
}

#[test]
fn a_bmc_without_the_only_suite_we_may_use_is_named() {
    let mut only = config(USER, PASSWORD);
    only.fallback = None;
    let mut world = World::with(4, vec![Bug::RefusesSuite17], only);
    assert_eq!(world.ask(Command::GetDeviceId), Err(Failure::NoCipherSuite));
}

#[test]
fn an_operator_gets_what_an_operator_may() {
    let mut world = World::with(5, vec![], config("oper", "oper-pass"));
    assert_eq!(world.ask(Command::ChassisControl(Control::On)), Ok(Reply::Done));
    assert_eq!(suite_of(&world), Some((CipherSuite::Seventeen, Privilege::Operator)));
    assert_eq!(world.bmc.sessions(), 1);
}

#[test]
fn wrong_credentials_name_themselves_and_leave_no_session() {
    for (user, password, failure) in
        [(USER, "wrong", Failure::WrongPassword), ("nobody", PASSWORD, Failure::UnknownUser)]
    {
        for bugs in [vec![], vec![Bug::RefusesSuite17]] {
            let mut world = World::with(6, bugs, config(user, password));
            assert_eq!(world.ask(Command::GetDeviceId), Err(failure.clone()));
            assert_eq!(world.events.last(), Some(&Event::Down { why: failure.clone() }));
            world.run_for(Duration::from_millis(10));
            assert_eq!(world.bmc.sessions(), 0);
        }
    }
}

#[test]
fn a_deaf_bmc_is_told_within_ten_seconds_and_found_again_when_it_hears() {
    let mut world = World::new(7, vec![Bug::Deaf]);
    let began = world.now;
    let result = world.ask(Command::GetChassisStatus);
    let expected = Failure::NoAnswer { to: "Open Session Request", tries: 4, thrown_away: None };
    assert_eq!(result, Err(expected));
    assert!(world.now.since(began) < Duration::from_secs(10));
    world.bmc.set_bugs(vec![]);
    assert_eq!(power(world.ask(Command::GetChassisStatus)), Ok(false));
}

#[test]
fn a_bmc_that_goes_deaf_in_a_session_fails_what_waits() {
    let mut world = World::new(8, vec![]);
    world.ask(Command::GetDeviceId).unwrap();
    world.bmc.set_bugs(vec![Bug::Deaf]);
    let tickets = [world.request(Command::GetChassisStatus), world.request(Command::GetDeviceId)];
    for ticket in tickets {
        let result = world.reply(ticket);
        assert!(matches!(result, Err(Failure::NoAnswer { .. })), "{result:?}");
    }
    assert!(!world.console.is_up());
}

#[test]
fn answers_that_come_twice_or_late_do_not_go_to_the_next_request() {
    for bugs in [
        vec![Bug::AnswersTwice],
        vec![Bug::Late(3, Duration::from_millis(1_200))],
        vec![Bug::Late(1, Duration::from_millis(700))],
        vec![Bug::AnswersTwice, Bug::Late(5, Duration::from_secs(3))],
    ] {
        let mut world = World::new(9, bugs);
        let mut model = Model::default();
        for _ in 0..60 {
            let command = any_command(&mut world.dice);
            let result = world.ask(command.clone());
            model.check(&command, &result);
        }
    }
}

#[test]
fn a_busy_bmc_is_asked_again_and_one_that_stays_busy_is_told() {
    let mut world = World::new(10, vec![Bug::BusyEvery(2)]);
    for _ in 0..10 {
        assert_eq!(power(world.ask(Command::GetChassisStatus)), Ok(false));
    }
    world.bmc.set_bugs(vec![Bug::BusyEvery(1)]);
    let result = world.ask(Command::GetChassisStatus);
    assert_eq!(result, Err(Failure::Busy { command: "Get Chassis Status", tries: 6 }));
}

#[test]
fn closed_sessions_leave_room_for_others() {
    let mut world = World::new(11, vec![Bug::LeaksSessions]);
    for _ in 0..20 {
        world.ask(Command::GetDeviceId).unwrap();
        world.console.close();
        world.run_for(Duration::from_millis(10));
    }
    assert_eq!(world.bmc.sessions(), 0);
}

#[test]
fn a_bmc_without_a_slot_says_so() {
    let mut world = World::new(12, vec![]);
    let other: std::net::SocketAddr = ([10, 8, 0, 9], 1).into();
    for n in 1..=4 {
        let open = codec::frame(
            codec::Kind::OpenRequest,
            [0; 4],
            0,
            &codec::OpenRequest {
                tag: n,
                privilege: 0,
                console_session: [n; 4],
                algorithms: CipherSuite::Three.algorithms(),
            }
            .bytes(),
        );
        world.bmc.handle_datagram(world.now, other, &open);
    }
    while world.bmc.poll_transmit().is_some() {}
    assert_eq!(world.ask(Command::GetDeviceId), Err(Failure::NoSlot));
    world.run_for(Duration::from_secs(11));
    assert!(world.ask(Command::GetDeviceId).is_ok(), "half-open sessions time out");
}

#[test]
fn an_idle_session_is_kept_alive() {
    let mut world = World::new(13, vec![]);
    world.ask(Command::GetDeviceId).unwrap();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.bmc.sessions(), 1);
    world.ask(Command::GetDeviceId).unwrap();
    let ups = world.events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
    assert_eq!(ups, 1);
}

#[test]
fn requests_are_paced() {
    let mut world = World::new(14, vec![]);
    world.ask(Command::GetDeviceId).unwrap();
    let tickets: Vec<_> = (0..10).map(|_| world.request(Command::GetChassisStatus)).collect();
    let began = world.now;
    for ticket in tickets {
        world.reply(ticket).unwrap();
    }
    let took = world.now.since(began);
    assert!(took >= Duration::from_millis(45), "{took:?}");
}

#[test]
fn what_must_not_be_done_twice_is_sent_once() {
    let mut world = World::new(15, vec![]);
    world.ask(Command::ChassisControl(Control::On)).unwrap();
    world.bmc.set_bugs(vec![Bug::Late(1, Duration::from_secs(3))]);
    world.sent.clear();
    assert_eq!(world.ask(Command::ChassisControl(Control::Reset)), Ok(Reply::Done));
    assert_eq!(world.sent.iter().filter(|(to_bmc, _)| *to_bmc).count(), 1);
    world.bmc.set_bugs(vec![Bug::Deaf]);
    world.sent.clear();
    let result = world.ask(Command::ChassisControl(Control::Reset));
    assert_eq!(result, Err(Failure::NoAnswer { to: "Chassis Control", tries: 1, thrown_away: None }));
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_retransmission_has_a_new_session_sequence_number() {
    let mut world = World::new(16, vec![]);
    world.ask(Command::GetDeviceId).unwrap();
    world.bmc.set_bugs(vec![Bug::Deaf]);
    world.sent.clear();
    world.request(Command::GetChassisStatus);
    world.run_for(Duration::from_secs(4));
    let numbers: Vec<_> = world
        .sent
        .iter()
        .map(|(_, datagram)| match codec::parse(datagram) {
            Ok(codec::Packet::Framed(frame)) => frame.sequence,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers[..4], [3, 4, 5, 6], "Set Session Privilege Level and Get Device ID were 1 and 2");
}

/// rqSeq has 6 bits: 64 requests later an old response would fit again.
#[test]
fn a_response_from_64_requests_ago_is_too_old() {
    let mut world = World::new(19, vec![]);
    world.sent.clear();
    assert_eq!(power(world.ask(Command::GetChassisStatus)), Ok(false));
    let old = world.sent.iter().rfind(|(to_bmc, _)| !to_bmc).unwrap().1.clone();
    world.ask(Command::ChassisControl(Control::On)).unwrap();
    for _ in 0..62 {
        world.ask(Command::GetDeviceId).unwrap();
    }
    world.bmc.set_bugs(vec![Bug::Deaf]);
    let ticket = world.request(Command::GetChassisStatus);
    world.run_for(Duration::from_millis(6));
    world.console.handle_datagram(world.now, &old);
    world.bmc.set_bugs(vec![]);
    assert_eq!(power(world.reply(ticket)), Ok(true));
}

#[test]
fn a_console_takes_no_more_requests_than_it_can_hold() {
    let mut world = World::new(17, vec![Bug::Deaf]);
    let tickets: Vec<_> = (0..QUEUE).map(|_| world.request(Command::GetDeviceId)).collect();
    assert_eq!(world.console.request(world.now, Command::GetDeviceId), Err(TooMany));
    for ticket in tickets {
        assert!(world.reply(ticket).is_err(), "every ticket is answered");
    }
}

#[test]
fn passwords_do_not_print_and_have_a_limit() {
    assert_eq!(format!("{:?}", config(USER, PASSWORD).password), "***");
    assert!(Password::new("a-password-of-20-byt").is_ok());
    assert!(Password::new("a-password-of-21-byte").is_err());
    assert!(UserName::new("a-user-of-17-byte").is_err());
}

/// Any bytes, at any time: no panic and no hang, at either end.
#[test]
fn mutated_datagrams_do_no_harm() {
    const ROUNDS: u64 = 2_000;
    const EACH: usize = 500;
    let mut dice = Dice::new(4711);
    for round in 0..ROUNDS {
        let mut world = World::new(round, vec![]);
        world.request(any_command(&mut dice));
        for _ in 0..1 + dice.below(40) {
            world.step();
        }
        let sources: Vec<_> = core::mem::take(&mut world.sent);
        let mut datagram = Vec::new();
        for _ in 0..EACH {
            datagram.clear();
            datagram.extend_from_slice(&sources[dice.below(sources.len())].1);
            mutate(&mut datagram, &mut dice);
            world.console.handle_datagram(world.now, &datagram);
            world.bmc.handle_datagram(world.now, ([10, 8, 0, 1], 40_000).into(), &datagram);
            if dice.percent(1) {
                world.step();
                world.sent.clear();
            }
        }
        assert!(world.bmc.sessions() <= 4);
    }
}

fn mutate(datagram: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(datagram.len().max(1));
        match dice.below(5) {
            0 => datagram.truncate(at),
            1 => datagram.push(dice.next() as u8),
            2 => datagram.extend_from_within(at..),
            _ => {
                if let Some(byte) = datagram.get_mut(at) {
                    *byte = if dice.percent(50) { *byte ^ 1 << dice.below(8) } else { dice.next() as u8 };
                }
            }
        }
    }
}

/// Responses that are signed and make no sense, and requests of the kind.
#[test]
fn any_response_and_any_request_is_borne() {
    let mut dice = Dice::new(42);
    let commands = [
        Command::GetDeviceId,
        Command::GetSystemGuid,
        Command::GetChassisStatus,
        Command::GetBootFlags,
        Command::GetSelInfo,
    ];
    for _ in 0..200_000 {
        let data: Vec<u8> = (0..dice.below(24)).map(|_| dice.next() as u8).collect();
        let _ = commands[dice.below(commands.len())].parse(&data);
    }
    let mut world = World::new(18, vec![]);
    for _ in 0..20_000 {
        let netfn = NetFn::from([0x00, 0x06, 0x0a, 0x2c][dice.below(4)]);
        let data: Vec<u8> = (0..dice.below(8)).map(|_| dice.next() as u8).collect();
        let command = Command::Raw { netfn, command: dice.below(0x60) as u8, data };
        let _ = world.ask(command);
        world.sent.clear();
        world.events.clear();
    }
}
