use super::Modules;

const DEP: &str = "\
kernel/net/failover.ko.xz:
kernel/drivers/net/net_failover.ko.xz: kernel/net/failover.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/failover.ko.xz
kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/arch/x86/crypto/crc32c-intel.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/drivers/net/e1000.ko.xz:
";
const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000001v* virtio_net
alias crc32c crc32c_intel
alias crc32c crc32c_generic
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
";
const SOFTDEP: &str = "# Soft dependencies\nsoftdep ext4 pre: crc32c\nsoftdep e1000 post: nothing\n";

fn modules() -> Modules {
    Modules::parse(DEP, ALIAS, SOFTDEP, "kernel/net/packet/af_packet.ko\n".to_owned())
}

#[test]
fn what_a_module_needs_comes_before_it() {
    let selection = modules().select(["virtio-net"]);
    assert_eq!(
        selection.paths,
        [
            "kernel/net/failover.ko.xz",
            "kernel/drivers/net/net_failover.ko.xz",
            "kernel/drivers/net/virtio_net.ko.xz"
        ]
    );
    assert!(selection.absent.is_empty());
}

#[test]
fn a_soft_dependency_named_by_alias_brings_all_that_answer_to_it() {
    let selection = modules().select(["ext4"]);
    assert!(selection.paths.iter().any(|path| path.ends_with("crc32c-intel.ko.xz")));
    assert!(selection.paths.iter().any(|path| path.ends_with("crc32c_generic.ko.xz")));
}

#[test]
fn the_index_knows_only_what_was_selected() {
    let selection = modules().select(["ext4"]);
    let text = |wanted: &str| &selection.index.iter().find(|(name, _)| *name == wanted).unwrap().1;
    assert_eq!(text("modules.alias"), "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\n");
    assert_eq!(text("modules.softdep"), "softdep ext4 pre: crc32c\n");
    assert!(!text("modules.dep").contains("virtio_net"));
    assert!(text("modules.dep").contains("kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz\n"));
}

#[test]
fn what_is_built_in_is_not_absent_and_what_is_unknown_is() {
    let selection = modules().select(["af_packet", "no-such"]);
    assert!(selection.paths.is_empty());
    assert_eq!(selection.absent, ["no-such"]);
}
