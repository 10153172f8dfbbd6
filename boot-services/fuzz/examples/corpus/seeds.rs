//! The seeds: conversations between our two ends, and one of each PDU and command.

use crate::{
    initiator, login, pdu_stream,
    target::{Serving, TARGET, serve},
};
use iscsi::{
    chap::Nonce,
    initiator::{Event, Initiator, Settings},
    keys::Offer,
    pdu::{
        Command, DataOut, FromInitiator, Isid, Login, Logout, LogoutReason, Lun, NopOut, Sealed, Serial,
        Snack, Stage, Tag, TaskAttribute, TaskFunction, TaskManagement, Text, Tsih, data_digest, padding,
    },
    text::{self, Pair},
};
use sansio::{Time, sim::Dice};

/// What both ends said until the work was done: the initiator's octets, and the target's.
fn talk(settings: Settings, blocks: u64) -> (Vec<u8>, Vec<u8>) {
    let now = Time::from_secs(1);
    let (targets, _disk) = serve(blocks, settings.chap.clone());
    let mut serving = Serving::new(&targets, now);
    let mut engine = Initiator::new(settings, now);
    let mut dice = Dice::new(1);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        while let Some(event) = engine.poll_event() {
            match event {
                Event::Connect => engine.handle_connected(Nonce([1; 33]), now),
                Event::Ready(_) => {
                    for operation in initiator::operations() {
                        engine.submit(operation).expect("the disk is large enough");
                    }
                    engine.log_out(now);
                }
                _ => {}
            }
        }
        while let Some(transmit) = engine.poll_transmit(now) {
            let octets = transmit.pieces().concat();
            ours.extend_from_slice(&octets);
            serving.receive(&octets, now);
        }
        while serving.work(&mut dice, now) {}
        while let Some(octets) = serving.transmit(now) {
            theirs.extend_from_slice(&octets);
            engine.handle_bytes(&octets, now);
        }
    }
    (ours, theirs)
}

fn seed(how: u8, octets: &[u8]) -> Vec<u8> {
    [&[how], octets].concat()
}

pub(crate) fn logins() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for how in 0..4 {
        let plain = Settings::new("iqn.2026-01.example:host", TARGET);
        let chap = (how & 1 == 1).then(login::secrets);
        let (ours, _) =
            talk(Settings { chap, offer: Offer { max_recv: 4096, ..Offer::default() }, ..plain }, 64);
        seeds.push(seed(how, &ours[..ours.len().min(2048)]));
    }
    for (stage, transit, pairs) in [
        (Stage::Security, Some(Stage::FullFeature), vec![Pair::new("AuthMethod", "None")]),
        (Stage::Operational, Some(Stage::FullFeature), vec![Pair::new("SessionType", "Discovery")]),
        (
            Stage::Operational,
            None,
            vec![Pair::new("HeaderDigest", "CRC32C,None"), Pair::new("IFMarker", "No")],
        ),
        (Stage::Security, None, vec![Pair::new("CHAP_A", "5"), Pair::new("X-org", "1")]),
    ] {
        for more in [false, true] {
            let mut text = vec![Pair::new("InitiatorName", "iqn.2026-01.example:host")];
            text.extend(pairs.clone());
            let request = Login {
                transit: transit.filter(|_| !more),
                more,
                stage,
                version_max: 0,
                version_min: 0,
                isid: Isid([0x80, 0, 0, 0, 0, 2]),
                tsih: Tsih(0),
                itt: Tag(1),
                cid: 1,
                cmd_sn: Serial(7),
                exp_stat_sn: Serial(0),
            };
            let one = sealed(&FromInitiator::Login(request), &text::emit(&text), false);
            let two = sealed(&text_request(1), b"SendTargets=All\0", false);
            seeds.push(seed(0, &[one, two].concat()));
        }
    }
    seeds
}

fn sealed(pdu: &FromInitiator, data: &[u8], digest: bool) -> Vec<u8> {
    let mut octets = Sealed::new(pdu.emit(data.len()), false).to_vec();
    octets.extend_from_slice(data);
    octets.extend_from_slice(&[0; 3][..padding(data.len())]);
    if digest && !data.is_empty() {
        octets.extend_from_slice(&data_digest(data));
    }
    octets
}

fn text_request(cmd_sn: u32) -> FromInitiator {
    let (cmd_sn, exp_stat_sn) = (Serial(cmd_sn), Serial(1));
    FromInitiator::Text(Text {
        immediate: false,
        last: true,
        more: false,
        lun: Lun(0),
        itt: Tag(90),
        ttt: Tag::NONE,
        cmd_sn,
        exp_stat_sn,
    })
}

