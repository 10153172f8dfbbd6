use super::*;

const DEP: &str = "\
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz:
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/lib/libcrc32c.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/drivers/a.ko:
kernel/drivers/b.ko:
";
const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias crypto-crc32c crc32c_generic
alias crypto-crc32c crc32c_intel
alias cpu:type:x86,ven*fam*mod*:feature:*0094* crc32c_intel
alias fs-ext4 ext4
";
const SOFTDEP: &str = "softdep ext4 pre: crypto-crc32c\nsoftdep a pre: b post: libcrc32c\nsoftdep b pre: a\n";
const BUILTIN: &str = "kernel/fs/fat/vfat.ko\n";

fn index() -> Index {
    Index::parse(DEP, ALIAS, SOFTDEP, BUILTIN)
}

fn order(wanted: &str) -> Vec<String> {
    let index = index();
    let order = index.order(wanted, &mut BTreeSet::new());
    order.into_iter().map(|(module, _)| module.to_owned()).collect()
}

#[test]
fn what_a_module_needs_comes_before_it() {
    assert_eq!(order("virtio_net"), ["virtio_ring", "virtio", "failover", "net_failover", "virtio_net"]);
}

#[test]
fn a_module_is_loaded_once() {
    let index = index();
    let mut loaded = BTreeSet::new();
    index.order("virtio_net", &mut loaded);
    assert_eq!(index.order("virtio_ring", &mut loaded), []);
    assert_eq!(index.order("virtio-net", &mut loaded), []);
}

#[test]
fn softdeps_by_alias_come_first_and_all_that_serve_are_taken() {
    assert_eq!(order("fs-ext4"), ["crc32c_generic", "crc32c_intel", "jbd2", "ext4"]);
}

#[test]
fn softdeps_in_a_circle_end() {
    assert_eq!(order("a"), ["b", "a", "libcrc32c"]);
}

#[test]
fn what_is_built_in_or_unknown_is_nothing_to_load() {
    assert_eq!(order("vfat"), [""; 0]);
    assert_eq!(order("nothing"), [""; 0]);
}

#[test]
fn a_device_is_served_by_every_module_whose_pattern_fits() {
    let index = index();
    assert_eq!(index.for_device("virtio:d00000001v00001AF4"), ["virtio_net"]);
    assert_eq!(index.for_device("pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"), ["e1000"]);
    assert_eq!(index.for_device("pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00"), [""; 0]);
    let cpu = "cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,0094,0099";
    assert_eq!(index.for_device(cpu), ["crc32c_intel"]);
}

#[test]
fn patterns_are_those_of_fnmatch() {
    let table = [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "acb", false),
        ("*b*b", "abab", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("v[0-9A-F]x", "vBx", true),
        ("v[0-9A-F]x", "vGx", false),
        ("v[!a]x", "vbx", true),
        ("v[!a]x", "vax", false),
        ("v[]]x", "v]x", true),
        ("v[a-", "va", false),
        ("[", "[", false),
        ("", "", true),
        ("", "a", false),
        ("***", "", true),
        ("dmi:*:bvn*:svnDell*:", "dmi:bvn:bvnX:svnDellInc.:", true),
    ];
    for (pattern, text, expected) in table {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }
}

#[test]
fn a_pattern_of_stars_takes_no_time() {
    let pattern = "*a".repeat(200) + "b";
    assert!(!matches(pattern.as_bytes(), "a".repeat(4000).as_bytes()));
}
