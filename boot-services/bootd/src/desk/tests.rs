use super::*;
use boot::{Down, Generation, Row, Up};
use serde::Deserialize;
use std::{os::unix::fs::PermissionsExt as _, pin::Pin};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    say: String,
}

/// Control's end of a line.
struct Control(BufReader<UnixStream>);

impl Control {
    async fn connect(path: &Path) -> Control {
        Control(BufReader::new(UnixStream::connect(path).await.unwrap()))
    }

    async fn plan(&mut self, generation: u64, say: &str) {
        let line =
            Down::Plan { generation: Generation(generation), body: Plan { say: say.to_owned() } }.line();
        self.0.get_mut().write_all(&line).await.unwrap();
    }

    /// The next line; `None` when the hand closed it.
    async fn next(&mut self) -> Option<Up<String>> {
        let mut line = Vec::new();
        let read = timeout(PATIENCE, self.0.read_until(b'\n', &mut line)).await.expect("a line in time");
        (read.unwrap_or(0) > 0).then(|| Up::parse(line.strip_suffix(b"\n").unwrap()).unwrap())
    }

    async fn expect(&mut self, wanted: Up<String>) {
        while let Some(line) = self.next().await {
            if line == wanted {
                return;
            }
        }
        panic!("the line ended before {wanted:?}");
    }
}

struct House {
    directory: tempfile::TempDir,
    served: Option<Served<Plan, String>>,
}

impl House {
    fn new() -> House {
        let mut house = House { directory: tempfile::tempdir().unwrap(), served: None };
        house.restart();
        house
    }

    fn restart(&mut self) {
        let path = self.socket();
        self.served = None;
        let _ = fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let run_dir = Some(self.directory.path().join("run"));
        let door =
            Door { hand: "dhcp", channel: Channel::Listener(listener), run_dir, control: None, rows: 100 };
        self.served = Some(serve(door).unwrap());
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    fn served(&mut self) -> &mut Served<Plan, String> {
        self.served.as_mut().unwrap()
    }

    async fn say(&mut self) -> String {
        let plans = &mut self.served().plans;
        timeout(PATIENCE, plans.changed()).await.expect("a plan in time").unwrap();
        plans.borrow_and_update().as_ref().map(|plan| plan.say.clone()).unwrap_or_default()
    }
}

fn run(test: impl AsyncFnOnce(House)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async { test(House::new()).await });
    runtime.block_on(test);
}

fn row(seq: u64, key: &str, fact: &str) -> Up<String> {
    Up::Fact(Row { seq, key: key.to_owned(), fact: fact.to_owned() })
}

#[test]
fn a_plan_is_on_disk_before_it_is_served_and_after_a_restart_it_is_served_at_once() {
    run(async |mut house: House| {
        assert!(house.served().plans.borrow().is_none());
        let mut control = Control::connect(&house.socket()).await;
        control.plan(3, "three").await;
        assert_eq!(house.say().await, "three");
        control.expect(Up::Holds(Generation(3))).await;
        let kept = house.directory.path().join("run/dhcp.plan");
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        house.restart();
        assert_eq!(house.served().plans.borrow().as_ref().unwrap().say, "three");
        let mut control = Control::connect(&house.socket()).await;
        assert!(matches!(control.next().await, Some(Up::Hello { holds: Some(Generation(3)), .. })));
        control.plan(2, "two").await;
        control.expect(Up::Holds(Generation(3))).await;
        assert_eq!(house.served().plans.borrow().as_ref().unwrap().say, "three");
    });
}

#[test]
fn a_kept_plan_that_does_not_read_is_as_good_as_none() {
    run(async |mut house: House| {
        fs::write(house.directory.path().join("run/dhcp.plan"), b"{\"plan\":{\"gen").unwrap();
        house.restart();
        assert!(house.served().plans.borrow().is_none());
    });
}

#[test]
fn facts_are_told_to_whoever_comes_and_again_after_a_reconnection() {
    run(async |mut house: House| {
        let facts = house.served().facts.clone();
        facts.tell("a", "1".to_owned()).await;
        facts.tell("b", "2".to_owned()).await;
        facts.forget("b").await;
        for _ in 0..2 {
            let mut control = Control::connect(&house.socket()).await;
            assert!(matches!(control.next().await, Some(Up::Hello { hand, .. }) if hand == "dhcp"));
            assert_eq!(control.next().await, Some(row(1, "a", "1")));
            assert_eq!(control.next().await, Some(Up::Told));
        }
        let mut control = Control::connect(&house.socket()).await;
        control.expect(Up::Told).await;
        facts.tell("a", "3".to_owned()).await;
        assert_eq!(control.next().await, Some(row(3, "a", "3")));
    });
}

#[test]
fn the_newest_control_wins() {
    run(async |mut house: House| {
        let mut old = Control::connect(&house.socket()).await;
        old.expect(Up::Told).await;
        let mut new = Control::connect(&house.socket()).await;
        new.expect(Up::Told).await;
        assert_eq!(old.next().await, None);
        new.plan(1, "one").await;
        assert_eq!(house.say().await, "one");
    });
}

#[test]
fn what_is_no_plan_ends_the_line_and_nothing_else() {
    run(async |mut house: House| {
        for nonsense in
            ["GET / HTTP/1.1\r\n\r\n", "{\"v\":9,\"say\":1}\n", "{\"v\":1,\"say\":{\"plan\":{}}}\n", "\0\n"]
        {
            let mut stranger = Control::connect(&house.socket()).await;
            stranger.0.get_mut().write_all(nonsense.as_bytes()).await.unwrap();
            while stranger.next().await.is_some() {}
        }
        let mut control = Control::connect(&house.socket()).await;
        control.plan(1, "one").await;
        assert_eq!(house.say().await, "one");
    });
}

#[test]
fn while_control_does_not_read_the_table_changes_and_nothing_piles_up() {
    run(async |mut house: House| {
        let facts = house.served().facts.clone();
        let mut control = Control::connect(&house.socket()).await;
        control.expect(Up::Told).await;
        let long = "x".repeat(1000);
        for i in 0..20_000 {
            facts.tell((i % 10).to_string(), format!("{i} {long}")).await;
        }
        let mut lines = 0;
        let last = format!("19999 {long}");
        loop {
            lines += 1;
            match control.next().await {
                Some(Up::Fact(row)) if row.fact == last => break,
                Some(_) => {}
                None => panic!("closed"),
            }
        }
        assert!(lines < 5000, "{lines}: every change was kept");
    });
}

#[test]
fn a_file_is_a_plan_too_and_a_wrong_one_says_what_is_wrong() {
    run(async |house: House| {
        let path = house.directory.path().join("plan.json");
        let open = || {
            let channel = Channel::File(path.clone());
            serve::<Plan, String>(Door { hand: "dhcp", channel, run_dir: None, control: None, rows: 10 })
        };
        let missing = open().map(|_| ()).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read the plan"), "{missing:#}");
        fs::write(&path, "{\"says\": 1}").unwrap();
        let wrong = open().map(|_| ()).unwrap_err();
        assert!(format!("{wrong:#}").contains("missing field `say`"), "{wrong:#}");
        fs::write(&path, "{\"say\": \"alone\"}").unwrap();
        let served = open().unwrap();
        assert_eq!(served.plans.borrow().as_ref().unwrap().say, "alone");
    });
}
