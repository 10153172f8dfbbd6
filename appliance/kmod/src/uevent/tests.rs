use super::*;

#[test]
fn an_announcement_says_what_came_and_what_serves_it() {
    let message = b"add@/devices/pci0000:00/0000:00:03.0/virtio0\0ACTION=add\0DEVPATH=/devices/pci\0SUBSYSTEM=virtio\0MODALIAS=virtio:d00000001v00001AF4\0SEQNUM=1\0";
    let event = Uevent { action: "add", subsystem: "virtio", modalias: Some("virtio:d00000001v00001AF4") };
    assert_eq!(Uevent::parse(message), event);
}

#[test]
fn an_announcement_of_noise_says_nothing() {
    assert_eq!(Uevent::parse(b"\xff\xfe\0=\0\0a"), Uevent::default());
    assert_eq!(Uevent::parse(b""), Uevent::default());
}
