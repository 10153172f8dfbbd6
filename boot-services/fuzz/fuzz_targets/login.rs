#![no_main]

#[path = "../../iscsi/tests/corpus/login.rs"]
mod login;
#[path = "../../iscsi/tests/memory/target.rs"]
#[allow(dead_code, reason = "the replay and the weather use the rest")]
mod target;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| login::run(octets));
