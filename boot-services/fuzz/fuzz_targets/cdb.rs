#![no_main]

#[path = "../../scsi/tests/corpus/cdb.rs"]
mod cdb;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| cdb::run(octets));
