//! The bytes of every message of version 1. A released version's bytes never change: nor does this file,
//! except for what is added to it.

use agent_proto::{
    ConfigDrive, Disk, Export, Exported, Failure, FailureKind, ImageRef, Inventory, Job, JobState, JobStatus,
    Nic, Order, Outcome, Phase, Progress, Status, Task, VERSION,
};
use boot::{Digest, DiskHint, IscsiChap, Mac, Secret};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// `value` is written as `bytes`, and read from them.
fn pinned<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, bytes: &str) {
    assert_eq!(serde_json::to_string(value).expect("it has a JSON form"), bytes);
    assert_eq!(serde_json::from_str::<T>(bytes).expect("it is what was pinned"), *value);
}

fn digest(octet: u8) -> Digest {
    Digest([octet; 32])
}

#[test]
fn the_version_is_one() {
    assert_eq!(VERSION, 1);
}

#[test]
fn the_words_of_the_kernel_command_line_are_fixed() {
    let words = [
        agent_proto::CMDLINE_URL,
        agent_proto::CMDLINE_ATTEMPT,
        agent_proto::CMDLINE_TOKEN,
        agent_proto::CMDLINE_BOOTIF,
    ];
    assert_eq!(words, ["kiln.url", "kiln.attempt", "kiln.token", "BOOTIF"]);
}

