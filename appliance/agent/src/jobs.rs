//! The thread that does the jobs, one after the other.

use crate::{
    board::Board,
    clock,
    cmdline::Appliance,
    device::{Device, DiskFile},
    disk, erase,
    export::{self, Exporting},
    inventory,
    source::{Halt, Patience, Source},
    write::{self, Finish, Write},
};
use agent_proto::{Disk, Failure, FailureKind, Job, JobState, Outcome, Phase, Progress, Task};
use boot::DiskHint;
use std::{path::PathBuf, sync::atomic::AtomicU64, time::Duration};

/// Drivers get so long to show the disks.
const SETTLE: Duration = Duration::from_secs(60);
/// A disk that is not there when it is needed gets so long to appear: fabrics and expanders take time.
const APPEAR: Duration = Duration::from_secs(15);

/// Where disks come from.
pub(crate) enum Disks {
    /// The machine the agent runs on.
    Machine,
    /// One file that stands for a disk.
    File(PathBuf),
}

impl Disks {
    /// The disks there are.
    pub(crate) fn list(&self) -> Vec<Disk> {
        match self {
            Disks::Machine => inventory::look().disks,
            Disks::File(path) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                vec![Disk {
                    name: name.unwrap_or_default(),
                    size: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
                    model: "file".to_owned(),
                    serial: String::new(),
                    wwn: String::new(),
                    removable: false,
                }]
            }
        }
    }

    fn open(&self, disk: &Disk) -> Result<DiskFile, Halt> {
        let (path, block) = match self {
            Disks::Machine => (inventory::device_file(&disk.name), inventory::logical_block(&disk.name)),
            Disks::File(path) => (path.clone(), 512),
        };
        DiskFile::open(&path, &disk.name, disk.size, block).map_err(|e| {
            let text = format!("disk {}: opening {}: {e}", disk.name, path.display());
            Halt::failed(FailureKind::DiskFault, text)
        })
    }
}

/// Does what the board says, for ever.
pub(crate) fn work(board: &Board, appliance: &Appliance, disks: &Disks) -> ! {
    // The disk that an order to finish is about.
    let mut exported = None;
    loop {
        let job = board.next_job();
        log::info!(job = job.id; "job begins");
        let running = |progress| board.set_job(&job.id, JobState::Running(progress));
        running(Progress { phase: Phase::Prepare, done: 0, total: 0 });
        match run(&job, board, appliance, disks, &mut exported, &running) {
            Ok(outcome) => {
                log::info!(job = job.id; "job done");
                board.set_job(&job.id, JobState::Done(outcome));
            }
            Err(Halt::Failed(failure)) => {
                log::error!(job = job.id, failure:? = failure.kind, text = failure.text; "job failed");
                board.set_job(&job.id, JobState::Failed(failure));
            }
            Err(Halt::Stopped) => {
                log::info!(job = job.id; "job stopped for another");
                board.stopped(&job.id);
            }
        }
    }
}

fn run(
    job: &Job,
    board: &Board,
    appliance: &Appliance,
    disks: &Disks,
    exported: &mut Option<Disk>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Outcome, Halt> {
    let stopped = || board.is_superseded();
    board.wait_settled(clock::now() + SETTLE);
    match &job.task {
        Task::WriteImage { image, disk: hint, config_drive } => {
            let needed = write::needed(image.size, config_drive.as_ref())?;
            let disk = appear(board, disks, |there| disk::choose(there, hint, needed).cloned())?;
            log::info!(disk = disk.name, serial = disk.serial, octets = disk.size, image:% = image.digest; "writing image");
            let device = disks.open(&disk)?;
            let write = Write {
                image,
                config_drive: config_drive.as_ref(),
                appliance,
                device: &device,
                patience: Patience::default(),
                progress,
                stopped: &stopped,
            };
            write.run()
        }
        Task::ExportDisk { size, disk: hint, config_drive, export } => {
            let needed = write::needed(*size, config_drive.as_ref())?;
            let disk = appear(board, disks, |there| disk::choose(there, hint, needed).cloned())?;
            let device = disks.open(&disk)?;
            let disk = exported.insert(disk);
            let told = |state| board.set_job(&job.id, JobState::Exported(state));
            let exporting = Exporting {
                export,
                appliance: appliance.address,
                disk,
                device: &device,
                told: &told,
                wait: &|until| board.wait_superseded(until),
            };
            match export::run(&exporting)? {}
        }
        Task::FinishDisk { size, config_drive } => {
            let needed = write::needed(*size, config_drive.as_ref())?;
            let disk = exported.as_ref().ok_or_else(not_exported)?;
            if disk.size < needed {
                return Err(disk::too_small(&disk.name, disk.size, needed).into());
            }
            let device = disks.open(disk)?;
            let mut source = Source::new(appliance, Patience::default(), &stopped);
            let octets = write::fetch(appliance, &mut source, config_drive.as_ref())?;
            let digest = config_drive.as_ref().map(|drive| drive.digest);
            let finish = Finish {
                size: *size,
                config_drive: octets.as_deref().zip(digest),
                device: &device,
                progress,
                written: &AtomicU64::new(0),
            };
            finish.run()?;
            Ok(Outcome::Finished { disk: disk.name.clone() })
        }
        Task::EraseMetadata { disk: hint } => {
            let meant = appear(board, disks, |there| to_erase(there, hint))?;
            let open = meant.iter().map(|disk| disks.open(disk)).collect::<Result<Vec<_>, _>>()?;
            let devices: Vec<&dyn Device> = open.iter().map(|disk| disk as &dyn Device).collect();
            erase::erase(&devices, progress, &stopped)?;
            Ok(Outcome::Erased { disks: meant.into_iter().map(|disk| disk.name).collect() })
        }
    }
}

fn not_exported() -> Halt {
    let text = "nothing was exported since this agent was started, so that there is nothing to finish; \
                deploy again";
    Halt::failed(FailureKind::BadOrder, text)
}

fn to_erase(there: &[Disk], hint: &DiskHint) -> Result<Vec<Disk>, Failure> {
    let meant: Vec<Disk> = disk::matching(there, hint).into_iter().cloned().collect();
    if meant.is_empty() { Err(disk::no_disk(there, hint)) } else { Ok(meant) }
}

/// Looks at the disks until `choose` finds what it wants, or until no more can be expected to appear.
fn appear<T>(
    board: &Board,
    disks: &Disks,
    choose: impl Fn(&[Disk]) -> Result<T, Failure>,
) -> Result<T, Halt> {
    let until = clock::now() + APPEAR;
    loop {
        let seen = board.inventory();
        match choose(&disks.list()) {
            Ok(chosen) => return Ok(chosen),
            Err(failure) if failure.kind == FailureKind::NoDisk && clock::now() < until => {
                if board.is_superseded() {
                    return Err(Halt::Stopped);
                }
                board.wait_inventory(&seen, until);
            }
            Err(failure) => return Err(failure.into()),
        }
    }
}
