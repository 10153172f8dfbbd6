//! A small target with a disk in memory: as little as an initiator needs, with faults on demand.

use crate::{
    chap::{self, Chap, Nonce},
    keys::{Negotiation, Offer, Parameters, Stage as Keys},
    pdu::*,
    text,
};
use std::collections::{BTreeMap, VecDeque};

pub(super) const BLOCK: usize = 512;

/// What a command is answered with instead of being carried out.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    Sense(u8, u8, u8),
    Status(u8),
    Silence,
    Cut,
}

pub(super) struct Peer {
    pub(super) disk: Vec<u8>,
    pub(super) serial: String,
    pub(super) offer: Offer,
    pub(super) chap: Option<Chap>,
    pub(super) provisioning: u8,
    pub(super) window: u32,
    /// What is no PDU follows each fault at once.
    pub(super) garbles: bool,
    /// Faults by operation code, taken one by one.
    pub(super) faults: BTreeMap<u8, VecDeque<Fault>>,
    /// The operation codes that were carried out.
    pub(super) done: Vec<u8>,
    pub(super) connection: Option<Connection>,
    pub(super) logins: u32,
    pub(super) pings_answered: u32,
}

pub(super) struct Connection {
    input: Vec<u8>,
    pub(super) out: Vec<u8>,
    security: chap::Target,
    negotiation: Negotiation,
    pub(super) parameters: Option<Parameters>,
    stat_sn: Serial,
    exp_cmd_sn: Serial,
    writes: BTreeMap<u32, (Command, Vec<u8>, u32)>,
    pub(super) cut: bool,
}

impl Peer {
    pub(super) fn new(blocks: usize) -> Peer {
        Peer {
            disk: vec![0xee; blocks * BLOCK],
            serial: "one".to_owned(),
            offer: Offer::default(),
            chap: None,
            provisioning: 0xc0,
            window: 32,
            garbles: false,
            faults: BTreeMap::new(),
            done: Vec::new(),
            connection: None,
            logins: 0,
            pings_answered: 0,
        }
    }

    pub(super) fn connect(&mut self) {
        let accepted: Vec<Chap> = self.chap.iter().cloned().collect();
        self.connection = Some(Connection {
            input: Vec::new(),
            out: Vec::new(),
            security: chap::Target::new(accepted.is_empty(), accepted, Nonce([3; 33])),
            negotiation: Negotiation::target(self.offer.clone()),
            parameters: None,
            stat_sn: Serial(77),
            exp_cmd_sn: Serial(0),
            writes: BTreeMap::new(),
            cut: false,
        });
    }

    pub(super) fn fault(&mut self, code: u8, faults: &[Fault]) {
        self.faults.entry(code).or_default().extend(faults.iter().cloned());
    }

