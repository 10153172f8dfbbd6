//! Which machine is told which file.

use crate::client::*;
use boot::{Architecture, DhcpFact, DhcpPlan};
use dhcproto::v4::{DhcpOption, MessageType};
use sansio::Time;
use std::net::Ipv4Addr;

fn pxe(architecture: u16) -> Ask {
    let class = format!("PXEClient:Arch:{architecture:05}:UNDI:003016");
    firmware(architecture, &class)
        .option(DhcpOption::ParameterRequestList([1, 3, 60, 66, 67].map(Into::into).to_vec()))
}

fn firmware(architecture: u16, class: &str) -> Ask {
    Ask::discover(KNOWN)
        .option(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()))
        .raw(93, &architecture.to_be_bytes())
}

fn offer(plan: &DhcpPlan, ask: &Ask) -> Answer {
    send(&mut server(plan), ask, Time::ZERO).only().clone()
}

#[test]
fn firmware_that_speaks_pxe_gets_its_loader_and_need_not_discover() {
    for (architecture, file) in [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi")] {
        let answer = offer(&plan(), &pxe(architecture));
        assert_eq!(answer.file().as_deref(), Some(file));
        assert_eq!(answer.get(67), Some(&DhcpOption::BootfileName(file.as_bytes().to_vec())));
        assert_eq!(answer.get(66), Some(&DhcpOption::TFTPServerName(b"10.7.0.1".to_vec())));
        assert_eq!(answer.message.siaddr(), SERVER);
        assert_eq!(answer.get(60), Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec())));
        assert_eq!(answer.get(43), Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255])));
    }
}

