use super::*;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

fn vlan(id: u16) -> Vlan {
    id.try_into().unwrap()
}

fn access(id: u16) -> PortMode {
    PortMode::Access(vlan(id))
}

fn n1() -> SwitchPort {
    "n1".parse().unwrap()
}

fn wish(id: u16, attempt: &str) -> PortWish {
    PortWish { port: n1(), vlan: vlan(id), attempt: Some(attempt.parse().unwrap()) }
}

fn seen(mode: PortMode, standing: Standing) -> Seen {
    Seen { mode, standing, link: LinkState::Up, trouble: None }
}

/// One port, a wish for it, and a clock.
struct Scene {
    keeper: Keeper,
    now: Time,
}

impl Scene {
    fn new(id: u16) -> Scene {
        let now = Time::from_secs(100);
        let mut keeper = Keeper::new("sw1".parse().unwrap());
        keeper.handle_plan(now, &[wish(id, "a1")]);
        keeper.handle_reach(None);
        let mut scene = Scene { keeper, now };
        assert!(matches!(scene.fact(), Some(SwitchFact::Reach { trouble: None, .. })));
        scene
    }

    fn see(&mut self, mode: PortMode) {
        self.see_as(mode, Standing::InForce);
    }

    fn see_as(&mut self, mode: PortMode, standing: Standing) {
        self.keeper.handle_seen(self.now, [(n1(), seen(mode, standing))]);
    }

    fn fact(&mut self) -> Option<SwitchFact> {
        let fact = self.keeper.fact(self.now)?;
        self.keeper.handle_told(&fact);
        Some(fact)
    }

    fn port(&mut self) -> PortFact {
        match self.fact() {
            Some(SwitchFact::Port(fact)) => fact,
            other => panic!("no fact about the port, but {other:?}"),
        }
    }

    /// Whether it is set now; if so, it is answered.
    fn sets(&mut self, outcome: Result<Did, Refusal>) -> bool {
        let orders = self.keeper.orders(self.now);
        for order in &orders {
            self.keeper.handle_outcome(self.now, order, outcome.clone());
        }
        !orders.is_empty()
    }
}

#[test]
fn nothing_is_set_or_told_before_it_was_looked_at() {
    let mut scene = Scene::new(100);
    assert!(!scene.sets(Ok(Did::Changed)));
    assert_eq!(scene.fact(), None);
}

#[test]
fn what_is_as_wished_is_told_once_and_not_set() {
    let mut scene = Scene::new(100);
    scene.see(access(100));
    assert!(!scene.sets(Ok(Did::Changed)));
    let fact = scene.port();
    assert_eq!((fact.mode, fact.drifts, fact.trouble), (Some(access(100)), 0, None));
    assert_eq!(fact.attempt, Some("a1".parse().unwrap()));
    scene.see(access(100));
    assert_eq!(scene.fact(), None);
    assert_eq!(scene.keeper.poll_timeout(scene.now), None);
}

#[test]
fn between_two_configurations_nothing_is_said() {
    let mut scene = Scene::new(100);
    scene.see_as(access(10), Standing::Awaited);
    assert!(scene.sets(Ok(Did::Changed)));
    scene.see_as(access(100), Standing::Awaited);
    assert_eq!(scene.fact(), None);
    scene.see(access(100));
    assert_eq!(scene.port().mode, Some(access(100)));
    scene.keeper.handle_plan(scene.now, &[wish(200, "a1")]);
    assert!(scene.sets(Ok(Did::Changed)));
    scene.see_as(access(200), Standing::Awaited);
    assert_eq!(scene.port().mode, None);
    // Back before it was there: it may be there by now.
    scene.keeper.handle_plan(scene.now, &[wish(100, "a2")]);
    assert!(scene.sets(Ok(Did::Changed)));
    scene.see_as(access(100), Standing::Awaited);
    assert_eq!(scene.port().mode, None);
    scene.see(access(100));
    assert_eq!(scene.port().mode, Some(access(100)));
    scene.see_as(access(100), Standing::Stuck);
    assert_eq!(scene.port().mode, None);
}

#[test]
fn a_new_attempt_is_told_only_after_another_look() {
    let mut scene = Scene::new(100);
    scene.see(access(100));
    scene.port();
    scene.keeper.handle_plan(scene.now, &[wish(100, "a2")]);
    assert_eq!(scene.fact(), None);
    scene.see(access(100));
    assert_eq!(scene.port().attempt, Some("a2".parse().unwrap()));
}

#[test]
fn a_set_that_does_not_help_is_repeated_ever_slower_and_told() {
    let mut scene = Scene::new(100);
    let mut pauses = Vec::new();
    let mut last = scene.now;
    while scene.now < Time::from_secs(130) {
        scene.see(access(10));
        if scene.sets(Ok(Did::Changed)) {
            pauses.push(scene.now.since(last).as_millis());
            last = scene.now;
        }
        scene.now = scene.keeper.poll_timeout(scene.now).unwrap();
    }
    assert_eq!(pauses, [0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000, 5000]);
    assert!(
        scene
            .port()
            .trouble
            .unwrap()
            .contains("accepts VLAN 100 for this port and still says that it is in VLAN 10")
    );
    scene.see(access(100));
    assert_eq!(scene.port().trouble, None);
}

