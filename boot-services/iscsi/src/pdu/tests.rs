use super::*;

fn windows() -> Windows {
    Windows { stat_sn: Serial(7), exp_cmd_sn: Serial(9), max_cmd_sn: Serial(40) }
}

#[test]
fn the_digests_are_those_of_the_standards_examples() {
    // RFC 7143, 13.1 refers to RFC 3720, B.4.
    assert_eq!(digest(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
    assert_eq!(digest(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    let up: Vec<u8> = (0..32).collect();
    assert_eq!(digest(&up), [0x4e, 0x79, 0xdd, 0x46]);
    let read: [u8; 48] = [
        0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0,
        0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(digest(&read), [0x56, 0x3a, 0x96, 0xd9]);
    assert_eq!(data_digest(b"abcde"), digest(b"abcde\0\0\0"));
}

#[test]
fn every_pdu_of_an_initiator_is_read_as_it_was_written() {
    let (lun, itt, ttt) = (Lun::single(3), Tag(5), Tag(0x8000_0001));
    let (cmd_sn, exp_stat_sn) = (Serial(u32::MAX), Serial(17));
    let attribute = TaskAttribute::Ordered;
    let isid = Isid([0x40, 1, 2, 3, 0, 4]);
    for pdu in [
        FromInitiator::NopOut(NopOut { immediate: true, lun, itt, ttt, cmd_sn, exp_stat_sn }),
        FromInitiator::Command(Command {
            immediate: false,
            last: true,
            reads: false,
            writes: true,
            attribute,
            lun,
            itt,
            length: 8192,
            cmd_sn,
            exp_stat_sn,
            cdb: [0x2a; 16],
        }),
        FromInitiator::TaskManagement(TaskManagement {
            immediate: true,
            function: TaskFunction::LogicalUnitReset,
            lun,
            itt,
            referenced: Tag::NONE,
            cmd_sn,
            exp_stat_sn,
            ref_cmd_sn: Serial(3),
            exp_data_sn: Serial(4),
        }),
        FromInitiator::Login(Login {
            transit: Some(Stage::FullFeature),
            more: false,
            stage: Stage::Operational,
            version_max: 0,
            version_min: 0,
            isid,
            tsih: Tsih(0),
            itt,
            cid: 1,
            cmd_sn,
            exp_stat_sn,
        }),
        FromInitiator::Text(Text {
            immediate: true,
            last: true,
            more: false,
            lun,
            itt,
            ttt,
            cmd_sn,
            exp_stat_sn,
        }),
        FromInitiator::DataOut(DataOut {
            last: true,
            lun,
            itt,
            ttt,
            exp_stat_sn,
            data_sn: Serial(2),
            offset: 1024,
        }),
        FromInitiator::Logout(Logout {
            immediate: true,
            reason: LogoutReason::RemoveForRecovery,
            itt,
            cid: 2,
            cmd_sn,
            exp_stat_sn,
        }),
        FromInitiator::Snack(Snack { kind: 1, lun, itt, ttt, exp_stat_sn, begin: Serial(1), run: 2 }),
    ] {
        let header = pdu.emit(0x01_02_03);
        assert_eq!(FromInitiator::parse(&header), Ok(pdu));
        assert_eq!(Lengths::of(&header), Lengths { additional: 0, data: 0x01_02_03 });
        assert!(matches!(FromTarget::parse(&header), Err(Malformed::Opcode(_))));
    }
}

#[test]
fn every_pdu_of_a_target_is_read_as_it_was_written() {
    let (lun, itt, ttt, windows) = (Lun::single(300), Tag(5), Tag(6), windows());
    for pdu in [
        FromTarget::NopIn(NopIn { lun, itt: Tag::NONE, ttt, windows }),
        FromTarget::Response(Response {
            response: 0,
            status: 2,
            itt,
            windows,
            exp_data_sn: Serial(1),
            residual: Residual::Underflow(512),
        }),
        FromTarget::TaskResponse(TaskResponse { answer: TaskAnswer::Rejected, itt, windows }),
        FromTarget::Login(LoginResponse {
            transit: Some(Stage::Operational),
            more: false,
            stage: Stage::Security,
            version_max: 0,
            version_active: 0,
            isid: Isid([1; 6]),
            tsih: Tsih(9),
            itt,
            windows,
            status: LoginStatus::Success,
        }),
        FromTarget::Text(TextResponse { last: false, more: true, lun, itt, ttt, windows }),
        FromTarget::DataIn(DataIn {
            last: true,
            status: Some((0, Residual::Overflow(3))),
            lun,
            itt,
            ttt: Tag::NONE,
            windows,
            data_sn: Serial(4),
            offset: 4096,
        }),
        FromTarget::Logout(LogoutResponse {
            answer: LogoutAnswer::RecoveryNotSupported,
            itt,
            windows,
            time2wait: 2,
            time2retain: 20,
        }),
        FromTarget::R2t(R2t { lun, itt, ttt, windows, r2t_sn: Serial(1), offset: 65536, length: 262_144 }),
        FromTarget::Async(Async { lun, windows, event: AsyncEvent::DropConnection(1, 2, 3) }),
        FromTarget::Reject(Reject { reason: RejectReason::ImmediateCommand, windows, data_sn: Serial(0) }),
    ] {
        let header = pdu.emit(48);
        assert_eq!(FromTarget::parse(&header), Ok(pdu));
        assert_eq!(Lengths::of(&header).data, 48);
        assert!(matches!(FromInitiator::parse(&header), Err(Malformed::Opcode(_))));
    }
}

#[test]
fn every_login_status_has_a_code_of_its_own() {
    for class in 0..=4 {
        for detail in 0..=12 {
            assert_eq!(LoginStatus::from_code(class, detail).code(), (class, detail));
        }
    }
    assert_eq!(LoginStatus::AuthenticationFailure.code(), (2, 1));
    assert_eq!(LoginStatus::OutOfResources.code(), (3, 2));
}

#[test]
fn a_lun_is_one_number_however_it_is_addressed() {
    assert_eq!(Lun::single(1).0, 0x0001_0000_0000_0000);
    assert_eq!(Lun::single(1).number(), Some(1));
    assert_eq!(Lun(0x4001_0000_0000_0000).number(), Some(1));
    assert_eq!(Lun::single(256), Lun(0x4100_0000_0000_0000));
    assert_eq!(Lun::single(256).number(), Some(256));
    assert_eq!(Lun(0xc101_0000_0000_0000).number(), None, "a well-known unit");
    assert_eq!(Lun(0x0001_0001_0000_0000).number(), None, "two levels");
}

#[test]
fn additional_headers_are_read_or_refused() {
    let bidirectional = [0, 5, 2, 0, 0, 0, 0x10, 0];
    assert_eq!(parse_additional(&bidirectional), Ok(vec![Additional::BidirectionalRead(4096)]));
    let mut both = vec![0, 17, 1, 0];
    both.extend(0..16);
    both.extend(bidirectional);
    let cdb: Vec<u8> = (0..16).collect();
    assert_eq!(
        parse_additional(&both),
        Ok(vec![Additional::ExtendedCdb(&cdb), Additional::BidirectionalRead(4096)])
    );
    for broken in
        [&[0, 5, 2, 0][..], &[0, 5, 2, 0, 0, 0, 0], &[0, 5, 9, 0, 0, 0, 0, 0], &[0xff; 4], &[0; 8], &[1]]
    {
        assert_eq!(parse_additional(broken), Err(Malformed::Additional), "{broken:x?}");
    }
}

#[test]
fn numbers_wrap() {
    assert_eq!(Serial(u32::MAX).plus(2), Serial(1));
    assert_eq!(Serial(1).past(Serial(u32::MAX)), 2);
    assert_eq!(Serial(u32::MAX).past(Serial(1)), -2);
}

#[test]
fn no_octets_make_the_codec_panic() {
    let mut dice = sansio::sim::Dice::new(1);
    for _ in 0..20_000 {
        let mut header = [0; HEADER];
        header.fill_with(|| u8::try_from(dice.below(256)).unwrap());
        header[0] = u8::try_from(dice.below(64)).unwrap();
        if let Ok(pdu) = FromInitiator::parse(&header) {
            let _ = FromInitiator::parse(&pdu.emit(0)).unwrap();
        }
        if let Ok(pdu) = FromTarget::parse(&header) {
            let _ = FromTarget::parse(&pdu.emit(0)).unwrap();
        }
        let _ = parse_additional(&header[..usize::try_from(dice.below(48)).unwrap()]);
    }
}
