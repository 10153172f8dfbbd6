//! Corpora: makes the seeds, and packs what a fuzzer made of them for the tests that replay it.
//!
//! ```text
//! corpus make            target/fuzz/corpus/TARGET/seed-N, for each target
//! corpus pack TARGET     target/fuzz/corpus/TARGET/* to the file that tests/corpus of the crate replays
//! corpus unpack TARGET   and back
//! ```

#[path = "../../../iscsi/tests/corpus/initiator.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod initiator;
#[path = "../../../iscsi/tests/corpus/login.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod login;
#[path = "../../../iscsi/tests/corpus/pdu_stream.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod pdu_stream;
mod seeds;
#[path = "../../../iscsi/tests/memory/target.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod target;

use std::{env, error::Error, fs, path::PathBuf};

const TARGETS: [(&str, &str); 4] =
    [("login", "iscsi"), ("pdu_stream", "iscsi"), ("initiator", "iscsi"), ("cdb", "scsi")];

fn directory(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz/corpus").join(target)
}

/// The file that the tests replay.
fn packed(target: &str) -> Result<PathBuf, String> {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (name, owner) = found.ok_or_else(|| format!("{target} is none of {TARGETS:?}"))?;
    Ok(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../{owner}/tests/corpus/{name}.bin")))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make"] => make(),
        ["pack", target] => pack(target),
        ["unpack", target] => unpack(target),
        _ => Err("say: corpus make, corpus pack TARGET or corpus unpack TARGET".into()),
    }
}

fn make() -> Result<(), Box<dyn Error>> {
    let all = [seeds::logins(), seeds::streams(), seeds::answers(), seeds::commands()];
    for ((target, _), seeds) in TARGETS.iter().zip(all) {
        let directory = directory(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number}")), seed)?;
        }
        println!("{target}: {} seeds", seeds.len());
    }
    Ok(())
}

fn pack(target: &str) -> Result<(), Box<dyn Error>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(directory(target))? {
        inputs.push(fs::read(entry?.path())?);
    }
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut octets = Vec::new();
    for input in &inputs {
        octets.extend_from_slice(&u32::try_from(input.len())?.to_be_bytes());
        octets.extend_from_slice(input);
    }
    fs::write(packed(target)?, &octets)?;
    println!("{target}: {} inputs, {} octets", inputs.len(), octets.len());
    Ok(())
}

fn unpack(target: &str) -> Result<(), Box<dyn Error>> {
    let octets = fs::read(packed(target)?)?;
    let directory = directory(target);
    fs::create_dir_all(&directory)?;
    let (mut rest, mut count) = (&octets[..], 0);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (input, after) = after
            .split_at_checked(usize::try_from(u32::from_be_bytes(*length))?)
            .ok_or("the packed file is cut short")?;
        fs::write(directory.join(format!("kept-{count}")), input)?;
        (rest, count) = (after, count + 1);
    }
    println!("{target}: {count} inputs");
    Ok(())
}
