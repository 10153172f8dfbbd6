use crate::{attempt, device, mac, pinned};
use boot::{Architecture, Boot, DhcpFact, DhcpHost, DhcpMoment, DhcpNetwork, DhcpPlan, DhcpService, Pool};

fn boot() -> Boot {
    Boot {
        bios: "undionly.kpxe".into(),
        uefi_x64: "ipxe.efi".into(),
        uefi_arm64: None,
        http_x64: "http://10.7.0.1/ipxe.efi".into(),
        http_arm64: None,
        ipxe: "http://10.7.0.1/boot/n1-4-2".into(),
    }
}

const BOOT: &str = r#"{"bios":"undionly.kpxe","uefi_x64":"ipxe.efi","uefi_arm64":null,"http_x64":"http://10.7.0.1/ipxe.efi","http_arm64":null,"ipxe":"http://10.7.0.1/boot/n1-4-2"}"#;

#[test]
fn a_plan_is_pinned() {
    pinned(&DhcpPlan::default(), r#"{"networks":[]}"#);
    let host = DhcpHost {
        mac: mac(),
        address: "10.7.0.9".parse().unwrap(),
        hostname: "n1".into(),
        boot: Some(boot()),
        attempt: Some(attempt()),
    };
    let network = DhcpNetwork {
        name: "provisioning".into(),
        device: device(),
        address: "10.7.0.1/24".parse().unwrap(),
        service: DhcpService::Full,
        pool: Some(Pool { first: "10.7.0.50".parse().unwrap(), last: "10.7.0.99".parse().unwrap() }),
        router: Some("10.7.0.1".parse().unwrap()),
        dns: vec!["10.7.0.2".parse().unwrap()],
        lease_seconds: 600,
        router_advertisements: true,
        boot: Some(boot()),
        hosts: vec![host],
    };
    pinned(
        &DhcpPlan { networks: vec![network] },
        &[
            r#"{"networks":[{"name":"provisioning","device":"eth0.100","address":"10.7.0.1/24","service":"full","#,
            r#""pool":{"first":"10.7.0.50","last":"10.7.0.99"},"router":"10.7.0.1","dns":["10.7.0.2"],"#,
            r#""lease_seconds":600,"router_advertisements":true,"boot":"#,
            BOOT,
            r#","hosts":[{"mac":"52:54:00:12:34:56","address":"10.7.0.9","hostname":"n1","boot":"#,
            BOOT,
            r#","attempt":"n1-4-2"}]}]}"#,
        ]
        .concat(),
    );
}

#[test]
fn the_facts_are_pinned() {
    let client = DhcpFact::Client {
        network: "provisioning".into(),
        mac: mac(),
        attempt: Some(attempt()),
        moment: DhcpMoment::Bound,
        address: Some("10.7.0.9".parse().unwrap()),
        architecture: Some(Architecture::UefiX64),
        vendor_class: Some("PXEClient".into()),
        ipxe: true,
        uuid: Some("u".into()),
    };
    pinned(
        &client,
        concat!(
            r#"{"client":{"network":"provisioning","mac":"52:54:00:12:34:56","attempt":"n1-4-2","#,
            r#""moment":"bound","address":"10.7.0.9","architecture":"uefi-x64","#,
            r#""vendor_class":"PXEClient","ipxe":true,"uuid":"u"}}"#
        ),
    );
    pinned(
        &DhcpFact::Network { network: "provisioning".into(), trouble: Some("why".into()) },
        r#"{"network":{"network":"provisioning","trouble":"why"}}"#,
    );
}
