//! The deploy agent: PID 1 of the ramdisk a node boots while it is provisioned.
//!
//! It brings the machine up, keeps one outgoing connection to the appliance ([`session`]), says what it
//! is and does, and does what it is told ([`jobs`]): [`write`] an image to a disk and read it back,
//! [`erase`] what a tenant left, or [`export`] a disk by iSCSI to the appliance, while which alone it
//! listens on a port.
//!
//! On an ordinary machine it does the same to a file, without the duties of PID 1:
//! `agent --url http://127.0.0.1:8080 --attempt n1-1 --token SECRET --disk FILE`.
//!
//! It knows nothing of nodes' states, switches or power.

mod board;
mod clock;
mod cmdline;
mod console;
mod device;
mod disk;
mod erase;
mod export;
mod http;
mod init;
mod inventory;
mod jobs;
mod lease;
mod link;
mod modules;
mod network;
mod pace;
mod plan;
mod session;
mod source;
mod table;
mod write;

use std::{
    env, panic,
    path::PathBuf,
    process::{self, ExitCode},
    sync::Arc,
    thread,
};

const USAGE: &str = "usage: agent --url http://ADDRESS[:PORT] --attempt ATTEMPT --token TOKEN --disk FILE";

fn main() -> ExitCode {
    clock::now();
    let mut args = env::args();
    let name = args.next().unwrap_or_default();
    if name.ends_with("modprobe") {
        return ExitCode::from(modules::modprobe(args));
    }
    if process::id() == 1 {
        init::run();
    }
    match on_a_file(args) {
        Ok(never) => match never {},
        Err(text) => {
            eprintln!("agent: {text}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Works on a file instead of this machine's disks; returns only what is wrong with the arguments.
fn on_a_file(mut args: impl Iterator<Item = String>) -> Result<std::convert::Infallible, String> {
    let [mut url, mut attempt, mut token, mut disk] = [const { None }; 4];
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--url" => &mut url,
            "--attempt" => &mut attempt,
            "--token" => &mut token,
            "--disk" => &mut disk,
            other => return Err(format!("{other:?} is not an option")),
        };
        *place = Some(args.next().ok_or_else(|| format!("{arg} needs a value"))?);
    }
    let given = |value: Option<String>, option| value.ok_or_else(|| format!("{option} is missing"));
    let appliance = cmdline::Appliance::new(
        &given(url, "--url")?,
        &given(attempt, "--attempt")?,
        &given(token, "--token")?,
    )?;
    let file = PathBuf::from(given(disk, "--disk")?);
    if !file.is_file() {
        return Err(format!("--disk: {} is not a file; `truncate -s 1G FILE` makes one", file.display()));
    }
    // A thread that is gone would leave a job that runs for ever.
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        print(info);
        process::exit(101);
    }));
    let board = Arc::new(board::Board::new());
    console::install(Arc::clone(&board));
    let disks = jobs::Disks::File(file);
    board.set_inventory(agent_proto::Inventory { disks: disks.list(), ..inventory::look() });
    board.set_settled();
    let (there, home) = (Arc::clone(&board), appliance.clone());
    thread::spawn(move || jobs::work(&there, &home, &disks));
    session::keep(&board, &appliance)
}
