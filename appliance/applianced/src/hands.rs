use boot::{Down, Generation, MAX_LINE, Up};
use control::{Hand, Heard, Plans};
use core::time::Duration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How long after a connection broke, or could not be made, it is made again.
const REST: Duration = Duration::from_millis(100);

/// The newest plan of a hand, with its number.
pub(crate) type Newest<P> = watch::Receiver<Option<(Generation, P)>>;

/// Keeps the connection to one hand: sends it the newest plan on every connection and whenever it
/// changes, and passes on what it says.
pub(crate) async fn keep<P, F>(
    hand: Hand,
    socket: PathBuf,
    mut plan: Newest<P>,
    heard: mpsc::Sender<Heard>,
    wrap: fn(Up<F>) -> Heard,
) where
    P: Serialize + Clone,
    F: DeserializeOwned,
{
    let mut away = String::new();
    loop {
        let ended = converse(&socket, &mut plan, &heard, wrap).await;
        let why = ended.err().map_or_else(|| "it closed the connection".to_owned(), |e| e.to_string());
        if why != away {
            log::info!(hand:% = hand, why = why.as_str(); "hand is away");
            away = why;
        }
        if heard.send(Heard::Away(hand)).await.is_err() {
            return;
        }
        sleep_until(Instant::now() + REST).await;
    }
}

async fn converse<P, F>(
    socket: &PathBuf,
    plan: &mut Newest<P>,
    heard: &mpsc::Sender<Heard>,
    wrap: fn(Up<F>) -> Heard,
) -> io::Result<()>
where
    P: Serialize + Clone,
    F: DeserializeOwned,
{
    let (from, mut to) = UnixStream::connect(socket).await?.into_split();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    plan.mark_changed();
    loop {
        tokio::select! {
            changed = plan.changed() => {
                changed.map_err(io::Error::other)?;
                let newest = plan.borrow_and_update().clone();
                if let Some((generation, body)) = newest {
                    to.write_all(&Down::Plan { generation, body }.line()).await?;
                }
            }
            // Keeps what it has read of a line when the other branch is taken: `line` outlives it.
            read = bounded(&mut from, &mut line) => {
                if read? == 0 {
                    return Ok(());
                }
                let text = line.strip_suffix(b"\n").ok_or_else(|| io::Error::other("a line was cut off"))?;
                let up = Up::parse(text).map_err(io::Error::other)?;
                line.clear();
                if heard.send(wrap(up)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

async fn bounded(
    from: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    line: &mut Vec<u8>,
) -> io::Result<usize> {
    let room = (MAX_LINE + 1).saturating_sub(line.len()) as u64;
    let read = (&mut *from).take(room).read_until(b'\n', line).await?;
    if read > 0 && !line.ends_with(b"\n") && line.len() > MAX_LINE {
        return Err(io::Error::other("the hand sent a line that is too long"));
    }
    Ok(read)
}

/// The senders behind [`Newest`], by hand.
pub(crate) struct PlanSenders {
    dhcp: watch::Sender<Option<(Generation, boot::DhcpPlan)>>,
    tftp: watch::Sender<Option<(Generation, boot::TftpPlan)>>,
    http: watch::Sender<Option<(Generation, boot::HttpPlan)>>,
    iscsi: watch::Sender<Option<(Generation, boot::IscsiPlan)>>,
    power: watch::Sender<Option<(Generation, rack::PowerPlan)>>,
    switch: watch::Sender<Option<(Generation, rack::SwitchPlan)>>,
    host: watch::Sender<Option<(Generation, rack::HostPlan)>>,
}

impl PlanSenders {
    pub(crate) fn new() -> PlanSenders {
        PlanSenders {
            dhcp: watch::Sender::new(None),
            tftp: watch::Sender::new(None),
            http: watch::Sender::new(None),
            iscsi: watch::Sender::new(None),
            power: watch::Sender::new(None),
            switch: watch::Sender::new(None),
            host: watch::Sender::new(None),
        }
    }

    /// Starts a task per hand, in the runtime that is entered; one for the box itself on an `image` only.
    pub(crate) fn connect(&self, image: bool, socket: impl Fn(&str) -> PathBuf, heard: &mpsc::Sender<Heard>) {
        let socket = |hand: Hand| socket(hand.name());
        let heard = || heard.clone();
        tokio::spawn(keep(Hand::Dhcp, socket(Hand::Dhcp), self.dhcp.subscribe(), heard(), Heard::Dhcp));
        tokio::spawn(keep(Hand::Tftp, socket(Hand::Tftp), self.tftp.subscribe(), heard(), Heard::Tftp));
        tokio::spawn(keep(Hand::Http, socket(Hand::Http), self.http.subscribe(), heard(), Heard::Http));
        tokio::spawn(keep(Hand::Iscsi, socket(Hand::Iscsi), self.iscsi.subscribe(), heard(), Heard::Iscsi));
        tokio::spawn(keep(Hand::Power, socket(Hand::Power), self.power.subscribe(), heard(), Heard::Power));
        tokio::spawn(keep(
            Hand::Switch,
            socket(Hand::Switch),
            self.switch.subscribe(),
            heard(),
            Heard::Switch,
        ));
        if image {
            tokio::spawn(keep(Hand::Host, socket(Hand::Host), self.host.subscribe(), heard(), Heard::Host));
        }
    }

    /// A hand's plan changed.
    pub(crate) fn send(&self, hand: Hand, generation: Generation, plans: &Plans) {
        match hand {
            Hand::Dhcp => drop(self.dhcp.send_replace(Some((generation, plans.dhcp.clone())))),
            Hand::Tftp => drop(self.tftp.send_replace(Some((generation, plans.tftp.clone())))),
            Hand::Http => drop(self.http.send_replace(Some((generation, plans.http.clone())))),
            Hand::Iscsi => drop(self.iscsi.send_replace(Some((generation, plans.iscsi.clone())))),
            Hand::Power => drop(self.power.send_replace(Some((generation, plans.power.clone())))),
            Hand::Switch => drop(self.switch.send_replace(Some((generation, plans.switch.clone())))),
            Hand::Host => drop(self.host.send_replace(Some((generation, plans.host.clone())))),
        }
    }
}
