#![no_main]

#[path = "../../iscsi/tests/corpus/pdu_stream.rs"]
mod pdu_stream;
#[path = "../../iscsi/tests/memory/target.rs"]
#[allow(dead_code, reason = "the replay and the weather use the rest")]
mod target;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pdu_stream::run(octets));
