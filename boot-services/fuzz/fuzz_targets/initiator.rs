#![no_main]

#[path = "../../iscsi/tests/corpus/initiator.rs"]
mod initiator;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| initiator::run(octets));
