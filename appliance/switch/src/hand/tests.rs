use super::*;
use crate::double::{Double, Manner};
use crate::{Did, Refusal};
use rack::{LinkState, PortFact, PortMode, SwitchPort, Vlan};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn vlan(id: u16) -> Vlan {
    id.try_into().unwrap()
}

fn access(id: u16) -> PortMode {
    PortMode::Access(vlan(id))
}

fn n1() -> SwitchPort {
    "n1".parse().unwrap()
}

fn plan(switch: &str, address: &str, wishes: &[(&str, u16)]) -> SwitchPlan {
    let wish =
        |(port, id): &(&str, u16)| PortWish { port: port.parse().unwrap(), vlan: vlan(*id), attempt: None };
    let driver = SwitchDriver::Ovsdb { address: address.to_owned() };
    let entry =
        SwitchEntry { name: switch.parse().unwrap(), driver, ports: wishes.iter().map(wish).collect() };
    SwitchPlan { switches: vec![entry] }
}

struct Scene {
    double: Double,
    plans: watch::Sender<SwitchPlan>,
    facts: mpsc::Receiver<SwitchFact>,
    hand: JoinHandle<()>,
}

impl Scene {
    /// A switch with `n1` and `up`, and a hand that is to put `n1` into VLAN 100.
    fn new() -> Scene {
        let double = Double::new([(n1(), access(10)), ("up".parse().unwrap(), PortMode::Trunk)]);
        let (plans, plan) = watch::channel(plan("sw1", "", &[("n1", 100)]));
        let (fact, facts) = mpsc::channel(1);
        let made = double.clone();
        let hand = tokio::spawn(run_with(plan, fact, move |_| made.clone()));
        Scene { double, plans, facts, hand }
    }

    fn wish(&self, id: u16) {
        self.plans.send_replace(plan("sw1", "", &[("n1", id)]));
    }

    async fn fact(&mut self, mut wanted: impl FnMut(&SwitchFact) -> bool) -> SwitchFact {
        let awaiting = async {
            loop {
                let fact = self.facts.recv().await.expect("the hand runs");
                if wanted(&fact) {
                    return fact;
                }
            }
        };
        timeout(PATIENCE, awaiting).await.expect("it comes in time")
    }

    async fn port(&mut self, mut wanted: impl FnMut(&PortFact) -> bool) -> PortFact {
        match self.fact(|fact| matches!(fact, SwitchFact::Port(fact) if wanted(fact))).await {
            SwitchFact::Port(fact) => fact,
            SwitchFact::Reach { .. } => unreachable!("the wanted fact is a port's"),
        }
    }
}

#[tokio::test]
async fn a_wish_is_fulfilled_and_no_other_port_is_touched() {
    let mut scene = Scene::new();
    assert!(matches!(scene.fact(|_| true).await, SwitchFact::Reach { trouble: None, .. }));
    scene.port(|fact| fact.mode == Some(access(100))).await;
    assert_eq!(scene.double.vlan(&n1()), Some(vlan(100)));
    scene.wish(200);
    scene.port(|fact| fact.mode == Some(access(200))).await;
    assert_eq!(scene.double.forwards(&"up".parse().unwrap()), PortMode::Trunk);
    assert_eq!(scene.double.sets(), 2);
    // The same plan again sets nothing and tells nothing.
    scene.wish(200);
    scene.double.link(&n1(), LinkState::Down);
    let fact = scene.fact(|_| true).await;
    assert!(matches!(fact, SwitchFact::Port(PortFact { link: LinkState::Down, .. })));
    assert_eq!(scene.double.sets(), 2);
}

#[tokio::test]
async fn a_switch_that_refuses_ignores_or_lags_is_told_as_it_is() {
    let mut scene = Scene::new();
    scene.port(|fact| fact.mode == Some(access(100))).await;
    let refusal = Refusal::Constraint { details: "no such VLAN".to_owned() };
    scene.double.behave(&n1(), Manner::Refuses(refusal));
    scene.wish(200);
    let fact = scene.port(|fact| fact.trouble.is_some()).await;
    assert!(fact.mode == Some(access(100)) && fact.trouble.unwrap().contains("no such VLAN"));
    scene.double.behave(&n1(), Manner::Ignores);
    scene.port(|fact| fact.trouble.as_ref().is_some_and(|trouble| trouble.contains("still says"))).await;
    scene.double.behave(&n1(), Manner::Lags);
    scene.port(|fact| fact.trouble.is_none()).await;
    assert_eq!(scene.double.forwards(&n1()), access(100));
    scene.double.behave(&n1(), Manner::Honest);
    scene.port(|fact| fact.mode == Some(access(200))).await;
    assert_eq!(scene.double.forwards(&n1()), access(200));
    scene.double.behave(&n1(), Manner::Lies);
    scene.wish(300);
    scene.port(|fact| fact.mode == Some(access(300))).await;
    assert_eq!(scene.double.forwards(&n1()), access(200), "only traffic can tell");
}

