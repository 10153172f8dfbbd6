//! Our target, from a plan in a file.

use super::{INITIATOR, NOBODY, Offer, TARGET, command};
use crate::artifact::command::{run, tool};
use anyhow::{Context as _, Result};
use boot::{
    Backing, IscsiChap, IscsiLun, IscsiPlan, IscsiTarget, Secret, VolumePlan, VolumeSource, VolumeWish,
};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;

pub(super) fn start(offer: &Offer) -> Result<Child> {
    // A copy where nobody may run it.
    let program = offer.directory.join("bootd");
    if !program.exists() {
        run(tool("cp").arg(built()?).arg(&program))?;
    }
    let file = offer.directory.join("plan.json");
    fs::write(&file, serde_json::to_string(&plan(offer)?)?)?;
    let user = NOBODY.to_string();
    let capabilities = "-all,+net_raw,+net_bind_service";
    let run_dir = offer.directory.join("run");
    let words = [
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps",
        capabilities,
        "--ambient-caps",
        capabilities,
        "--bounding-set",
        capabilities,
        &program.display().to_string(),
        "iscsi",
        "--plan",
        &file.display().to_string(),
        "--run-dir",
        &run_dir.display().to_string(),
    ];
    command(offer, &words)?.spawn().context("setpriv cannot be started: run hw-tests/setup")
}

/// One target with one volume; `lun` 1, as tgt's.
fn plan(offer: &Offer) -> Result<IscsiPlan> {
    let id: boot::VolumeId = "disk".parse()?;
    let listen = SocketAddr::V4(offer.listen);
    let chap = offer.chap.as_ref().context("our target offers nothing without CHAP")?;
    let (target_user, target_secret) = match &chap.target {
        Some((user, secret)) => (user.clone(), Some(Secret::new(secret.clone()))),
        None => (String::new(), None),
    };
    let chap = IscsiChap {
        user: chap.user.clone(),
        secret: Secret::new(chap.secret.clone()),
        target_user,
        target_secret,
    };
    let wish = VolumeWish::Kept { source: Some(VolumeSource::Blank), size: offer.size, flat: false };
    let luns = vec![IscsiLun {
        lun: super::Make::Ours.lun(),
        backing: Backing::Volume(id.clone()),
        read_only: offer.read_only,
    }];
    let target = IscsiTarget {
        name: TARGET.parse()?,
        initiator: INITIATOR.parse()?,
        portals: vec![listen],
        from: Vec::new(),
        chap,
        luns,
    };
    Ok(IscsiPlan {
        listen: vec![(listen, None)],
        directory: Some(offer.directory.join("volumes").display().to_string()),
        volumes: vec![VolumePlan { id, wish }],
        targets: vec![target],
        ..IscsiPlan::default()
    })
}

/// The bootd of this build.
fn built() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    let found = own.ancestors().skip(1).take(2).map(|place| place.join("bootd")).find(|file| file.is_file());
    found.context("bootd is not built: cargo build -p bootd builds it")
}
