//! The iSCSI hand: volumes, and the threads and files around `iscsi::target` and `scsi`.
//!
//! ```text
//!   plan ──► keeper ── one thread, owns the volumes, targets and portals; takes away before it gives
//!              │
//!              ├── portals       a thread each, accepts
//!              ├── connections   a thread each: socket ◄─► engine ◄─► volume, nothing copied twice
//!              └── crew          a few threads for cold data, flushes and what takes many steps
//! ```
//!
//! **Never two writers.** A volume is opened by one process (it is locked) and stands behind one logical unit.
//! What a plan takes away is taken away first: its sessions are cut and their threads joined, and only then
//! is anything of the new plan opened, and are facts told. A thread that ends has nothing under way.
//!
//! **The path of data.** Measured on loopback beside istgt and tgt. Threads that block, and look at their socket
//! for a few microseconds before they sleep: at depth 1 up to twice the operations a second, for less CPU
//! than being woken. One buffer for what is received, from which the octets of a write go to the volume where
//! they lie. Long reads of what is in memory are sent from the volume's file (a third less CPU than copying
//! them out and in again); short ones are read with RWF_NOWAIT and go out together; what is in neither way
//! at hand is read by the crew while other commands go on. Of the CPU that is left, some 5 % is this process's
//! own code, the rest the kernel's TCP, page cache and wake-ups.
//!
//! What was rejected: epoll and a runtime (a wake-up more per command); MSG_ZEROCOPY (completions cost more than
//! copying from the cache); reception into a mapping of the volume's file (a page fault per page, a full disk is a
//! SIGBUS, and cold blocks are read to be overwritten); splice(2) from the socket (less CPU by less than the
//! noise of the measurement, and the octets cannot be looked at); SO_RCVLOWAT for fewer wake-ups (the peer and we
//! no longer work at the same time); larger socket buffers than the kernel's own choice.

mod connections;
mod crew;
mod disk;
mod exports;
mod holdings;
mod keeper;
mod line;
mod portal;
mod push;
mod session;

use crate::{
    desk::{self, Door, Served},
    notify,
};
use anyhow::{Context as _, Result, anyhow};
use boot::{IscsiFact, IscsiPlan};
use keeper::{Keeper, Word};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::mpsc::sync_channel;
use tokio::sync::oneshot;

/// Words that wait for the keeper; more say nothing that it does not see by itself.
const WORDS: usize = 16;

/// Serves until `stop` returns; then initiators are asked to log out, and what they wrote is flushed.
///
/// # Errors
/// The desk cannot be opened, or there are no threads to be had.
pub async fn run(door: Door, stop: impl Future<Output = ()>) -> Result<()> {
    more_files();
    let run_dir = door.run_dir.clone();
    let Served { mut plans, facts, task: _desk } = desk::serve::<IscsiPlan, IscsiFact>(door)?;
    let (words, heard) = sync_channel(WORDS);
    let (settled, ready) = oneshot::channel();
    let keeper = Keeper::new(plans.clone(), facts, run_dir, words.clone(), settled)?;
    let (end, mut ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        keeper.run(&heard);
        // Nobody waits for it if this process is ending.
        let _ = end.send(());
    });
    let thread = thread.context("cannot start a thread")?;
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        _ = ready => notify::ready(),
        _ = &mut ended => return Err(anyhow!("the keeper of the volumes broke")),
    }
    loop {
        tokio::select! {
            changed = plans.changed() => {
                changed.context("the desk is gone")?;
                plans.mark_unchanged();
                // A full queue wakes it as well.
                let _ = words.try_send(Word::Look);
            }
            () = &mut stop => break,
            _ = &mut ended => return Err(anyhow!("the keeper of the volumes broke")),
        }
    }
    notify::stopping();
    tokio::task::spawn_blocking(move || {
        // It takes every word at once.
        let _ = words.send(Word::Stop);
        thread.join()
    })
    .await
    .context("cannot wait for the keeper")?
    .map_err(|_| anyhow!("the keeper of the volumes broke while it ended"))
}

/// Takes as many descriptors as this process may have: a session needs three, an open volume five.
fn more_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        log::warn!(target: "iscsi", error:% = error; "limit of open files stays as it was");
    }
}
