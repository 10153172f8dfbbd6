//! What a fuzzer found worth keeping, replayed: see boot-services/fuzz/README.md.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod initiator;
mod login;
mod pdu_stream;
#[path = "../memory/target.rs"]
#[allow(dead_code, reason = "the weather uses the rest")]
mod target;

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
fn what_came_from_strangers_is_borne() {
    inputs(include_bytes!("login.bin")).into_iter().for_each(login::run);
}

#[test]
fn what_came_from_those_who_logged_in_is_borne() {
    inputs(include_bytes!("pdu_stream.bin")).into_iter().for_each(pdu_stream::run);
}

#[test]
fn what_came_from_targets_is_borne() {
    inputs(include_bytes!("initiator.bin")).into_iter().for_each(initiator::run);
}
