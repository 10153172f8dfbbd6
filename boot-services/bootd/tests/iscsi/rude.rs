//! An initiator that does what no good one does.

use crate::hand::{Hand, MUTUAL, PATIENCE, SECRET, iqn};
use bootd::clock::Clock;
use iscsi::{
    chap::{Chap, Credentials, Nonce, Secret},
    initiator::{Event, Initiator, Operation, Settings},
    pdu::Isid,
};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

/// A session, driven by whoever has it.
pub(crate) struct Rude {
    stream: TcpStream,
    engine: Initiator,
    clock: Clock,
}

impl Rude {
    /// Logged in to the target of that name.
    pub(crate) fn new(hand: &Hand, name: &str, number: u8) -> Rude {
        let credentials = |user: &str, secret: &str| Credentials {
            user: user.to_owned(),
            secret: Secret::new(secret.as_bytes()).unwrap(),
        };
        let chap = Chap::new(credentials("node", SECRET), Some(credentials("kiln", MUTUAL))).unwrap();
        let (initiator, target) = (iqn(&format!("from-{name}")), iqn(name));
        let mut settings = Settings::new(initiator.as_str(), target.as_str());
        settings.chap = Some(chap);
        settings.isid = Isid([0x80, 0, 0, 0, 1, number]);
        let clock = Clock::start();
        let mut engine = Initiator::new(settings, clock.now());
        let stream = TcpStream::connect(hand.portal).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        engine.handle_connected(Nonce([number | 1; 33]), clock.now());
        let mut rude = Rude { stream, engine, clock };
        loop {
            rude.speak();
            match rude.engine.poll_event() {
                Some(Event::Ready(_)) => return rude,
                Some(Event::Connect) => {}
                Some(other) => panic!("no login: {other:?}"),
                None => assert!(rude.listen(), "no login: it was closed"),
            }
        }
    }

    /// Asks for as much as it may; gives how many octets it asked for.
    pub(crate) fn ask(&mut self, length: u32) -> u64 {
        let mut asked = 0;
        while self.engine.submit(Operation::Read { offset: 0, length }).is_ok() {
            asked += u64::from(length);
        }
        self.speak();
        asked
    }

    fn speak(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(self.clock.now()) {
            for piece in transmit.pieces() {
                self.stream.write_all(piece).unwrap();
            }
        }
    }

    fn listen(&mut self) -> bool {
        let mut octets = [0; 64 << 10];
        let count = self.stream.read(&mut octets).unwrap();
        self.engine.handle_bytes(&octets[..count], self.clock.now());
        count > 0
    }
}
