//! The deploy ramdisk's agent: comes in with its token, says its status, does a job once.

use crate::machine::{Client, Content, Disk, Exchange, Faults, Ledger, Net};
use crate::packet::Dress;
use agent_proto::{
    CMDLINE_ATTEMPT, CMDLINE_TOKEN, Exported, Failure, FailureKind, Inventory, Job, JobState, JobStatus,
    Order, Outcome, Phase, Progress, Status, Task, VERSION,
};
use boot::{Attempt, Mac};
use core::time::Duration;
use std::collections::BTreeSet;

const BEAT: Duration = Duration::from_secs(5);
const STRETCH: Duration = Duration::from_secs(2);
/// An image is written in so many stretches.
const STRETCHES: u64 = 5;

/// The agent of one boot of the ramdisk.
#[derive(Debug)]
pub(crate) struct Agent {
    attempt: Attempt,
    token: String,
    client: Option<Client>,
    is_connected: bool,
    begun: BTreeSet<String>,
    work: Option<(Job, u64)>,
    job: Option<JobStatus>,
}

/// How it goes on.
pub(crate) enum Ends {
    Rests(Duration),
    Panics,
}

impl Agent {
    /// The agent that a boot script starts; none: it starts none.
    pub(crate) fn of(script: &str) -> Option<Agent> {
        let word = |name: &str| {
            let rest = script.split_once(&format!("{name}="))?.1;
            rest.split_whitespace().next().map(ToOwned::to_owned)
        };
        Some(Agent {
            attempt: word(CMDLINE_ATTEMPT)?.parse().ok()?,
            token: word(CMDLINE_TOKEN)?,
            client: Some(Client::new(Dress::System)),
            is_connected: false,
            begun: BTreeSet::new(),
            work: None,
            job: None,
        })
    }

    fn status(&self) -> Status {
        let job = self.job.clone();
        Status { version: VERSION, agent: "0.1.0".into(), inventory: Inventory::default(), job }
    }

    fn set(&mut self, id: &str, state: JobState) {
        self.job = Some(JobStatus { id: id.to_owned(), state });
    }

    pub(crate) fn go_on(
        &mut self,
        mac: Mac,
        disk: &mut Disk,
        faults: &mut Faults,
        ledger: &mut Ledger,
        net: &mut Net<'_>,
    ) -> Ends {
        if let Some(client) = &mut self.client {
            match client.ask(mac, net) {
                Exchange::Bound { .. } => self.client = None,
                Exchange::GoesOn => return Ends::Rests(Duration::from_millis(100)),
                Exchange::NobodyAnswers => return Ends::Rests(STRETCH),
            }
        }
        if let Some((job, done)) = self.work.take() {
            match self.stretch(&job, done, disk, ledger, net) {
                Some(done) if job.id == "write" && done == 3 && faults.agent_dies > 0 => {
                    faults.agent_dies -= 1;
                    return Ends::Panics;
                }
                Some(done) => self.work = Some((job, done)),
                None => {}
            }
        }
        self.converse(ledger, disk, net);
        Ends::Rests(match (self.is_connected, &self.work) {
            (false, _) => Duration::from_secs(1),
            (true, Some(_)) => STRETCH,
            (true, None) => BEAT,
        })
    }

    fn converse(&mut self, ledger: &mut Ledger, disk: &mut Disk, net: &mut Net<'_>) {
        let Some(vlan) = net.vlan else {
            self.is_connected = false;
            return;
        };
        if !self.is_connected {
            self.is_connected = net.http.enter(vlan, net.interfaces, &self.attempt, &self.token, net.now);
        }
        self.is_connected =
            self.is_connected && net.http.say(vlan, net.interfaces, &self.attempt, &self.status(), net.now);
        let order = if self.is_connected { net.http.order(&self.attempt) } else { None };
        if let Some(Order { job: Some(job), .. }) = order
            && self.begun.insert(job.id.clone())
        {
            self.begin(job, ledger, disk);
            self.is_connected = net.http.say(vlan, net.interfaces, &self.attempt, &self.status(), net.now);
        }
    }