/// A command of a CDB, which reads, writes or neither so many octets.
fn command(itt: u32, cdb: &[u8], reads: bool, writes: bool, length: u32, last: bool) -> FromInitiator {
    let mut whole = [0; 16];
    whole[..cdb.len()].copy_from_slice(cdb);
    FromInitiator::Command(Command {
        immediate: false,
        last,
        reads,
        writes,
        attribute: TaskAttribute::Simple,
        lun: Lun(0),
        itt: Tag(itt),
        length,
        cmd_sn: Serial(itt),
        exp_stat_sn: Serial(1),
        cdb: whole,
    })
}

fn data_out(itt: u32, offset: u32, data_sn: u32, last: bool) -> FromInitiator {
    FromInitiator::DataOut(DataOut {
        last,
        lun: Lun(0),
        itt: Tag(itt),
        ttt: Tag::NONE,
        exp_stat_sn: Serial(1),
        data_sn: Serial(data_sn),
        offset,
    })
}

pub(crate) fn streams() -> Vec<Vec<u8>> {
    let write = |blocks: u8| [0x2a, 0, 0, 0, 0, 8, 0, 0, blocks];
    let read = |blocks: u8| [0x28, 0, 0, 0, 0, 8, 0, 0, blocks];
    let manage = |function: TaskFunction| {
        FromInitiator::TaskManagement(TaskManagement {
            immediate: true,
            function,
            lun: Lun(0),
            itt: Tag(70),
            referenced: Tag(1),
            cmd_sn: Serial(2),
            exp_stat_sn: Serial(1),
            ref_cmd_sn: Serial(1),
            exp_data_sn: Serial(0),
        })
    };
    let ready = command(1, &[0], false, false, 0, true);
    let mut seeds = Vec::new();
    let mut add = |how: u8, pdus: &[(FromInitiator, &[u8])]| {
        let digest = how & 32 != 0;
        let stream: Vec<u8> = pdus.iter().flat_map(|(pdu, data)| sealed(pdu, data, digest)).collect();
        seeds.push(seed(how, &stream));
    };
    for how in [0, 2, 8, 9, 25, 33, 40] {
        add(how, &[(ready, b""), (command(2, &read(4), true, false, 2048, true), b"")]);
        add(how, &[(ready, b""), (command(2, &[0x12, 0, 0, 0, 96], true, false, 96, true), b"")]);
        add(how, &[(ready, b""), (command(2, &write(1), false, true, 512, true), &[5; 512])]);
        let two = command(2, &write(2), false, true, 1024, false);
        add(how, &[(ready, b""), (two, &[5; 512]), (data_out(2, 512, 0, true), &[6; 512])]);
        let far = command(2, &write(16), false, true, 8192, true);
        add(how, &[(ready, b""), (far, b""), (manage(TaskFunction::AbortTask), b"")]);
        add(
            how,
            &[
                (ready, b""),
                (
                    command(2, &[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], false, true, 512, true),
                    &[0; 512],
                ),
            ],
        );
    }
    let list: Vec<u8> = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &[0; 7], &[4, 0, 0, 0, 8, 0, 0, 0, 0]].concat();
    add(8, &[(ready, b""), (command(2, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24], false, true, 24, true), &list)]);
    add(8, &[(ready, b""), (text_request(2), b"SendTargets=\0")]);
    add(8, &[(ready, b""), (text_request(2), b"MaxRecvDataSegmentLength=512\0MaxBurstLength=1\0")]);
    let ping = |itt: Tag| NopOut {
        immediate: itt == Tag::NONE,
        lun: Lun(0),
        itt,
        ttt: Tag::NONE,
        cmd_sn: Serial(2),
        exp_stat_sn: Serial(1),
    };
    add(
        8,
        &[
            (ready, b""),
            (FromInitiator::NopOut(ping(Tag(9))), b"ping"),
            (FromInitiator::NopOut(ping(Tag::NONE)), b""),
        ],
    );
    for function in
        [TaskFunction::AbortTaskSet, TaskFunction::LogicalUnitReset, TaskFunction::TargetColdReset]
    {
        add(1, &[(ready, b""), (manage(function), b"")]);
    }
    for reason in [LogoutReason::CloseSession, LogoutReason::RemoveForRecovery] {
        let logout = Logout {
            immediate: true,
            reason,
            itt: Tag(8),
            cid: 0,
            cmd_sn: Serial(2),
            exp_stat_sn: Serial(1),
        };
        add(1, &[(ready, b""), (FromInitiator::Logout(logout), b"")]);
    }
    let snack = Snack {
        kind: 0,
        lun: Lun(0),
        itt: Tag(1),
        ttt: Tag::NONE,
        exp_stat_sn: Serial(1),
        begin: Serial(0),
        run: 1,
    };
    add(1, &[(FromInitiator::Snack(snack), b""), (pdu(pdu_stream::login(8)), b"")]);
    seeds
}