#[test]
fn a_refusal_names_switch_and_port_and_ends_with_the_wish() {
    let mut scene = Scene::new(100);
    scene.see(access(10));
    assert!(scene.sets(Err(Refusal::Constraint { details: "not in range".to_owned() })));
    scene.see(access(10));
    let fact = scene.port();
    assert_eq!(fact.mode, Some(access(10)));
    let trouble = fact.trouble.unwrap();
    assert!(trouble.starts_with("switch sw1, port n1: ") && trouble.contains("not in range"), "{trouble}");
    assert!(!scene.sets(Ok(Did::Changed)), "not at once again");
    scene.keeper.handle_plan(scene.now, &[wish(200, "a1")]);
    assert!(scene.sets(Ok(Did::Changed)), "another wish is tried at once");
    scene.see(access(200));
    assert_eq!(scene.port().trouble, None);
}

#[test]
fn an_absent_port_is_told_and_not_set_and_set_when_it_comes_which_is_no_drift() {
    let mut scene = Scene::new(100);
    scene.see(PortMode::Absent);
    assert!(!scene.sets(Ok(Did::Changed)));
    assert_eq!(scene.port().mode, Some(PortMode::Absent));
    scene.see(PortMode::Trunk);
    assert!(scene.sets(Ok(Did::Changed)));
    scene.see(access(100));
    assert_eq!(scene.port().drifts, 0);
}

#[test]
fn a_drift_is_put_back_at_once_and_counted() {
    let mut scene = Scene::new(100);
    scene.see(access(100));
    scene.port();
    for drifts in 1..=5 {
        scene.now = scene.now + MS;
        scene.see(PortMode::Trunk);
        assert!(scene.sets(Ok(Did::Changed)), "drift {drifts}");
        scene.see(access(100));
        let fact = scene.port();
        assert_eq!((fact.drifts, fact.mode, fact.trouble), (drifts, Some(access(100)), None));
    }
}

#[test]
fn a_fight_is_slowed_to_one_repair_in_five_seconds_told_and_over_after_a_minute() {
    let mut scene = Scene::new(100);
    scene.see(access(100));
    let began = scene.now;
    let mut repairs = Vec::new();
    while scene.now.since(began) < FIGHT {
        scene.now = scene.now + 100 * MS;
        scene.see(access(300));
        if scene.sets(Ok(Did::Changed)) {
            repairs.push(scene.now.since(began).as_millis());
            scene.see(access(100));
        }
    }
    assert_eq!(repairs[..5], [100, 200, 300, 400, 500]);
    assert!(repairs[5..].windows(2).all(|pair| pair[1] - pair[0] >= 5000), "{repairs:?}");
    assert!((10..=13).contains(&repairs[5..].len()), "{repairs:?}");
    let trouble = scene.port().trouble.unwrap();
    assert!(trouble.contains("last found in VLAN 300"), "{trouble}");
    let peace = scene.now;
    scene.see(access(100));
    while let Some(due) = scene.keeper.poll_timeout(scene.now) {
        scene.now = due;
    }
    assert!(scene.now.since(peace) <= FIGHT + SEC);
    let fact = scene.port();
    assert_eq!((fact.trouble, fact.mode), (None, Some(access(100))));
}

#[test]
fn without_a_session_nothing_is_vouched_for() {
    let mut scene = Scene::new(100);
    scene.see(access(100));
    scene.port();
    scene.keeper.handle_reach(Some("gone".to_owned()));
    assert!(matches!(scene.fact(), Some(SwitchFact::Reach { trouble: Some(_), .. })));
    assert_eq!(scene.port().mode, None);
    assert!(!scene.sets(Ok(Did::Changed)));
    scene.keeper.handle_reach(None);
    assert!(matches!(scene.fact(), Some(SwitchFact::Reach { trouble: None, .. })));
    scene.see_as(access(100), Standing::Awaited);
    let fact = scene.port();
    assert_eq!((fact.mode, fact.link), (None, LinkState::Up));
    // What somebody changed while we were away is a drift too.
    scene.see(access(300));
    assert!(scene.sets(Ok(Did::Changed)));
    assert_eq!(scene.port().drifts, 1);
}

#[test]
fn a_port_that_leaves_the_plan_is_left_alone() {
    let mut scene = Scene::new(100);
    scene.see(access(10));
    scene.keeper.handle_plan(scene.now, &[]);
    assert!(!scene.sets(Ok(Did::Changed)));
    assert!(scene.keeper.ports().is_empty());
    assert_eq!(scene.fact(), None);
}
