use super::*;
use crate::pdu::{self, Lun, NopIn, Sealed, Serial, Tag, Windows};

fn ping(data: &[u8], digests: bool) -> Vec<u8> {
    let windows = Windows { stat_sn: Serial(1), exp_cmd_sn: Serial(2), max_cmd_sn: Serial(3) };
    let nop = FromTarget::NopIn(NopIn { lun: Lun(0), itt: Tag(4), ttt: Tag(5), windows });
    let mut octets = Sealed::new(nop.emit(data.len()), digests).to_vec();
    octets.extend_from_slice(data);
    octets.extend_from_slice(&[0; 3][..padding(data.len())]);
    if digests && !data.is_empty() {
        octets.extend_from_slice(&pdu::data_digest(data));
    }
    octets
}

fn intake(digests: bool) -> Intake {
    let mut intake = Intake::new();
    intake.agreed(digests, digests, 1000);
    intake
}

/// The data of all PDUs in octets that come `step` at a time.
fn read(octets: &[u8], digests: bool, step: usize) -> Result<Vec<Vec<u8>>, Garbled> {
    let (mut intake, mut found) = (intake(digests), Vec::new());
    for mut piece in octets.chunks(step) {
        while let Some(part) = intake.next(&mut piece)? {
            match part {
                Piece::Header(_, _) => found.push(Vec::new()),
                Piece::Data(data) => found.last_mut().unwrap().extend_from_slice(data),
                Piece::End => {}
            }
        }
        assert!(piece.is_empty(), "all is taken");
    }
    Ok(found)
}

#[test]
fn a_stream_in_pieces_of_any_size_is_the_same() {
    for digests in [false, true] {
        let pings: Vec<Vec<u8>> = (0..9_usize).map(|length| vec![length as u8; length]).collect();
        let stream: Vec<u8> = pings.iter().flat_map(|data| ping(data, digests)).collect();
        for step in 1..80 {
            assert_eq!(read(&stream, digests, step), Ok(pings.clone()), "{step}");
        }
    }
}

#[test]
fn with_digests_no_flipped_bit_goes_unseen() {
    let stream = ping(b"some data", true);
    for at in 0..stream.len() * 8 {
        let mut flipped = stream.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        // A length that grew waits for more and finds the digest wrong then.
        flipped.extend_from_slice(&[0; 2000]);
        assert!(read(&flipped, true, 4096).is_err(), "bit {at}");
    }
}

#[test]
fn a_segment_longer_than_agreed_on_is_refused_before_it_is_read() {
    let stream = ping(&[0; 1001], false);
    assert_eq!(read(&stream[..48], false, 48), Err(Garbled::TooLong(1001)));
}
