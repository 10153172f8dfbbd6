use super::*;
use crate::Double;
use boot::{Attempt, Secret};
use ipmi::{Account, Bmc, BmcConfig, BmcEvent, BootDevice, Bug, Privilege};
use rack::{BootWish, Power};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn bmc(bugs: Vec<Bug>) -> Bmc {
    let accounts = vec![Account {
        user: UserName::new("admin").unwrap(),
        password: Password::new("secret-n1").unwrap(),
        limit: Privilege::Administrator,
    }];
    let mut bmc = Bmc::new(BmcConfig { guid: [7; 16], accounts, slots: 4 }, [9; 32]);
    bmc.set_bugs(bugs);
    bmc
}

async fn double(bugs: Vec<Bug>) -> Double {
    Double::start(bmc(bugs), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

fn wish(power: Power, attempt: &str) -> Option<PowerWish> {
    let boot = (power == Power::On).then_some(BootWish {
        device: rack::BootDevice::Pxe,
        uefi: true,
        persistent: false,
    });
    Some(PowerWish { power, boot, attempt: attempt.parse::<Attempt>().unwrap() })
}

fn plan(address: SocketAddr, wish: Option<PowerWish>) -> PowerPlan {
    let bmc = BmcPlan {
        revision: 1,
        node: "n1".parse().unwrap(),
        address,
        user: "admin".to_owned(),
        password: Secret::new("secret-n1"),
        wish,
    };
    PowerPlan { bmcs: vec![bmc] }
}

struct Run {
    plans: watch::Sender<PowerPlan>,
    facts: mpsc::Receiver<PowerFact>,
    task: tokio::task::JoinHandle<()>,
}

impl Run {
    fn start(plan: PowerPlan) -> Run {
        let (plans, receiver) = watch::channel(plan);
        let (sender, facts) = mpsc::channel(8);
        Run { plans, facts, task: tokio::spawn(run(receiver, sender)) }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&PowerFact) -> bool) -> PowerFact {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            match tokio::time::timeout_at(deadline, self.facts.recv()).await {
                Ok(Some(fact)) if is_it(&fact) => return fact,
                Ok(Some(fact)) => last = Some(fact),
                Ok(None) | Err(_) => panic!("no fact that says {what}; the last was {last:?}"),
            }
        }
    }

    async fn end(self) {
        drop(self.plans);
        tokio::time::timeout(PATIENCE, self.task).await.expect("the hand ends with its plans").unwrap();
    }
}

fn is_fulfilled(attempt: &str) -> impl Fn(&PowerFact) -> bool + use<> {
    let attempt: Attempt = attempt.parse().unwrap();
    move |fact| fact.fulfilled.as_ref() == Some(&attempt)
}

#[tokio::test]
async fn a_node_is_powered_on_to_the_network_and_off_again_and_the_session_closed() {
    let double = double(vec![]).await;
    let mut run = Run::start(plan(double.address(), wish(Power::On, "a1")));
    let began = Instant::now();
    let fact = run.until("on", is_fulfilled("a1")).await;
    assert_eq!((fact.power, fact.boot, fact.acted), (Some(Power::On), Some(rack::BootDevice::Pxe), 1));
    assert_eq!(fact.trouble, None);
    let events = double.events();
    assert!(
        matches!(&events[..], [BmcEvent::On(flags)] if flags.device == BootDevice::Pxe && flags.uefi),
        "{events:?}"
    );
    run.plans.send(plan(double.address(), wish(Power::Off, "a1"))).unwrap();
    let fact = run.until("off", |fact| fact.power == Some(Power::Off) && fact.fulfilled.is_some()).await;
    assert_eq!(fact.boot, Some(rack::BootDevice::None));
    println!("on and off: {:?}", began.elapsed());
    run.end().await;
    let deadline = Instant::now() + PATIENCE;
    while double.bmc().sessions() > 0 {
        assert!(Instant::now() < deadline, "a session is left");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_fact_and_another_password_is_tried_at_once() {
    let double = double(vec![]).await;
    let mut wrong = plan(double.address(), wish(Power::On, "a1"));
    wrong.bmcs[0].password = Secret::new("wrong");
    let mut run = Run::start(wrong);
    run.until("credentials", |fact| matches!(fact.trouble, Some(BmcTrouble::Credentials(_)))).await;
    assert!(!double.bmc().is_on());
    run.plans.send(plan(double.address(), wish(Power::On, "a1"))).unwrap();
    let fact = run.until("on", is_fulfilled("a1")).await;
    assert_eq!(fact.trouble, None);
    run.end().await;
}

#[tokio::test]
async fn credentials_that_no_bmc_can_hold_are_a_fact() {
    let double = double(vec![]).await;
    let mut long = plan(double.address(), None);
    long.bmcs[0].password = Secret::new("a-password-of-21-byte");
    let mut run = Run::start(long);
    let fact = run.until("credentials", |fact| fact.trouble.is_some()).await;
    assert!(matches!(fact.trouble, Some(BmcTrouble::Credentials(text)) if text.contains("20 bytes")));
    run.end().await;
}

#[tokio::test]
async fn a_bmc_that_accepts_and_does_nothing_is_a_fact() {
    let double = double(vec![Bug::IgnoresPowerOn]).await;
    let mut run = Run::start(plan(double.address(), wish(Power::On, "a1")));
    let fact = run.until("inert", |fact| matches!(fact.trouble, Some(BmcTrouble::Inert(_)))).await;
    assert!(fact.acted >= 3);
    double.bmc().set_bugs(vec![]);
    run.until("on", is_fulfilled("a1")).await;
    run.end().await;
}

#[tokio::test]
async fn many_bmcs_are_seen_to_at_a_time() {
    let mut doubles = Vec::new();
    let mut bmcs = Vec::new();
    for n in 0..40 {
        let double = double(vec![]).await;
        let mut one = plan(double.address(), wish(Power::On, "a1")).bmcs.remove(0);
        one.node = format!("n{n}").parse().unwrap();
        bmcs.push(one);
        doubles.push(double);
    }
    let began = Instant::now();
    let mut run = Run::start(PowerPlan { bmcs });
    for _ in 0..40 {
        run.until("on", is_fulfilled("a1")).await;
    }
    println!("40 BMCs on: {:?}", began.elapsed());
    assert!(doubles.iter().all(|double| double.bmc().is_on()));
    // One leaves the plan: it is left as it is, and its session closed.
    run.plans.send_modify(|plan| plan.bmcs.truncate(39));
    let deadline = Instant::now() + PATIENCE;
    while doubles[39].bmc().sessions() > 0 {
        assert!(Instant::now() < deadline, "a session is left");
        tokio::task::yield_now().await;
    }
    assert!(doubles[39].bmc().is_on());
    run.end().await;
}

#[tokio::test]
async fn an_address_where_nothing_listens_is_a_fact() {
    let address = {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.local_addr().unwrap()
    };
    let mut run = Run::start(plan(address, wish(Power::On, "a1")));
    let fact = run.until("silent", |fact| fact.trouble.is_some()).await;
    assert!(matches!(fact.trouble, Some(BmcTrouble::Silent(text)) if text.contains("nothing listens")));
    run.end().await;
}
