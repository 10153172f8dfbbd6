mod node;

use super::*;
use crate::library::Library;
use boot::{Digest, IscsiChap};
use image::{EXTENT, Terms};
use node::{INITIATOR, Node, TARGET, chap};
use scsi::BlockSize;
use std::{
    fs,
    path::Path,
    sync::{atomic::Ordering::SeqCst, mpsc},
    time::Duration,
};

const WAIT: Duration = Duration::from_secs(60);

/// A library with one image, a run directory, and what was told.
struct Bench {
    directory: tempfile::TempDir,
    octets: Vec<u8>,
    image: Digest,
    tell: Tell,
    told: mpsc::Receiver<(String, Option<IscsiFact>)>,
}

/// Data and holes, and an end that is no whole extent nor whole blocks of 4096 octets.
fn octets(extents: usize) -> Vec<u8> {
    let mut number = 7u32;
    let mut octets = vec![0; extents * EXTENT + 1536];
    for (at, octet) in octets.iter_mut().enumerate() {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if !matches!(at / EXTENT, 1 | 4 | 5) {
            *octet = (number >> 24) as u8;
        }
    }
    octets
}

impl Bench {
    fn new(extents: usize) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let octets = octets(extents);
        let library = Library::new(directory.path().join("images"));
        let imported = library.import(octets.as_slice(), &Terms::default(), &mut |_| {}).unwrap();
        fs::create_dir(directory.path().join("run")).unwrap();
        let (teller, told) = mpsc::channel();
        let tell: Tell = Arc::new(move |key, fact| _ = teller.send((key, fact)));
        Bench { directory, octets, image: imported.id, tell, told }
    }

    fn images(&self) -> String {
        self.directory.path().join("images").to_str().unwrap().to_owned()
    }

    fn run_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The data of the image, in octets.
    fn data(&self) -> u64 {
        (self.octets.len() - 3 * EXTENT) as u64
    }

    fn pushes(&self) -> Pushes {
        let mut pushes = Pushes::new(Some(self.run_dir().join("run")), Arc::clone(&self.tell));
        pushes.pace = Pace {
            stake: 2 << 20,
            flush: Duration::from_secs(1),
            patience: Duration::from_secs(3),
            refused: Duration::from_millis(500),
        };
        pushes
    }

    fn push(&self, attempt: &str, node: &Node) -> Push {
        Push {
            attempt: attempt.parse().unwrap(),
            portal: node.address,
            device: None,
            target: TARGET.parse().unwrap(),
            initiator: INITIATOR.parse().unwrap(),
            chap: chap("initiators-own", "targets-own-word"),
            lun: 0,
            image: self.image,
        }
    }

    /// Waits for a fact about an attempt.
    fn wait<T>(&self, attempt: &str, wanted: impl Fn(&PushState) -> Option<T>) -> T {
        loop {
            let (key, fact) = self.told.recv_timeout(WAIT).expect("it is told in time");
            if let Some(IscsiFact::Push { state, .. }) = fact
                && key == format!("push/{attempt}")
                && let Some(found) = wanted(&state)
            {
                return found;
            }
        }
    }

    fn done(&self, attempt: &str) -> u64 {
        self.wait(attempt, |state| match state {
            PushState::Done { sent, .. } => Some(*sent),
            PushState::Failed { why } => panic!("{why}"),
            _ => None,
        })
    }

    fn failed(&self, attempt: &str) -> String {
        self.wait(attempt, |state| match state {
            PushState::Failed { why } => Some(why.clone()),
            PushState::Done { .. } => panic!("it is done"),
            _ => None,
        })
    }
}

fn check(bench: &Bench, node: &Node, block: usize) {
    let there = node.disk.octets();
    let size = bench.octets.len();
    assert!(there[..size] == bench.octets, "the disk does not hold the image");
    let end = size.next_multiple_of(block);
    assert!(there[size..end].iter().all(|octet| *octet == 0), "the last block's rest");
    assert!(there[end..].iter().all(|octet| *octet == 0x55), "what is behind the image");
}

#[test]
fn an_image_is_on_the_disk_and_what_was_in_its_holes_is_not() {
    for block in [BlockSize::B512, BlockSize::B4096] {
        let bench = Bench::new(7);
        let node = Node::new(9 << 20, block);
        let mut pushes = bench.pushes();
        pushes.set(Some(&bench.images()), &[bench.push("n1-1", &node)]);
        assert_eq!(bench.done("n1-1"), bench.data());
        check(&bench, &node, block.octets() as usize);
    }
}

