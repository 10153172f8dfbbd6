//! Makes the appliance's image: a disk to flash, the same packed, and the slot image for updates.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::{Owner, Programs, Recipe, Release, Seal, Signer, image};
use hw_tests::artifact::cpio::Archive;

/// Makes the appliance's image of Debian's packages and the programs that Cargo built.
///
/// kiln-VERSION.img is a whole disk: `zstd -dc kiln-VERSION.img.zst | dd of=/dev/DISK bs=4M` flashes it, and the
/// box makes its data partition in the rest of the disk when it first starts. kiln-VERSION.slot is one
/// system slot of it. With --signer, the image takes updates that the certificate there signed, and
/// kiln-VERSION.raucb is one: `kiln appliance update kiln-VERSION.raucb`. With --owner, kiln-VERSION.secure.img is the
/// disk for a box with UEFI Secure Boot and the owner's keys; with both, the update is for such boxes too.
#[derive(Parser)]
#[command(name = "hw-tests/image")]
struct Arguments {
    /// Where the files go [default: target/image]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The folder with the programs applianced, bootd, kiln, agent and host [default: Cargo's, beside this one]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// A folder with key.pem and certificate.pem, which sign updates; made when they are not there. Without it,
    /// the image takes no updates
    #[arg(long, value_name = "DIR")]
    signer: Option<PathBuf>,
    /// A folder with the owner's Secure Boot keys PK, KEK and db (.key and .crt); made when they are not there.
    /// With it, kiln-VERSION.secure.img is made too, and the update of --signer is for such a box too
    #[arg(long, value_name = "DIR")]
    owner: Option<PathBuf>,
    /// The program `host`, when it lies elsewhere
    #[arg(long, value_name = "FILE")]
    host: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let workshop = Workshop::open()?;
    let own = std::env::current_exe().context("cannot find the running program")?;
    let folder = arguments.programs.or_else(|| own.parent().map(Path::to_owned));
    let mut programs = Programs::built(&folder.context("the running program is in no folder")?);
    if let Some(host) = arguments.host {
        programs.host = host;
    }
    let release = Release::here();
    println!("image: Kiln {} of commit {}", release.version, release.commit);
    let signer = arguments.signer.map(|folder| Signer::of(&folder)).transpose()?;
    let owner = arguments.owner.map(|folder| Owner::of(&folder)).transpose()?;
    let recipe = Recipe {
        programs: &programs,
        release: &release,
        signer: signer.as_ref(),
        owner: owner.as_ref(),
        more: &Archive::default(),
    };
    let (kept, fresh) = image(&workshop, &recipe)?;
    let out = arguments.out.unwrap_or_else(|| workshop.target().join("image"));
    let (there, copied) = kept.delivered(&out, &release.version)?;
    println!(
        "image: {}",
        match (fresh, copied) {
            (true, _) => "made",
            (false, true) => "it was made before, and is copied",
            (false, false) => "nothing to do: it is there",
        }
    );
    for file in there.files().into_iter().filter(|file| file.exists()) {
        let size = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
        println!("image: {:7.1} MiB  {}", size as f64 / f64::from(1 << 20), file.display());
    }
    println!("image: root hash {}", Seal::read(&there.slot)?.root);
    Ok(())
}