#[tokio::test]
async fn a_drift_is_repaired_and_a_port_that_comes_is_set() {
    let mut scene = Scene::new();
    scene.port(|fact| fact.mode == Some(access(100))).await;
    scene.double.drift(&n1(), access(300));
    scene.port(|fact| fact.drifts == 1 && fact.mode == Some(access(100))).await;
    scene.double.drift(&n1(), PortMode::Absent);
    let fact = scene.port(|fact| fact.mode == Some(PortMode::Absent)).await;
    assert!(fact.trouble.unwrap().contains("no such port"));
    scene.double.drift(&n1(), PortMode::Trunk);
    scene.port(|fact| fact.mode == Some(access(100))).await;
    assert_eq!(scene.double.vlan(&n1()), Some(vlan(100)));
}

#[tokio::test]
async fn a_session_that_ends_is_made_again_and_the_wishes_of_meanwhile_are_fulfilled() {
    let mut scene = Scene::new();
    scene.port(|fact| fact.mode == Some(access(100))).await;
    scene.double.hang_up(true);
    scene.fact(|fact| matches!(fact, SwitchFact::Reach { trouble: Some(_), .. })).await;
    scene.port(|fact| fact.mode.is_none()).await;
    scene.wish(200);
    scene.double.hang_up(false);
    scene.fact(|fact| matches!(fact, SwitchFact::Reach { trouble: None, .. })).await;
    scene.port(|fact| fact.mode == Some(access(200))).await;
}

#[tokio::test]
async fn a_reader_of_facts_that_is_slow_holds_up_no_repair() {
    let scene = Scene::new();
    let repaired = async {
        for _ in 0..3 {
            while scene.double.vlan(&n1()) != Some(vlan(100)) {
                tokio::task::yield_now().await;
            }
            scene.double.drift(&n1(), access(300));
        }
    };
    timeout(PATIENCE, repaired).await.expect("nobody reads the facts, and the ports are kept");
}

#[tokio::test]
async fn a_switch_that_leaves_the_plan_is_left_alone_and_one_that_moves_is_found() {
    let mut scene = Scene::new();
    scene.port(|fact| fact.mode == Some(access(100))).await;
    scene.plans.send_replace(plan("sw1", "elsewhere", &[("n1", 200)]));
    scene.port(|fact| fact.mode == Some(access(200))).await;
    scene.plans.send_replace(SwitchPlan::default());
    tokio::task::yield_now().await;
    scene.double.drift(&n1(), access(300));
    scene.plans.send_replace(plan("sw2", "", &[("up", 7)]));
    scene.port(|fact| fact.port.as_str() == "up" && fact.mode == Some(access(7))).await;
    assert_eq!(scene.double.vlan(&n1()), Some(vlan(300)));
}

#[tokio::test]
async fn the_hand_ends_with_either_of_its_other_ends() {
    let mut scene = Scene::new();
    scene.fact(|_| true).await;
    drop(scene.plans);
    timeout(PATIENCE, scene.hand).await.expect("no more plans").unwrap();
    let scene = Scene::new();
    drop(scene.facts);
    timeout(PATIENCE, scene.hand).await.expect("nobody to tell").unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_told_with_what_one_is() {
    let (_plans, plan) = watch::channel(plan("sw1", "switch.example:6640", &[("n1", 100)]));
    let (fact, mut facts) = mpsc::channel(1);
    let hand = tokio::spawn(run(plan, fact));
    let Some(SwitchFact::Reach { trouble: Some(trouble), .. }) = facts.recv().await else { panic!() };
    assert!(trouble.contains("switch.example:6640") && trouble.contains("unix:PATH"), "{trouble}");
    hand.abort();
}

#[tokio::test]
async fn a_double_answers_an_order_as_its_manner_is() {
    let mut double = Double::new([(n1(), access(10))]);
    double.connect().await.unwrap();
    let order = |port: &str, id| crate::Order { port: port.parse().unwrap(), vlan: vlan(id) };
    let orders = [order("n1", 10), order("n1", 20), order("n9", 20)];
    let outcomes = double.set(&orders).await.unwrap();
    assert_eq!(outcomes, [Ok(Did::Already), Ok(Did::Changed), Err(Refusal::Absent)]);
}
