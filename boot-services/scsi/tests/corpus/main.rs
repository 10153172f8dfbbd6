//! What a fuzzer found worth keeping, replayed: see boot-services/fuzz/README.md.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod cdb;

/// The inputs of a corpus: each after its length, four octets, most significant first.
fn inputs(mut corpus: &[u8]) -> Vec<&[u8]> {
    let mut inputs = Vec::new();
    while let Some((length, rest)) = corpus.split_first_chunk() {
        let (input, after) = rest.split_at(u32::from_be_bytes(*length) as usize);
        inputs.push(input);
        corpus = after;
    }
    assert!(inputs.len() > 10 && corpus.is_empty(), "{} inputs", inputs.len());
    inputs
}

#[test]
fn any_commands_of_anybody_are_answered() {
    inputs(include_bytes!("cdb.bin")).into_iter().for_each(cdb::run);
}