#[test]
fn a_node_that_loses_its_power_anywhere_has_the_image_in_the_end() {
    let bench = Bench::new(12);
    for cut in [1, 3, 6, 8] {
        let node = Node::new(14 << 20, BlockSize::B512);
        node.disk.cut_at.store(cut << 20, SeqCst);
        let mut pushes = bench.pushes();
        let attempt = format!("n1-{cut}");
        pushes.set(Some(&bench.images()), &[bench.push(&attempt, &node)]);
        let sent = bench.done(&attempt);
        // All that was under way when the power went is sent again, which may be all there is.
        assert!(sent > bench.data() && sent <= 2 * bench.data(), "{cut}: {sent} of {}", bench.data());
        check(&bench, &node, 512);
    }
}

#[test]
fn a_hand_that_is_killed_goes_on_from_its_checkpoint() {
    let bench = Bench::new(30);
    let node = Node::new(32 << 20, BlockSize::B512);
    node.disk.stall_at.store(20 << 20, SeqCst);
    let push = bench.push("n1-1", &node);
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), std::slice::from_ref(&push));
    while node.disk.written.load(SeqCst) < 20 << 20 {
        thread_rest();
    }
    drop(pushes);
    node.disk.stall_at.store(u64::MAX, SeqCst);
    node.disk.crash();
    let before = node.disk.written.swap(0, SeqCst);
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), &[push]);
    bench.done("n1-1");
    let again = node.disk.written.load(SeqCst);
    assert!(
        again + before < bench.data() + (16 << 20) && again < bench.data() - (4 << 20),
        "{again} after {before}"
    );
    check(&bench, &node, 512);
}

/// Lets others run for a moment while a condition is looked at.
fn thread_rest() {
    std::thread::park_timeout(Duration::from_millis(5));
}

#[test]
fn what_is_done_is_not_done_again() {
    let bench = Bench::new(7);
    let node = Node::new(9 << 20, BlockSize::B512);
    let push = bench.push("n1-1", &node);
    for _ in 0..2 {
        let mut pushes = bench.pushes();
        pushes.set(Some(&bench.images()), std::slice::from_ref(&push));
        assert_eq!(bench.done("n1-1"), bench.data());
    }
    assert_eq!(node.disk.written.load(SeqCst), bench.data());
}

#[test]
fn an_attempt_that_left_the_plan_is_forgotten() {
    let bench = Bench::new(7);
    let node = Node::new(9 << 20, BlockSize::B512);
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), &[bench.push("n1-1", &node)]);
    bench.done("n1-1");
    pushes.set(Some(&bench.images()), &[]);
    assert!(fs::read_dir(bench.run_dir().join("run")).unwrap().next().is_none());
    assert!(bench.told.try_iter().any(|(key, fact)| key == "push/n1-1" && fact.is_none()));
}

#[test]
fn an_octet_that_reads_back_otherwise_is_written_again_once() {
    let bench = Bench::new(7);
    let node = Node::new(9 << 20, BlockSize::B512);
    *node.disk.lie.lock().unwrap() = (1, 3 * EXTENT as u64 + 9);
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), &[bench.push("n1-1", &node)]);
    assert_eq!(bench.done("n1-1"), bench.data() + EXTENT as u64);
    check(&bench, &node, 512);
}

#[test]
fn an_octet_that_stays_wrong_is_named_with_its_place_and_digest() {
    let bench = Bench::new(7);
    let node = Node::new(9 << 20, BlockSize::B512);
    *node.disk.lie.lock().unwrap() = (usize::MAX, 3 * EXTENT as u64 + 9);
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), &[bench.push("n1-1", &node)]);
    let why = bench.failed("n1-1");
    let digest = image::digest(&bench.octets[3 * EXTENT..4 * EXTENT]).to_string();
    for part in ["LBA 6144", &digest, "replace the disk"] {
        assert!(why.contains(part), "{part}: {why}");
    }
}