/// A whole login request's header, as something that has no place after a login.
fn pdu(octets: Vec<u8>) -> FromInitiator {
    let header = octets.first_chunk().expect("a login has a header");
    FromInitiator::parse(header).expect("our own login is one")
}

pub(crate) fn answers() -> Vec<Vec<u8>> {
    (0..64).step_by(8).map(|how| seed(how | 2, &talk(initiator::settings(how), 64).1)).collect()
}

/// One command: by whom, the CDB, and its data.
fn step(who: u8, cdb: &[u8], data: &[u8]) -> Vec<u8> {
    let how = who | ((cdb.len() - 1) as u8) << 4;
    [&[how], cdb, &[data.len() as u8], data].concat()
}

pub(crate) fn commands() -> Vec<Vec<u8>> {
    let long = |code: u8, service: u8, block: u8, blocks: u8| {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[9], cdb[13]) = (code, service, block, blocks);
        cdb
    };
    let reserve = |action: u8, kind: u8, key: u8, new: u8| {
        let mut list = [0; 24];
        (list[7], list[15]) = (key, new);
        step(0, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list)
    };
    let ready: Vec<u8> = (0..3).flat_map(|who| step(who, &[0; 6], &[])).collect();
    let plain: [&[u8]; 24] = [
        &[0x00, 0, 0, 0, 0, 0],
        &[0x03, 0, 0, 0, 252, 0],
        &[0x03, 1, 0, 0, 252, 0],
        &[0x12, 0, 0, 0, 96, 0],
        &[0x12, 1, 0x00, 0, 255, 0],
        &[0x12, 1, 0x83, 0, 255, 0],
        &[0x12, 1, 0xb0, 0, 255, 0],
        &[0x12, 1, 0xb2, 0, 255, 0],
        &[0x1a, 0, 0x3f, 0, 255, 0],
        &[0x5a, 0, 0x3f, 0xff, 0, 0, 0, 1, 0, 0],
        &[0x1b, 0, 0, 0, 1, 0],
        &[0x1e, 0, 0, 0, 1, 0],
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x28, 0, 0, 0, 0, 4, 0, 0, 8, 0],
        &[0x08, 0, 0, 4, 8, 0],
        &[0xa8, 0, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        &[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        &[0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x5e, 3, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x16, 0, 0, 0, 0, 0],
        &[0x17, 0, 0, 0, 0, 0],
        &[0x2f, 0, 0, 0, 0, 4, 0, 0, 8, 0],
    ];
    let mut seeds: Vec<Vec<u8>> = plain.iter().map(|cdb| [&*ready, &step(0, cdb, &[])].concat()).collect();
    for cdb in [
        long(0x88, 0, 4, 8),
        long(0x8a, 8, 4, 8),
        long(0x8e, 2, 4, 1),
        long(0x8f, 0, 48, 8),
        long(0x8b, 0, 4, 1),
        long(0x93, 8, 4, 8),
        long(0x93, 1, 4, 8),
        long(0x91, 0, 0, 0),
        long(0x90, 0, 4, 8),
        long(0x9e, 0x10, 0, 32),
        long(0x9e, 0x12, 0, 255),
    ] {
        seeds.push([&*ready, &step(0, &cdb, &[3; 255])].concat());
    }
    let unmap: Vec<u8> = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &[0; 7], &[4, 0, 0, 0, 8, 0, 0, 0, 0]].concat();
    seeds.push([&*ready, &step(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unmap)].concat());
    let mut mode = [0; 24];
    (mode[4], mode[5], mode[6]) = (8, 18, 4);
    seeds.push([&*ready, &step(0, &[0x15, 0x10, 0, 0, 24, 0], &mode)].concat());
    for kind in [1, 3, 5, 6, 7, 8] {
        let report = step(1, &[0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0], &[]);
        let write = step(1, &[0x2a, 0, 0, 0, 0, 4, 0, 0, 1, 0], &[0; 255]);
        let mut preempt = reserve(4, kind, 2, 1);
        preempt[0] |= 1;
        let parts = [
            reserve(0, 0, 0, 1),
            reserve(1, kind, 1, 0),
            report,
            write,
            preempt,
            reserve(2, kind, 1, 0),
            reserve(3, 0, 1, 0),
        ];
        seeds.push([&*ready, &*parts.concat()].concat());
    }
    seeds
}
