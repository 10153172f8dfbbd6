use crate::{digest, mac, pinned};
use boot::{Architecture, DhcpMoment, DhcpService, DiskHint, Generation, Iqn, Prefix, Secret, SessionState};

#[test]
fn names_and_numbers_are_pinned() {
    pinned(&mac(), r#""52:54:00:12:34:56""#);
    pinned(&digest(0xab), &format!("{:?}", "ab".repeat(32)));
    pinned(&Generation(7), "7");
    pinned(&"10.7.0.1/24".parse::<Prefix>().unwrap(), r#""10.7.0.1/24""#);
    pinned(&"iqn.2026-01.com.example:host1".parse::<Iqn>().unwrap(), r#""iqn.2026-01.com.example:host1""#);
    pinned(&Secret::new("s3cret"), r#""s3cret""#);
}

#[test]
fn an_iscsi_name_is_written_in_lower_case_however_it_came() {
    let name: Iqn = serde_json::from_str(r#""IQN.2026-01.Com.Example:Host1""#).unwrap();
    assert_eq!(name.as_str(), "iqn.2026-01.com.example:host1");
}

#[test]
fn a_disk_hint_says_only_what_is_asked() {
    pinned(&DiskHint::default(), "{}");
    pinned(
        &DiskHint { serial: Some("S1".into()), wwn: Some("naa.5".into()), name: Some("sda".into()) },
        r#"{"serial":"S1","wwn":"naa.5","name":"sda"}"#,
    );
}

#[test]
fn the_names_of_kinds_are_pinned() {
    let architectures = [
        (Architecture::Bios, r#""bios""#),
        (Architecture::UefiX64, r#""uefi-x64""#),
        (Architecture::UefiX64Http, r#""uefi-x64-http""#),
        (Architecture::UefiArm64, r#""uefi-arm64""#),
        (Architecture::UefiArm64Http, r#""uefi-arm64-http""#),
        (Architecture::Other(6), r#"{"other":6}"#),
    ];
    for (value, bytes) in architectures {
        pinned(&value, bytes);
    }
    let moments = [
        (DhcpMoment::Ignored, r#""ignored""#),
        (DhcpMoment::Offered, r#""offered""#),
        (DhcpMoment::Refused, r#""refused""#),
        (DhcpMoment::Bound, r#""bound""#),
        (DhcpMoment::Released, r#""released""#),
        (DhcpMoment::Declined, r#""declined""#),
        (DhcpMoment::Seen, r#""seen""#),
    ];
    for (value, bytes) in moments {
        pinned(&value, bytes);
    }
    pinned(&[DhcpService::Full, DhcpService::Watch], r#"["full","watch"]"#);
    pinned(&[SessionState::Connected, SessionState::Lost], r#"["connected","lost"]"#);
}