    pub(super) fn receive(&mut self, octets: &[u8]) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.input.extend_from_slice(octets);
        while let Some((header, data)) = connection.next() {
            self.handle(&mut connection, &header, data);
        }
        self.connection = Some(connection);
    }

    fn handle(&mut self, connection: &mut Connection, header: &Header, data: Vec<u8>) {
        match FromInitiator::parse(header).unwrap() {
            FromInitiator::Login(login) => {
                connection.log_in(&login, &data);
                self.logins += u32::from(connection.parameters.is_some());
            }
            FromInitiator::Command(command) => {
                assert_eq!(command.cmd_sn, connection.exp_cmd_sn, "commands are in order");
                connection.exp_cmd_sn = connection.exp_cmd_sn.plus(1);
                let length = command.length as usize;
                if command.writes && data.len() < length {
                    let (agreed, itt) = (connection.parameters.clone().unwrap(), command.itt);
                    assert!(
                        data.is_empty() || agreed.immediate_data && data.len() <= agreed.first_burst as usize
                    );
                    connection.writes.insert(itt.0, (command, data, 0));
                    if command.last {
                        self.ask(connection, itt);
                    }
                } else {
                    self.carry_out(connection, &command, &data);
                }
            }
            FromInitiator::DataOut(out) => {
                let Some((_, have, _)) = connection.writes.get_mut(&out.itt.0) else { return };
                assert_eq!(out.offset as usize, have.len());
                have.extend_from_slice(&data);
                let agreed = connection.parameters.as_ref().unwrap();
                assert!(
                    out.ttt != Tag::NONE || !agreed.initial_r2t && have.len() <= agreed.first_burst as usize
                );
                if out.last {
                    self.ask(connection, out.itt);
                }
            }
            FromInitiator::NopOut(nop) if nop.itt == Tag::NONE => self.pings_answered += 1,
            FromInitiator::NopOut(nop) => {
                let windows = connection.status(self.window);
                let pong = NopIn { lun: nop.lun, itt: nop.itt, ttt: Tag::NONE, windows };
                connection.send(&FromTarget::NopIn(pong), &[]);
            }
            FromInitiator::Logout(logout) => {
                let windows = connection.status(self.window);
                let answer = LogoutAnswer::Closed;
                let response =
                    LogoutResponse { answer, itt: logout.itt, windows, time2wait: 0, time2retain: 0 };
                connection.send(&FromTarget::Logout(response), &[]);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asks for the next burst, or carries the command out.
    fn ask(&mut self, connection: &mut Connection, itt: Tag) {
        let agreed = connection.parameters.clone().unwrap();
        let Some((command, have, r2t_sn)) = connection.writes.get_mut(&itt.0) else { return };
        let left = command.length - have.len() as u32;
        if left == 0 {
            let (command, data, _) = connection.writes.remove(&itt.0).unwrap();
            return self.carry_out(connection, &command, &data);
        }
        let (offset, length, r2t_sn) = (have.len() as u32, left.min(agreed.max_burst), {
            *r2t_sn += 1;
            Serial(*r2t_sn - 1)
        });
        let lun = command.lun;
        let windows = connection.windows(self.window);
        let r2t = R2t { lun, itt, ttt: Tag(itt.0 ^ 0xabc), windows, r2t_sn, offset, length };
        connection.send(&FromTarget::R2t(r2t), &[]);
    }

    fn carry_out(&mut self, connection: &mut Connection, command: &Command, data: &[u8]) {
        let code = command.cdb[0];
        let fault = self.faults.get_mut(&code).and_then(VecDeque::pop_front);
        match fault {
            Some(Fault::Silence) => return,
            Some(Fault::Cut) => return connection.cut = true,
            Some(Fault::Status(status)) => return connection.respond(command.itt, status, &[], self.window),
            Some(Fault::Sense(key, code, qualifier)) => {
                let mut sense = [0; 20];
                (sense[1], sense[2], sense[4], sense[9]) = (18, 0x70, key, 10);
                (sense[14], sense[15]) = (code, qualifier);
                connection.respond(command.itt, 2, &sense, self.window);
                if self.garbles {
                    connection.out.extend_from_slice(&[&[0x3e][..], &[0; HEADER - 1]].concat());
                }
                return;
            }
            None => {}
        }
        self.done.push(code);
        match self.perform(command, data) {
            Some(read) => connection.answer(command, &read, self.window),
            None => connection.respond(command.itt, 0, &[], self.window),
        }
    }

    fn perform(&mut self, command: &Command, data: &[u8]) -> Option<Vec<u8>> {
        let cdb = &command.cdb;
        let offset = (u64::from_be_bytes(cdb[2..10].try_into().unwrap()) as usize).wrapping_mul(BLOCK);
        let blocks = u32::from_be_bytes(cdb[10..14].try_into().unwrap()) as usize;
        let page = |page: u8, body: &[u8]| {
            let length = (body.len() as u16).to_be_bytes();
            Some([&[0, page][..], &length, body].concat())
        };
        match (cdb[0], cdb[1] & 1, cdb[2]) {
            (0x12, 0, _) => Some([&[0; 8][..], b"KILN    disk            1   ", &[0; 60]].concat()),
            (0x12, 1, 0x00) => page(0, &[0, 0x80, 0x83, 0xb0, 0xb2]),
            (0x12, 1, 0x80) => page(0x80, self.serial.as_bytes()),
            (0x12, 1, 0x83) => page(0x83, &[1, 3, 0, 1, 7]),
            (0x12, 1, 0xb0) => {
                let mut body = [0; 60];
                body[6] = 1;
                (body[16..20]).copy_from_slice(&64_u32.to_be_bytes());
                page(0xb0, &body)
            }
            (0x12, 1, 0xb2) => page(0xb2, &[0, self.provisioning, 0, 0]),
            (0x9e, ..) => {
                let last = (self.disk.len() / BLOCK - 1) as u64;
                Some([&last.to_be_bytes()[..], &(BLOCK as u32).to_be_bytes(), &[0; 20]].concat())
            }
            (0x88, ..) => Some(self.disk[offset..offset + blocks * BLOCK].to_vec()),
            (0x8a, ..) => {
                self.disk[offset..offset + data.len()].copy_from_slice(data);
                None
            }
            (0x93, ..) => {
                for at in 0..blocks {
                    self.disk[offset + at * BLOCK..][..BLOCK].copy_from_slice(data);
                }
                None
            }
            _ => None,
        }
    }
}

impl Connection {
    fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        let (with_header, with_data) = self
            .parameters
            .as_ref()
            .map_or((false, false), |agreed| (agreed.header_digest, agreed.data_digest));
        let head = HEADER + if with_header { DIGEST } else { 0 };
        let header: Header = self.input.get(..HEADER)?.try_into().unwrap();
        let data = Lengths::of(&header).data;
        let tail = padding(data) + if with_data && data > 0 { DIGEST } else { 0 };
        let whole = self.input.get(..head + data + tail)?;
        assert!(!with_header || whole[HEADER..head] == digest(&header));
        let segment = whole[head..head + data].to_vec();
        assert!(!with_data || data == 0 || whole[head + data + padding(data)..] == data_digest(&segment));
        if let Some(agreed) = &self.parameters {
            assert!(data <= agreed.max_recv as usize);
        }
        self.input.drain(..head + data + tail);
        Some((header, segment))
    }

    fn windows(&self, window: u32) -> Windows {
        let (stat_sn, exp_cmd_sn) = (self.stat_sn, self.exp_cmd_sn);
        let under_way = self.writes.len() as u32;
        Windows { stat_sn, exp_cmd_sn, max_cmd_sn: exp_cmd_sn.plus(window.saturating_sub(1 + under_way)) }
    }

    fn status(&mut self, window: u32) -> Windows {
        let windows = self.windows(window);
        self.stat_sn = self.stat_sn.plus(1);
        windows
    }

    pub(super) fn send(&mut self, pdu: &FromTarget, data: &[u8]) {
        let agreed = self.parameters.clone().unwrap_or_default();
        self.out.extend_from_slice(&Sealed::new(pdu.emit(data.len()), agreed.header_digest));
        self.out.extend_from_slice(data);
        self.out.extend_from_slice(&[0; 3][..padding(data.len())]);
        if agreed.data_digest && !data.is_empty() {
            self.out.extend_from_slice(&data_digest(data));
        }
    }

    pub(super) fn ping(&mut self) {
        let windows = self.windows(32);
        self.send(&FromTarget::NopIn(NopIn { lun: Lun(0), itt: Tag::NONE, ttt: Tag(9), windows }), b"ping");
    }

    pub(super) fn message(&mut self, event: AsyncEvent) {
        let windows = self.status(32);
        self.send(&FromTarget::Async(Async { lun: Lun(0), windows, event }), &[]);
    }

    fn respond(&mut self, itt: Tag, status: u8, sense: &[u8], window: u32) {
        let windows = self.status(window);
        let residual = Residual::None;
        let response = Response { response: 0, status, itt, windows, exp_data_sn: Serial(0), residual };
        self.send(&FromTarget::Response(response), sense);
    }

    /// Data-In PDUs; the status is in the last.
    fn answer(&mut self, command: &Command, data: &[u8], window: u32) {
        let longest = self.parameters.as_ref().unwrap().max_send as usize;
        let data = &data[..data.len().min(command.length as usize)];
        let count = data.len().div_ceil(longest);
        for (number, piece) in data.chunks(longest).enumerate() {
            let last = number + 1 == count;
            let left = command.length - data.len() as u32;
            let residual = if left > 0 { Residual::Underflow(left) } else { Residual::None };
            let windows = if last { self.status(window) } else { self.windows(window) };
            let data_in = DataIn {
                last,
                status: last.then_some((0, residual)),
                lun: command.lun,
                itt: command.itt,
                ttt: Tag::NONE,
                windows,
                data_sn: Serial(number as u32),
                offset: (number * longest) as u32,
            };
            self.send(&FromTarget::DataIn(data_in), piece);
        }
    }

    fn log_in(&mut self, login: &Login, data: &[u8]) {
        let pairs = text::parse(data).unwrap();
        let (mut transit, mut status, mut answers) = (login.transit, LoginStatus::Success, Vec::new());
        if login.stage == Stage::Security {
            match self.security.handle(&pairs) {
                Ok(step) => {
                    answers = step.pairs;
                    transit = transit.filter(|_| step.done);
                }
                Err(_) => status = LoginStatus::AuthenticationFailure,
            }
        }
        match self.negotiation.handle(&pairs, Keys::Login) {
            Ok(more) => answers.extend(more),
            Err(_) => status = LoginStatus::InitiatorError,
        }
        if login.stage == Stage::Operational {
            answers.extend(self.negotiation.declare());
        }
        self.exp_cmd_sn = login.cmd_sn;
        let windows = self.status(1);
        let full = transit == Some(Stage::FullFeature) && status == LoginStatus::Success;
        let response = LoginResponse {
            transit,
            more: false,
            stage: login.stage,
            version_max: 0,
            version_active: 0,
            isid: login.isid,
            tsih: if full { Tsih(1) } else { Tsih(0) },
            itt: login.itt,
            windows,
            status,
        };
        self.send(&FromTarget::Login(response), &text::emit(&answers));
        if full {
            self.parameters = Some(self.negotiation.parameters());
        }
    }
}
