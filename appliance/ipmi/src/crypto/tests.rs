use super::*;
use crate::codec::{LanMessage, Packet, Rakp1, parse};
use crate::console::Password;

/// A conversation as it was on the wire: to the BMC or not, and the datagram.
fn capture(text: &str) -> Vec<(bool, Vec<u8>)> {
    let line = |line: &str| {
        let (direction, hex) = line.split_once(' ').unwrap();
        let bytes =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        (direction == ">", bytes)
    };
    text.lines().filter(|text| !text.starts_with('#')).map(line).collect()
}

/// Walks through a captured conversation with nothing but the password, and gives what was said in the
/// session: network function, command and data.
fn replay(text: &str, suite: CipherSuite) -> Vec<(bool, u8, u8, Vec<u8>)> {
    let mut exchange = Exchange {
        suite,
        console_session: [0; 4],
        bmc_session: [0; 4],
        console_random: [0; 16],
        bmc_random: [0; 16],
        guid: [0; 16],
        role: 0,
        user: Vec::new(),
        key: Password::new("secret-n1").unwrap().key(),
    };
    let mut said = Vec::new();
    for (to_bmc, datagram) in capture(text) {
        let Packet::Framed(frame) = parse(&datagram).unwrap() else { continue };
        let payload = frame.payload;
        match frame.kind {
            Kind::OpenRequest => {
                let request = codec::OpenRequest::parse(payload).unwrap();
                assert_eq!(request.algorithms, suite.algorithms());
                assert_eq!(request.bytes(), payload);
                exchange.console_session = request.console_session;
            }
            Kind::OpenResponse => exchange.bmc_session.copy_from_slice(&payload[8..12]),
            Kind::Rakp1 => {
                let message = Rakp1::parse(payload).unwrap();
                assert_eq!(message.bytes(), payload);
                exchange.console_random = message.random;
                exchange.role = message.role;
                exchange.user = message.user;
            }
            Kind::Rakp2 => {
                exchange.bmc_random.copy_from_slice(&payload[8..24]);
                exchange.guid.copy_from_slice(&payload[24..40]);
                assert_eq!(exchange.rakp2_code().bytes(), &payload[40..]);
            }
            Kind::Rakp3 => assert_eq!(exchange.rakp3_code().bytes(), &payload[8..]),
            Kind::Rakp4 => assert_eq!(&exchange.rakp4_check().bytes()[..suite.check_len()], &payload[8..]),
            Kind::IpmiSealed => {
                let keys = exchange.keys();
                let plain = keys.open(&frame).unwrap();
                let iv = *payload.first_chunk().unwrap();
                assert_eq!(keys.seal(frame.session, frame.sequence, &plain, iv), datagram, "sealed alike");
                let message = LanMessage::parse(&plain).unwrap();
                assert_eq!(message.bytes(), plain);
                said.push((to_bmc, message.netfn, message.command, message.data));
            }
            Kind::Ipmi => panic!("not in these captures"),
        }
    }
    said
}

#[test]
fn a_captured_session_of_suite_3_opens_with_its_password() {
    let said = replay(include_str!("../../tests/captures/ipmitool-ipmi_sim-suite3.txt"), CipherSuite::Three);
    assert!(said.contains(&(true, 0x06, 0x3b, vec![4])), "Set Session Privilege Level");
    assert!(said.contains(&(true, 0x00, 0x01, vec![])), "Get Chassis Status");
    let status = said.iter().find(|(_, netfn, command, _)| (*netfn, *command) == (0x01, 0x01)).unwrap();
    assert_eq!(status.3[..2], [0x00, 0x00], "done, and off");
    assert_eq!(said.last().unwrap().3, [0x00], "Close Session");
}

#[test]
fn a_captured_session_of_suite_17_opens_with_its_password() {
    let said = replay(include_str!("../../tests/captures/ipmitool-ours-suite17.txt"), CipherSuite::Seventeen);
    assert!(said.contains(&(true, 0x00, 0x01, vec![])), "Get Chassis Status");
}

/// Our requests are byte for byte those that BMCs know from ipmitool.
#[test]
fn the_boot_flags_are_set_as_ipmitool_sets_them() {
    let said =
        replay(include_str!("../../tests/captures/ipmitool-ours-bootdev17.txt"), CipherSuite::Seventeen);
    let theirs: Vec<_> = said
        .iter()
        .filter(|(to_bmc, netfn, command, _)| *to_bmc && (*netfn, *command) == (0x00, 0x08))
        .map(|(.., data)| data.clone())
        .collect();
    let flags = crate::BootFlags::once(crate::BootDevice::Pxe, true);
    let ours: Vec<_> =
        crate::set_boot_flags(flags).iter().map(|command| command.message().data().to_vec()).collect();
    for data in &theirs {
        assert!(ours.contains(data) || data[0] == 0, "{data:02x?} of {theirs:02x?} is not in {ours:02x?}");
    }
    assert!(theirs.contains(&vec![5, 0xa0, 0x04, 0, 0, 0]));
}

fn keys(suite: CipherSuite) -> Keys {
    let exchange = Exchange {
        suite,
        console_session: [1; 4],
        bmc_session: [2; 4],
        console_random: [3; 16],
        bmc_random: [4; 16],
        guid: [5; 16],
        role: 0x14,
        user: b"admin".to_vec(),
        key: [6; 20],
    };
    exchange.keys()
}

#[test]
fn what_is_sealed_opens_again_whatever_its_length() {
    for suite in [CipherSuite::Three, CipherSuite::Seventeen] {
        let keys = keys(suite);
        for len in 0..64_u8 {
            let payload: Vec<u8> = (0..len).collect();
            let datagram = keys.seal([9; 4], 7, &payload, [len; 16]);
            let Ok(Packet::Framed(frame)) = parse(&datagram) else { panic!("{datagram:02x?}") };
            assert_eq!((frame.session, frame.sequence), ([9; 4], 7));
            assert_eq!(keys.open(&frame), Ok(payload));
        }
    }
}

#[test]
fn one_changed_bit_anywhere_is_seen() {
    for suite in [CipherSuite::Three, CipherSuite::Seventeen] {
        let keys = keys(suite);
        let datagram = keys.seal([9; 4], 7, b"Get Chassis Status", [8; 16]);
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // The RMCP header is signed by nobody; its version and class are checked, the rest is ignored.
            if (1..3).contains(&(bit / 8)) {
                continue;
            }
            if let Ok(Packet::Framed(frame)) = parse(&changed) {
                assert!(keys.open(&frame).is_err(), "bit {bit}");
            }
        }
    }
}

#[test]
fn random_bytes_do_not_repeat() {
    let mut random = Random::new([0; 32]);
    let drawn: std::collections::BTreeSet<[u8; 16]> = (0..1000).map(|_| random.bytes()).collect();
    assert_eq!(drawn.len(), 1000);
}
