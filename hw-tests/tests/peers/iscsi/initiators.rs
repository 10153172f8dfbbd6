//! libiscsi's tools, and QEMU's own driver: discovery, CHAP, digests, data, write protection.

use super::{MIB, offer, start};
use crate::wire::{Wire, on_a_wire};
use hw_tests::targets::{Chap, INITIATOR, Make, Offer, Target};
use std::fs;

const SIZE: u64 = 256 * MIB;
/// What is copied to and fro: longer than a burst, and no multiple of one.
const COPIED: u64 = 24 * MIB + 4096;

/// A command with a bound to its time, which must end well.
fn run(wire: &Wire, words: &[&str]) -> String {
    let (done, said) = attempt(wire, words);
    assert!(done, "{words:?}: {said}");
    said
}

/// The same, when it may end badly.
fn attempt(wire: &Wire, words: &[&str]) -> (bool, String) {
    let bounded = ["timeout", "-k", "1", "60"].iter().chain(words);
    wire.try_words(&bounded.map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

/// QEMU's name for the disk, with options of its driver.
fn image(target: &Target, more: &str) -> String {
    let proof = target.offer().chap.as_ref();
    let proof = proof.map(|chap| format!("file.user={},file.password={},", chap.user, chap.secret));
    format!(
        "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={},file.target={},file.lun={},{}\
         file.initiator-name={INITIATOR}{more}",
        target.offer().listen,
        target.name(),
        target.make().lun(),
        proof.unwrap_or_default()
    )
}

fn qemu_img(wire: &Wire, words: &[&str]) -> (bool, String) {
    attempt(wire, &[&["qemu-img"], words].concat())
}

fn must((done, said): (bool, String)) -> String {
    assert!(done, "{said}");
    said
}

/// Makes a file of `COPIED` octets that shows a block in the wrong place; returns its path.
fn noise(wire: &Wire) -> String {
    let words = 0..u32::try_from(COPIED / 4).unwrap();
    let content: Vec<u8> = words.flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
    fs::write(wire.directory.join("noise"), content).unwrap();
    wire.path("noise")
}

fn write(wire: &Wire, target: &Target, from: &str, more: &str) -> (bool, String) {
    let to = image(target, more);
    qemu_img(wire, &["convert", "-n", "-f", "raw", "-W", "-m", "8", "--target-image-opts", from, &to])
}

/// Reads as many octets as `file` has, compares them with it, and returns where they are.
fn reads_as(wire: &Wire, target: &Target, file: &str, more: &str) -> String {
    let (from, copy) = (image(target, more), wire.path("copy"));
    let (from, to) = (format!("if={from}"), format!("of={copy}"));
    let count = format!("count={}", COPIED / 4096);
    must(qemu_img(wire, &["dd", "--image-opts", "-O", "raw", "bs=4096", &count, &from, &to]));
    assert!(fs::read(&copy).unwrap() == fs::read(file).unwrap(), "other octets came back");
    copy
}

fn on_each(
    name: &str,
    make: Make,
    offered: impl FnOnce(Offer) -> Offer + Send,
    test: impl FnOnce(&Wire, Target) + Send,
) {
    on_a_wire(&format!("iscsi-{name}-{}", make.name()), |wire| {
        let offer = offered(offer(wire, make.name(), 3260, SIZE));
        test(wire, start(&offer, make));
    });
}

fn one_way(offer: Offer) -> Offer {
    Offer { chap: Some(Chap::one_way()), ..offer }
}

fn look(wire: &Wire, target: Target) {
    let portal = format!("iscsi://node1%initiator-secret@{}", target.offer().listen);
    let found = run(wire, &["iscsi-ls", "-i", INITIATOR, "-s", &portal]);
    assert!(found.contains(&format!("Target:{}", target.name())), "{found}");
    assert!(
        found.contains(&format!("Lun:{}", target.make().lun())) && found.contains("DIRECT_ACCESS"),
        "{found}"
    );
    let url = target.url();
    let inquiry = |words: &[&str]| run(wire, &[&["iscsi-inq", "-i", INITIATOR], words, &[&url]].concat());
    assert!(inquiry(&[]).contains("Peripheral Device Type:DIRECT_ACCESS"));
    for page in ["0", "128", "131", "176", "177", "178"] {
        assert!(!inquiry(&["-e", "1", "-c", page]).is_empty(), "page {page}");
    }
    let capacity = run(wire, &["iscsi-readcapacity16", "-i", INITIATOR, &url]);
    let blocks = format!("{}", SIZE / 512);
    assert!(capacity.contains(&format!("Total size:{SIZE}")) || capacity.contains(&blocks), "{capacity}");
    let info = must(qemu_img(wire, &["info", "--image-opts", &image(&target, "")]));
    assert!(info.contains(&format!("({SIZE} bytes)")), "{info}");
    let perf = run(wire, &["iscsi-perf", "-i", INITIATOR, "-m", "32", "-b", "512", "-t", "2", &url]);
    assert!(perf.contains("iops"), "{perf}");
}

fn copy(wire: &Wire, target: Target) {
    let file = noise(wire);
    must(write(wire, &target, &file, ""));
    let back = reads_as(wire, &target, &file, "");
    // A disk that is longer than what it is compared with has to go on in zeros.
    let (disk, file) = (image(&target, ""), format!("driver=raw,file.driver=file,file.filename={back}"));
    must(qemu_img(wire, &["compare", "--image-opts", &disk, &file]));
    for more in [&[][..], &["-w"]] {
        let bench = ["bench", "--image-opts", "-t", "none", "-c", "2000", "-d", "32", "-s", "65536"];
        assert!(must(qemu_img(wire, &[&bench, more, &[&disk]].concat())).contains("completed"));
    }
}

fn digests(wire: &Wire, target: Target) {
    let file = noise(wire);
    must(write(wire, &target, &file, ",file.header-digest=crc32c"));
    reads_as(wire, &target, &file, ",file.header-digest=crc32c");
    reads_as(wire, &target, &file, ",file.header-digest=none-crc32c");
    reads_as(wire, &target, &file, ",file.header-digest=none");
}

fn wrong_secret(wire: &Wire, target: Target) {
    for proof in [None, Some(("node1", "another-secret-here")), Some(("node2", "initiator-secret"))] {
        let url = target.url_with(proof);
        let (done, said) = attempt(wire, &["iscsi-inq", "-i", INITIATOR, &url]);
        assert!(!done && !said.contains("DIRECT_ACCESS"), "{url}: {said}");
    }
    run(wire, &["iscsi-inq", "-i", INITIATOR, &target.url()]);
}

fn mutual(wire: &Wire, target: Target) {
    let (user, secret) = target.offer().chap.as_ref().unwrap().target.clone().unwrap();
    let url = target.url();
    let with = |secret: &str| {
        let url = format!("{url}?target_user={user}&target_password={secret}");
        attempt(wire, &["iscsi-inq", "-i", INITIATOR, &url])
    };
    assert!(must(with(&secret)).contains("DIRECT_ACCESS"));
    let (done, said) = with("not-the-target-s-own");
    assert!(!done, "the target proved itself with another secret: {said}");
}

fn software_write_protection(wire: &Wire, target: Target) {
    let file = noise(wire);
    let url = target.url();
    let protect = |to: &str| run(wire, &["iscsi-swp", "-i", INITIATOR, "-s", to, &url]);
    must(write(wire, &target, &file, ""));
    protect("on");
    let (done, said) = write(wire, &target, &file, "");
    assert!(!done, "a write was taken: {said}");
    protect("off");
    must(write(wire, &target, &file, ""));
    reads_as(wire, &target, &file, "");
}

fn read_only(wire: &Wire, target: Target) {
    let file = noise(wire);
    let (done, said) = write(wire, &target, &file, "");
    assert!(!done, "a write was taken: {said}");
    run(wire, &["iscsi-inq", "-i", INITIATOR, &target.url()]);
    let protected = run(wire, &["iscsi-swp", "-i", INITIATOR, &target.url()]);
    assert!(!protected.is_empty());
    let zeros = wire.path("zeros");
    fs::File::create(&zeros).unwrap().set_len(COPIED).unwrap();
    reads_as(wire, &target, &zeros, ",file.read-only=on");
}

/// Each on the reference first.
macro_rules! on_tgt_and_ours {
    ($($reference:ident, $ours:ident: $name:literal, $offered:expr, $test:expr;)*) => {$(
        #[test]
        fn $reference() {
            on_each($name, Make::Tgt, $offered, $test);
        }

        #[test]
        fn $ours() {
            on_each($name, Make::Ours, $offered, $test);
        }
    )*};
}

on_tgt_and_ours! {
    the_reference_is_found_and_looked_at, libiscsi_s_tools_find_our_disk_and_look_at_it: "look", one_way, look;
    the_reference_keeps_what_qemu_writes, qemu_reads_back_what_it_wrote: "copy", one_way, copy;
    the_reference_takes_header_digests, header_digests_are_kept_up: "digests", |offer: Offer| Offer { digests: true, ..one_way(offer) }, digests;
    the_reference_refuses_a_wrong_secret, a_wrong_secret_logs_nobody_in: "secret", one_way, wrong_secret;
    the_reference_proves_itself, our_target_proves_itself_to_the_initiator:
        "mutual", |offer: Offer| Offer { chap: Some(Chap::mutual()), ..offer }, mutual;
    the_reference_can_be_write_protected, software_write_protection_refuses_writes:
        "swp", one_way, software_write_protection;
    the_reference_refuses_writes_to_a_read_only_disk, a_read_only_disk_refuses_writes:
        "read-only", |offer: Offer| Offer { read_only: true, ..one_way(offer) }, read_only;
}

#[test]
fn another_initiator_finds_nothing_and_logs_in_nowhere() {
    on_each("other", Make::Ours, one_way, |wire, target| {
        let other = "iqn.2026-01.test.kiln:somebody";
        let portal = format!("iscsi://node1%initiator-secret@{}", target.offer().listen);
        let (_, found) = attempt(wire, &["iscsi-ls", "-i", other, &portal]);
        assert!(!found.contains("Target:"), "{found}");
        let (done, said) = attempt(wire, &["iscsi-inq", "-i", other, &target.url()]);
        assert!(!done, "{said}");
    });
}