#[test]
fn an_order_to_wait_is_pinned() {
    pinned(&Order { version: 1, job: None }, r#"{"version":1,"job":null}"#);
}

#[test]
fn an_order_to_write_an_image_is_pinned() {
    let image = ImageRef { digest: digest(0xab), size: 1 << 30 };
    let disk = DiskHint { serial: Some("S1".into()), wwn: Some("naa.5".into()), name: Some("sda".into()) };
    let config_drive = Some(ConfigDrive { digest: digest(0x12), size: 70_000 });
    let task = Task::WriteImage { image, disk, config_drive };
    let (ab, twelve) = ("ab".repeat(32), "12".repeat(32));
    pinned(
        &Order { version: 1, job: Some(Job { id: "write".into(), task }) },
        &format!(
            r#"{{"version":1,"job":{{"id":"write","task":{{"write-image":{{"image":{{"digest":"{ab}","size":1073741824}},"disk":{{"serial":"S1","wwn":"naa.5","name":"sda"}},"config_drive":{{"digest":"{twelve}","size":70000}}}}}}}}}}"#
        ),
    );
}

#[test]
fn an_order_for_any_disk_without_a_config_drive_is_pinned() {
    let image = ImageRef { digest: digest(0xab), size: 512 };
    let task = Task::WriteImage { image, disk: DiskHint::default(), config_drive: None };
    let ab = "ab".repeat(32);
    pinned(
        &task,
        &format!(
            r#"{{"write-image":{{"image":{{"digest":"{ab}","size":512}},"disk":{{}},"config_drive":null}}}}"#
        ),
    );
}

#[test]
fn an_order_to_export_a_disk_is_pinned() {
    let chap = IscsiChap {
        user: "kiln".into(),
        secret: Secret::new("0123456789ab"),
        target_user: "n1".into(),
        target_secret: Some(Secret::new("ba9876543210")),
    };
    let export = Export {
        target: "iqn.2026-01.example:n1".parse().expect("it is a name"),
        initiator: "iqn.2026-01.example:kiln".parse().expect("it is a name"),
        chap,
        lun: 0,
        port: 3260,
    };
    let config_drive = Some(ConfigDrive { digest: digest(0x12), size: 70_000 });
    let task = Task::ExportDisk { size: 1 << 30, disk: DiskHint::default(), config_drive, export };
    let twelve = "12".repeat(32);
    pinned(
        &task,
        &format!(
            concat!(
                r#"{{"export-disk":{{"size":1073741824,"disk":{{}},"config_drive":{{"digest":"{}","size":70000}},"#,
                r#""export":{{"target":"iqn.2026-01.example:n1","initiator":"iqn.2026-01.example:kiln","#,
                r#""chap":{{"user":"kiln","secret":"0123456789ab","target_user":"n1","target_secret":"ba9876543210"}},"#,
                r#""lun":0,"port":3260}}}}}}"#
            ),
            twelve
        ),
    );
}

#[test]
fn an_order_to_finish_a_disk_is_pinned() {
    let finish = |config_drive| Task::FinishDisk { size: 512, config_drive };
    pinned(&finish(None), r#"{"finish-disk":{"size":512,"config_drive":null}}"#);
    pinned(
        &finish(Some(ConfigDrive { digest: digest(0x12), size: 1 })),
        &format!(
            r#"{{"finish-disk":{{"size":512,"config_drive":{{"digest":"{}","size":1}}}}}}"#,
            "12".repeat(32)
        ),
    );
}

#[test]
fn an_order_to_erase_is_pinned() {
    pinned(&Task::EraseMetadata { disk: DiskHint::default() }, r#"{"erase-metadata":{"disk":{}}}"#);
}

#[test]
fn a_status_is_pinned() {
    let inventory = Inventory {
        vendor: "QEMU".into(),
        product: "Standard PC".into(),
        serial: "1".into(),
        uuid: "u".into(),
        uefi: true,
        cpus: 2,
        cpu_model: "QEMU Virtual CPU".into(),
        memory: 268_435_456,
        nics: vec![Nic {
            name: "eth0".into(),
            mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            driver: "virtio_net".into(),
            carrier: true,
            address: Some("10.7.0.9".into()),
        }],
        disks: vec![Disk {
            name: "vda".into(),
            size: 1 << 30,
            model: "M".into(),
            serial: "S".into(),
            wwn: "W".into(),
            removable: false,
        }],
    };
    pinned(
        &Status { version: 1, agent: "0.1.0".into(), inventory, job: None },
        concat!(
            r#"{"version":1,"agent":"0.1.0","inventory":{"vendor":"QEMU","product":"Standard PC","serial":"1","#,
            r#""uuid":"u","uefi":true,"cpus":2,"cpu_model":"QEMU Virtual CPU","memory":268435456,"#,
            r#""nics":[{"name":"eth0","mac":"52:54:00:12:34:56","driver":"virtio_net","carrier":true,"#,
            r#""address":"10.7.0.9"}],"disks":[{"name":"vda","size":1073741824,"model":"M","serial":"S","#,
            r#""wwn":"W","removable":false}]},"job":null}"#
        ),
    );
}

#[test]
fn the_states_of_a_job_are_pinned() {
    let status = |state| JobStatus { id: "write".into(), state };
    pinned(
        &status(JobState::Running(Progress { phase: Phase::Write, done: 1, total: 2 })),
        r#"{"id":"write","state":{"running":{"phase":"write","done":1,"total":2}}}"#,
    );
    let written = Outcome::Written {
        disk: "sda".into(),
        image_bytes: 1,
        received_bytes: 2,
        written_bytes: 3,
        kept_bytes: 4,
        millis: (5, 6),
    };
    pinned(
        &status(JobState::Done(written)),
        r#"{"id":"write","state":{"done":{"written":{"disk":"sda","image_bytes":1,"received_bytes":2,"written_bytes":3,"kept_bytes":4,"millis":[5,6]}}}}"#,
    );
    pinned(
        &status(JobState::Done(Outcome::Erased { disks: vec!["sda".into(), "sdb".into()] })),
        r#"{"id":"write","state":{"done":{"erased":{"disks":["sda","sdb"]}}}}"#,
    );
    let exported = Exported { disk: "sda".into(), size: 1, port: 3260, sessions: 2 };
    pinned(
        &status(JobState::Exported(exported)),
        r#"{"id":"write","state":{"exported":{"disk":"sda","size":1,"port":3260,"sessions":2}}}"#,
    );
    pinned(
        &status(JobState::Done(Outcome::Finished { disk: "sda".into() })),
        r#"{"id":"write","state":{"done":{"finished":{"disk":"sda"}}}}"#,
    );
    let failure = Failure { kind: FailureKind::DiskTooSmall, text: "why".into() };
    pinned(
        &status(JobState::Failed(failure)),
        r#"{"id":"write","state":{"failed":{"kind":"disk-too-small","text":"why"}}}"#,
    );
}

#[test]
fn the_names_of_phases_and_failures_are_pinned() {
    let phases = [
        (Phase::Prepare, "prepare"),
        (Phase::Write, "write"),
        (Phase::Verify, "verify"),
        (Phase::Finish, "finish"),
        (Phase::Erase, "erase"),
    ];
    for (phase, name) in phases {
        pinned(&phase, &format!("{name:?}"));
    }
    let kinds = [
        (FailureKind::NoDisk, "no-disk"),
        (FailureKind::AmbiguousDisk, "ambiguous-disk"),
        (FailureKind::DiskTooSmall, "disk-too-small"),
        (FailureKind::DiskFault, "disk-fault"),
        (FailureKind::CorruptImage, "corrupt-image"),
        (FailureKind::NoImage, "no-image"),
        (FailureKind::BadOrder, "bad-order"),
    ];
    for (kind, name) in kinds {
        pinned(&kind, &format!("{name:?}"));
    }
}