#[test]
fn a_rom_older_than_the_architecture_option_is_a_bios_one() {
    let ask = Ask::discover(KNOWN).option(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
    assert_eq!(offer(&plan(), &ask).file().as_deref(), Some("undionly.kpxe"));
}

#[test]
fn firmware_that_is_not_served_gets_an_address_and_no_file() {
    for architecture in [11, 6, 12] {
        let answer = offer(&plan(), &pxe(architecture));
        assert_eq!(
            (answer.file(), answer.message.siaddr(), answer.get(60)),
            (None, Ipv4Addr::UNSPECIFIED, None)
        );
        assert_eq!(answer.message.yiaddr(), KNOWN_ADDRESS);
    }
    let arm = with(|network| {
        if let Some(boot) = &mut network.hosts[0].boot {
            boot.uefi_arm64 = Some("arm64.efi".to_owned());
            boot.http_arm64 = Some("http://10.7.0.1/arm64.efi".to_owned());
        }
    });
    assert_eq!(offer(&arm, &pxe(11)).file().as_deref(), Some("arm64.efi"));
    assert_eq!(
        offer(&arm, &firmware(19, "HTTPClient:Arch:00019")).file().as_deref(),
        Some("http://10.7.0.1/arm64.efi")
    );
}

/// UEFI 2.10, 24.7.2.3.
#[test]
fn firmware_that_speaks_http_gets_a_url() {
    let answer = offer(&plan(), &firmware(16, "HTTPClient:Arch:00016:UNDI:003001"));
    assert_eq!(answer.file().as_deref(), Some("http://10.7.0.1/snponly.efi"));
    assert_eq!(answer.get(60), Some(&DhcpOption::ClassIdentifier(b"HTTPClient".to_vec())));
    assert_eq!(answer.get(43), None);
}

/// Option 175, sub-option 176, is iPXE's no-pxedhcp: it saves three seconds.
#[test]
fn ipxe_gets_its_script_and_is_told_not_to_wait() {
    let class = || pxe(7).raw(77, b"iPXE");
    for ask in [class(), pxe(0).raw(77, b"\x04iPXE"), pxe(7).raw(175, &[0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0x41])]
    {
        let answer = offer(&plan(), &ask);
        assert_eq!(answer.file().as_deref(), Some("http://10.7.0.1/boot/n1-4-2"));
        let Some(DhcpOption::Unknown(told)) = answer.get(175) else { panic!("{answer:?}") };
        assert_eq!(told.data(), [176, 1, 1]);
        assert_eq!((answer.get(60), answer.get(43)), (None, None));
    }
    assert_eq!(offer(&plan(), &pxe(7).raw(77, b"iPXE2")).file().as_deref(), Some("snponly.efi"));
}

#[test]
fn ipxe_is_never_given_a_loader_which_would_be_itself_again() {
    for architecture in [0, 7, 9, 11, 16, 19, 99] {
        for class in ["PXEClient:Arch:00007", "HTTPClient:Arch:00016", "other"] {
            let file = offer(&plan(), &firmware(architecture, class).raw(175, &[1, 1, 1])).file();
            assert_eq!(file.as_deref(), Some("http://10.7.0.1/boot/n1-4-2"));
        }
    }
}

#[test]
fn a_machine_that_is_to_boot_from_its_disk_is_told_no_file() {
    let disk = with(|network| network.hosts[0].boot = None);
    for ask in [pxe(0), pxe(7), firmware(16, "HTTPClient"), pxe(0).raw(77, b"iPXE")] {
        let answer = offer(&disk, &ask);
        assert_eq!((answer.file(), answer.get(67), answer.get(60), answer.get(43)), (None, None, None, None));
        assert_eq!(
            (answer.message.siaddr(), answer.message.yiaddr()),
            (Ipv4Addr::UNSPECIFIED, KNOWN_ADDRESS)
        );
    }
    let ipxe = offer(&disk, &pxe(0).raw(77, b"iPXE"));
    assert!(ipxe.get(175).is_some(), "and need not wait for it");
}

#[test]
fn an_unknown_machine_boots_what_the_network_says() {
    let ask = Ask::discover(STRANGER).raw(77, b"iPXE");
    assert_eq!(offer(&plan(), &ask).file().as_deref(), Some("http://10.7.0.1/hold"));
    assert_eq!(offer(&with(|network| network.boot = None), &ask).file(), None);
}

#[test]
fn an_operating_system_is_told_no_file() {
    assert_eq!(offer(&plan(), &Ask::discover(KNOWN)).file(), None);
    assert_eq!(offer(&plan(), &firmware(0, "MSFT 5.0")).file(), None);
}

#[test]
fn a_url_too_long_for_the_header_goes_into_its_option() {
    let url = format!("http://10.7.0.1/{}", "x".repeat(200));
    let long = with(|network| {
        if let Some(boot) = &mut network.hosts[0].boot {
            boot.ipxe.clone_from(&url);
        }
    });
    let answer = offer(&long, &pxe(0).raw(77, b"iPXE"));
    assert_eq!(answer.file(), None);
    assert_eq!(answer.get(67), Some(&DhcpOption::BootfileName(url.into_bytes())));
}

#[test]
fn the_ack_says_the_same_as_the_offer() {
    let mut server = server(&plan());
    let offer = send(&mut server, &pxe(7), Time::ZERO).only().clone();
    let request = Ask::select(KNOWN, KNOWN_ADDRESS)
        .option(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007".to_vec()))
        .raw(93, &[0, 7]);
    let ack = send(&mut server, &request, Time::ZERO).only().clone();
    assert_eq!((ack.kind(), ack.file(), ack.get(43)), (MessageType::Ack, offer.file(), offer.get(43)));
}

#[test]
fn a_fact_says_what_the_machine_is() {
    let ask = pxe(0)
        .raw(93, &[0, 99, 0, 7])
        .raw(97, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])
        .raw(60, b"PXEClient:\n\xff");
    let outcome = send(&mut server(&plan()), &ask, Time::ZERO);
    let [DhcpFact::Client { architecture, vendor_class, ipxe, uuid, .. }] = &outcome.facts[..] else {
        panic!()
    };
    assert_eq!(*architecture, Some(Architecture::UefiX64), "the first that is known");
    assert_eq!(vendor_class.as_deref(), Some("PXEClient:??"));
    assert_eq!((*ipxe, uuid.as_deref()), (false, Some("04030201-0605-0807-090a-0b0c0d0e0f10")));
    let unset = send(&mut server(&plan()), &pxe(0).raw(97, &[0; 17]), Time::ZERO);
    assert!(matches!(&unset.facts[..], [DhcpFact::Client { uuid: None, .. }]));
}