#[test]
fn an_image_that_is_damaged_in_the_library_is_not_sent_on() {
    let bench = Bench::new(7);
    let node = Node::new(9 << 20, BlockSize::B512);
    let digest = image::digest(&bench.octets[2 * EXTENT..3 * EXTENT]).to_string();
    let path = bench.directory.path().join("images/extents").join(&digest[..2]).join(&digest);
    let mut extent = fs::read(&path).unwrap();
    extent[77] ^= 1;
    fs::write(&path, extent).unwrap();
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), &[bench.push("n1-1", &node)]);
    let why = bench.failed("n1-1");
    assert!(why.contains(&digest) && why.contains("import the image again"), "{why}");
    assert!(node.disk.octets()[2 * EXTENT..3 * EXTENT].iter().all(|octet| *octet == 0x55));
}

#[test]
fn what_cannot_be_done_is_said() {
    let bench = Bench::new(7);
    let small = Node::new(6 << 20, BlockSize::B512);
    let node = Node::new(9 << 20, BlockSize::B512);
    let mut pushes = bench.pushes();
    let good = bench.push("n1-1", &node);
    let unknown = Push { attempt: "n1-2".parse().unwrap(), image: Digest([1; 32]), ..good.clone() };
    let one_way = IscsiChap { target_secret: None, ..good.chap.clone() };
    let unproved = Push { attempt: "n1-3".parse().unwrap(), chap: one_way, ..good.clone() };
    let gone = "127.0.0.1:1".parse().unwrap();
    let absent = Push { attempt: "n1-4".parse().unwrap(), portal: gone, ..good.clone() };
    let liar = Push {
        attempt: "n1-5".parse().unwrap(),
        chap: chap("initiators-own", "another-secret!"),
        ..good.clone()
    };
    let wrong =
        Push { attempt: "n1-6".parse().unwrap(), chap: chap("not-the-secret", "targets-own-word"), ..good };
    let table = [
        (bench.push("n1-0", &small), "take another disk or a smaller image"),
        (unknown, "there is no image"),
        (unproved, "no secret for the node to prove itself"),
        (absent, "nothing got done at 127.0.0.1:1 for 3 s"),
        (liar, "nothing got done"),
        (wrong, "CHAP user or secret"),
    ];
    for (push, expected) in table {
        pushes.set(Some(&bench.images()), std::slice::from_ref(&push));
        let why = bench.failed(push.attempt.as_str());
        assert!(why.contains(expected), "{expected}: {why}");
    }
    assert_eq!(node.disk.written.load(SeqCst), 0, "nothing is sent to who does not prove himself");
}

#[test]
fn a_push_that_leaves_the_plan_stops_at_once() {
    let bench = Bench::new(30);
    let node = Node::new(32 << 20, BlockSize::B512);
    node.disk.stall_at.store(4 << 20, SeqCst);
    let mut pushes = bench.pushes();
    pushes.set(Some(&bench.images()), &[bench.push("n1-1", &node)]);
    bench.wait("n1-1", |state| matches!(state, PushState::Writing { .. }).then_some(()));
    let clock = crate::clock::Clock::start();
    let began = clock.now();
    pushes.set(Some(&bench.images()), &[]);
    assert!(clock.now().since(began) < Duration::from_secs(1));
}

#[test]
fn of_nine_pushes_one_waits_for_its_turn_and_all_are_done() {
    let bench = Bench::new(7);
    let nodes: Vec<Node> = (0..9).map(|_| Node::new(9 << 20, BlockSize::B512)).collect();
    let pushes: Vec<Push> =
        nodes.iter().enumerate().map(|(number, node)| bench.push(&format!("n-{number}"), node)).collect();
    for node in &nodes {
        node.disk.stall_at.store(1 << 20, SeqCst);
    }
    let mut hand = bench.pushes();
    hand.pace.patience = WAIT;
    hand.set(Some(&bench.images()), &pushes);
    let next = || bench.told.recv_timeout(WAIT).unwrap();
    let waits = |fact: &IscsiFact| matches!(fact, IscsiFact::Push { state: PushState::Connecting { last: Some(why) }, .. } if why.contains("its turn"));
    while !next().1.is_some_and(|fact| waits(&fact)) {}
    let begun = || nodes.iter().filter(|node| node.disk.written.load(SeqCst) > 0).count();
    while begun() < 8 {
        thread_rest();
    }
    for node in &nodes {
        node.disk.stall_at.store(u64::MAX, SeqCst);
    }
    let mut done = 0;
    while done < 9 {
        match next() {
            (_, Some(IscsiFact::Push { state: PushState::Done { .. }, .. })) => done += 1,
            (key, Some(IscsiFact::Push { state: PushState::Failed { why }, .. })) => panic!("{key}: {why}"),
            _ => {}
        }
    }
}
