//! The switch hand against Open vSwitch, over TCP. The reference client is its own `ovs-vsctl`.

mod openvswitch;

use nix::sys::signal::Signal;
use openvswitch::{ADDRESS, OpenVswitch, PATIENCE, until, with};
use rack::{PortFact, PortMode, PortWish, SwitchDriver, SwitchEntry, SwitchFact, SwitchPlan, Vlan};
use std::collections::BTreeMap;
use std::convert::identity;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// The hand, both ends of what it is held by, and the table of its facts.
struct Hand {
    plans: watch::Sender<SwitchPlan>,
    facts: mpsc::Receiver<SwitchFact>,
    reach: Option<Option<String>>,
    ports: BTreeMap<String, PortFact>,
    task: JoinHandle<()>,
}

impl Hand {
    fn start(wishes: &[(&str, u16)]) -> Hand {
        let (plans, plan) = watch::channel(plan(wishes));
        let (fact, facts) = mpsc::channel(16);
        let task = tokio::spawn(switch::run(plan, fact));
        Hand { plans, facts, reach: None, ports: BTreeMap::new(), task }
    }

    fn wish(&self, wishes: &[(&str, u16)]) {
        self.plans.send_replace(plan(wishes));
    }

    /// Reads facts until the table is as wanted.
    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&Hand) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = wanted(self) {
                return found;
            }
            match timeout_at(deadline, self.facts.recv()).await {
                Ok(Some(SwitchFact::Reach { trouble, .. })) => self.reach = Some(trouble),
                Ok(Some(SwitchFact::Port(fact))) => {
                    self.ports.insert(fact.port.to_string(), fact);
                }
                Ok(None) => panic!("the hand ended"),
                Err(_) => panic!("waited in vain for {what}: {:?}, {:?}", self.reach, self.ports),
            }
        }
    }

    /// Waits until the switch is in reach, or out of it; with the trouble.
    async fn reach(&mut self, wanted: bool) -> String {
        let reach = |hand: &Hand| hand.reach.clone().filter(|trouble| trouble.is_none() == wanted);
        self.until("the switch to come or go", reach).await.unwrap_or_default()
    }

    async fn port(&mut self, port: &str, mut wanted: impl FnMut(&PortFact) -> bool) -> PortFact {
        self.until(port, |hand| hand.ports.get(port).filter(|fact| wanted(fact)).cloned()).await
    }

    async fn in_vlan(&mut self, port: &str, vlan: u16) -> PortFact {
        self.port(port, |fact| fact.mode == access(vlan)).await
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn plan(wishes: &[(&str, u16)]) -> SwitchPlan {
    let wish = |(port, vlan): &(&str, u16)| PortWish {
        port: port.parse().unwrap(),
        vlan: Vlan::try_from(*vlan).unwrap(),
        attempt: None,
    };
    let driver = SwitchDriver::Ovsdb { address: ADDRESS.to_owned() };
    let ports = wishes.iter().map(wish).collect();
    SwitchPlan { switches: vec![SwitchEntry { name: "sw1".parse().unwrap(), driver, ports }] }
}

fn access(vlan: u16) -> Option<PortMode> {
    Some(PortMode::Access(Vlan::try_from(vlan).unwrap()))
}

async fn tag(switch: &OpenVswitch, port: &str) -> String {
    switch.vsctl(&["--no-wait", "get", "port", port, "tag"]).await
}

#[test]
fn the_reference_client_moves_a_port_and_a_broadcast_follows() {
    with("reference", identity, async |switch| {
        switch.vsctl(&["set", "port", "n1", "tag=100"]).await;
        assert!(switch.forwards("n1").await.contains("vid=100"));
        switch.vsctl(&["set", "port", "n1", "tag=200"]).await;
        assert!(switch.forwards("n1").await.contains("vid=200"));
    });
}

#[test]
fn a_port_is_moved_and_read_back_and_no_other_is_touched() {
    with("move", identity, async |switch| {
        let others = async || {
            switch.vsctl(&["--columns=name,tag,trunks,vlan_mode", "list", "port", "n2", "up", "br0"]).await
        };
        let before = others().await;
        let mut hand = Hand::start(&[("n1", 100)]);
        hand.in_vlan("n1", 100).await;
        assert!(switch.forwards("n1").await.contains("vid=100"));
        let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
        for vlan in [200, 100, 200, 100, 200] {
            let began = Instant::now();
            hand.wish(&[("n1", vlan)]);
            let fact = hand.in_vlan("n1", vlan).await;
            ours += began.elapsed();
            assert_eq!((fact.drifts, fact.trouble), (0, None));
            assert_eq!(tag(switch, "n1").await, vlan.to_string());
            assert!(switch.forwards("n1").await.contains(&format!("vid={vlan}")));
        }
        assert_eq!(others().await, before);
        drop(hand);
        for vlan in [100, 200, 100, 200, 100] {
            let began = Instant::now();
            switch.vsctl(&["set", "port", "n1", &format!("tag={vlan}")]).await;
            theirs += began.elapsed();
        }
        println!(
            "a move, in force: ours {:?}, ovs-vsctl {:?}, ratio {:.2}",
            ours / 5,
            theirs / 5,
            ours.div_duration_f64(theirs)
        );
    });
}

#[test]
fn a_change_behind_our_back_is_put_back_and_counted() {
    with("drift", identity, async |switch| {
        let mut hand = Hand::start(&[("n1", 100)]);
        hand.in_vlan("n1", 100).await;
        for drifts in 1..=5 {
            switch.vsctl(&["--no-wait", "set", "port", "n1", "tag=300"]).await;
            let fact = hand.port("n1", |fact| fact.drifts == drifts && fact.mode == access(100)).await;
            assert_eq!(fact.trouble, None);
            assert_eq!(tag(switch, "n1").await, "100");
            assert!(switch.forwards("n1").await.contains("vid=100"));
        }
        // A trunk is a drift as well, and the sixth within a minute is a fight.
        switch.vsctl(&["--no-wait", "clear", "port", "n1", "tag"]).await;
        let fact = hand.port("n1", |fact| fact.drifts == 6 && fact.mode == Some(PortMode::Trunk)).await;
        assert!(
            fact.trouble.is_some_and(|trouble| trouble.contains("somebody else keeps changing this port"))
        );
        hand.in_vlan("n1", 100).await;
        assert_eq!(tag(switch, "n1").await, "100");
        // Another wish is a new start.
        hand.wish(&[("n1", 200)]);
        hand.port("n1", |fact| fact.mode == access(200) && fact.trouble.is_none()).await;
    });
}

#[test]
fn what_the_database_accepts_is_not_told_as_in_force_while_the_daemon_stands_still() {
    with("stopped", identity, async |switch| {
        let mut hand = Hand::start(&[("n1", 100)]);
        hand.in_vlan("n1", 100).await;
        switch.signal_daemon(Signal::SIGSTOP);
        hand.wish(&[("n1", 200)]);
        until("the database to have it", async || tag(switch, "n1").await == "200").await;
        let fact = hand.port("n1", |fact| fact.mode != access(100) && fact.trouble.is_some()).await;
        assert_eq!(fact.mode, None);
        let trouble = fact.trouble.expect("the daemon stands still");
        assert!(trouble.contains("switch sw1, port n1") && trouble.contains("ovs-vswitchd"), "{trouble}");
        switch.signal_daemon(Signal::SIGCONT);
        assert_eq!(hand.in_vlan("n1", 200).await.trouble, None);
        assert!(switch.forwards("n1").await.contains("vid=200"));
    });
}

#[test]
fn a_port_that_is_as_wished_is_not_told_as_in_force_while_the_daemon_stands_still() {
    with("already", identity, async |switch| {
        switch.signal_daemon(Signal::SIGSTOP);
        let mut hand = Hand::start(&[("n1", 10)]);
        let fact = hand.port("n1", |fact| fact.trouble.is_some()).await;
        assert_eq!((fact.mode, fact.trouble.is_some()), (None, true));
        switch.signal_daemon(Signal::SIGCONT);
        assert_eq!(hand.in_vlan("n1", 10).await.trouble, None);
    });
}

#[test]
fn a_database_server_that_is_killed_and_started_again_finds_the_latest_wish() {
    with("restart", identity, async |switch| {
        let mut hand = Hand::start(&[("n1", 100)]);
        hand.in_vlan("n1", 100).await;
        switch.kill_database().await;
        hand.reach(false).await;
        hand.port("n1", |fact| fact.mode.is_none()).await;
        hand.wish(&[("n1", 200)]);
        switch.start_database().await;
        hand.reach(true).await;
        hand.in_vlan("n1", 200).await;
        assert_eq!(tag(switch, "n1").await, "200");
    });
}

#[test]
fn a_port_that_is_not_there_is_named_and_set_once_it_is() {
    with("absent", identity, async |switch| {
        let mut hand = Hand::start(&[("n1", 100), ("n9", 100)]);
        let fact = hand.port("n9", |_| true).await;
        assert_eq!(fact.mode, Some(PortMode::Absent));
        let trouble = fact.trouble.expect("it is absent");
        assert!(trouble.contains("port n9") && trouble.contains("bridge br0 has"), "{trouble}");
        hand.in_vlan("n1", 100).await;
        switch.vsctl(&["add-port", "br0", "n9", "--", "set", "interface", "n9", "type=internal"]).await;
        assert_eq!(hand.in_vlan("n9", 100).await.trouble, None);
        switch.vsctl(&["del-port", "n9"]).await;
        hand.port("n9", |fact| fact.mode == Some(PortMode::Absent)).await;
    });
}

#[test]
fn a_vlan_that_the_switch_refuses_is_told_in_its_words_and_another_is_taken() {
    /// The column's type says `0 to 4095`; this switch allows fewer.
    fn few_vlans(schema: String) -> String {
        schema.replace("\"maxInteger\": 4095", "\"maxInteger\": 1000")
    }
    with("refused", few_vlans, async |switch| {
        let mut hand = Hand::start(&[("n1", 2000), ("n2", 100)]);
        let fact = hand.port("n1", |fact| fact.trouble.is_some()).await;
        let trouble = fact.trouble.unwrap_or_default();
        assert!(trouble.contains("2000 is not in the valid range 0 to 1000"), "{trouble}");
        hand.in_vlan("n2", 100).await;
        assert_eq!(tag(switch, "n1").await, "10");
        hand.wish(&[("n1", 100), ("n2", 100)]);
        hand.in_vlan("n1", 100).await;
    });
}

#[test]
fn an_idle_session_outlives_the_servers_inactivity_probe() {
    with("idle", identity, async |switch| {
        let mut hand = Hand::start(&[("n1", 100)]);
        hand.in_vlan("n1", 100).await;
        // Sent on every 5 s of silence, and the session ended when 5 s later there is no answer.
        let lost = timeout(Duration::from_secs(12), hand.reach(false)).await;
        assert!(lost.is_err(), "the session was lost: {lost:?}");
        hand.wish(&[("n1", 200)]);
        hand.in_vlan("n1", 200).await;
        assert_eq!(tag(switch, "n1").await, "200");
    });
}

#[test]
fn a_switch_that_is_not_there_is_told_with_what_to_do_and_found_when_it_comes() {
    with("late", identity, async |switch| {
        switch.kill_database().await;
        let mut hand = Hand::start(&[("n1", 100)]);
        let trouble = hand.reach(false).await;
        assert!(trouble.contains(ADDRESS) && trouble.contains("Connection refused"), "{trouble}");
        switch.start_database().await;
        hand.in_vlan("n1", 100).await;
    });
}

#[test]
fn eight_ports_move_in_one_go() {
    with("many", identity, async |switch| {
        let names: Vec<String> = (1..=8).map(|number| format!("p{number}")).collect();
        for name in &names {
            let add = ["--no-wait", "add-port", "br0", name, "--", "set", "interface", name, "type=internal"];
            switch.vsctl(&add).await;
        }
        let all = |vlan| names.iter().map(|name| (name.as_str(), vlan)).collect::<Vec<_>>();
        let mut hand = Hand::start(&all(100));
        for name in &names {
            hand.in_vlan(name, 100).await;
        }
        let began = Instant::now();
        hand.wish(&all(200));
        for name in &names {
            hand.in_vlan(name, 200).await;
        }
        println!("eight ports moved, in force: {:?}", began.elapsed());
    });
}

#[test]
fn a_daemon_that_is_killed_and_started_again_puts_in_force_what_was_accepted_meanwhile() {
    with("daemon", identity, async |switch| {
        let mut hand = Hand::start(&[("n1", 100)]);
        hand.in_vlan("n1", 100).await;
        switch.kill_daemon().await;
        hand.wish(&[("n1", 200)]);
        until("the database to have it", async || tag(switch, "n1").await == "200").await;
        hand.port("n1", |fact| fact.mode.is_none()).await;
        switch.start_daemon().await;
        hand.in_vlan("n1", 200).await;
        assert!(switch.forwards("n1").await.contains("vid=200"));
    });
}