    fn begin(&mut self, job: Job, ledger: &mut Ledger, disk: &mut Disk) {
        let size = match &job.task {
            Task::WriteImage { image, .. } => image.size,
            Task::ExportDisk { size, .. } => *size,
            _ => 0,
        };
        disk.exported = None;
        if let Task::ExportDisk { export, .. } = &job.task
            && disk.size >= size
        {
            disk.exported = Some((export.target.clone(), export.chap.secret.clone()));
            let exported = Exported { disk: "sda".into(), size: disk.size, port: export.port, sessions: 0 };
            return self.set(&job.id, JobState::Exported(exported));
        }
        if disk.size < size {
            let text = format!(
                "disk sda has {} octets and the image needs {}: use a smaller image or a larger disk",
                disk.size, size
            );
            return self.set(&job.id, JobState::Failed(Failure { kind: FailureKind::DiskTooSmall, text }));
        }
        if let Task::WriteImage { image, .. } = &job.task {
            ledger.writes_begun.push(self.attempt.clone());
            disk.content = Content::Torn(image.digest);
        }
        self.set(&job.id, JobState::Running(Progress { phase: Phase::Prepare, done: 0, total: 0 }));
        self.work = Some((job, 0));
    }

    /// One stretch of the work; how many were done then, none: it is over.
    fn stretch(
        &mut self,
        job: &Job,
        done: u64,
        disk: &mut Disk,
        ledger: &mut Ledger,
        net: &mut Net<'_>,
    ) -> Option<u64> {
        let more = done + 1;
        if let Task::FinishDisk { config_drive, .. } = &job.task {
            let Content::Image(image, None) = disk.content else { panic!("{:?} is finished", disk.content) };
            disk.content = Content::Image(image, config_drive.as_ref().map(|drive| drive.digest));
            ledger.writes_done.push(self.attempt.clone());
            self.set(&job.id, JobState::Done(Outcome::Finished { disk: "sda".into() }));
            return None;
        }
        let Task::WriteImage { image, config_drive, .. } = &job.task else {
            disk.content = Content::Blank;
            ledger.wipes_done.push(self.attempt.clone());
            self.set(&job.id, JobState::Done(Outcome::Erased { disks: vec!["sda".into()] }));
            return None;
        };
        let reads = |net: &Net<'_>| {
            let vlan = net.vlan?;
            net.http.may_read(vlan, net.interfaces, &self.token, &image.digest).then_some(())
        };
        if net.http.missing.contains(&image.digest) {
            let text = format!("image {}: not found on the appliance", image.digest);
            self.set(&job.id, JobState::Failed(Failure { kind: FailureKind::NoImage, text }));
            return None;
        }
        if reads(net).is_none() {
            return Some(done);
        }
        if net.http.corrupt.contains(&image.digest) && more == 2 {
            let text =
                format!("extent 7 of image {} does not match its digest: import it anew", image.digest);
            self.set(&job.id, JobState::Failed(Failure { kind: FailureKind::CorruptImage, text }));
            return None;
        }
        if more < STRETCHES {
            let part = image.size / STRETCHES;
            let progress = Progress { phase: Phase::Write, done: part * more, total: image.size };
            self.set(&job.id, JobState::Running(progress));
            return Some(more);
        }
        disk.content = Content::Image(image.digest, config_drive.as_ref().map(|drive| drive.digest));
        ledger.writes_done.push(self.attempt.clone());
        let written = Outcome::Written {
            disk: "sda".into(),
            image_bytes: image.size,
            received_bytes: image.size,
            written_bytes: image.size,
            kept_bytes: 0,
            millis: (10_000, 2_000),
        };
        self.set(&job.id, JobState::Done(written));
        None
    }
}
