use crate::config::Config;
use crate::hands::PlanSenders;
use crate::inherited;
use anyhow::{Context as _, Result, ensure};
use api::{Api, Ask, Link, Places};
use boot::Secret;
use bootd::clock::Clock;
use bootd::library::Library;
use control::{Control, Heard};
use core::time::Duration;
use sansio::Time;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use store::{Kept, Options, Sled, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Inputs that wait for control; more, and whoever asks is told to come again.
const QUEUE: usize = 512;
/// Control looks at least this often, so that the watchdog knows that it lives.
const LONGEST: Duration = Duration::from_secs(5);

/// What comes to the thread that owns control.
enum Input {
    Ask(Ask),
    Heard(Heard),
    End,
}

/// The process that decides: one thread owns control and its store, another all sockets.
pub(crate) fn run(config: &Config) -> Result<()> {
    let listener = TcpListener::from(inherited::socket("control")?);
    listener.set_nonblocking(true).context("cannot prepare the API's socket")?;
    let token = std::fs::read_to_string(config.token())
        .with_context(|| format!("cannot read the API's token {}", config.token().display()))?;
    let clock = Clock::start();
    let store = open_store(config)?;
    let mut way_back =
        WayBack { kept: Some(store.kept()), good: config.appliance.run.join(supervisor::GOOD) };
    let mut random = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut random))
        .context("no randomness")?;
    let mut control = Control::open(Box::new(store) as Box<dyn Store>, config.site(), random, clock.now())
        .context("the store cannot be read")?;

    api::sweep(&mut control, clock.now());
    if config.restore().join("ready").exists() {
        // We were ended between laying it there and saying so.
        bootd::notify::anew();
    }

    let (inputs, received) = sync_channel::<Input>(QUEUE);
    let (newest, events) = watch::channel(control.newest_event().0);
    let plans = PlanSenders::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    {
        let _entered = runtime.enter();
        let (heard, mut lines) = mpsc::channel::<Heard>(QUEUE);
        plans.connect(config.appliance.image, |hand| config.socket(hand), &heard);
        let to_control = inputs.clone();
        // A thread of its own: control may be busy writing, and waiting for it must not hold up a socket.
        std::thread::Builder::new()
            .name("heard".into())
            .spawn(move || {
                while let Some(heard) = lines.blocking_recv() {
                    if to_control.send(Input::Heard(heard)).is_err() {
                        return;
                    }
                }
            })
            .context("cannot start a thread")?;
    }
    let (asks, asked) = sync_channel::<Ask>(QUEUE);
    forward_asks(asked, inputs.clone())?;
    let api = Api {
        link: Link::new(asks, events),
        token: Secret::new(token.trim()),
        images: config.images(),
        volumes: config.volumes(),
        drives: config.drives(),
        bundles: config.bundles(),
        most_image: config.appliance.most_image_gib << 30,
        backup: Places::new(config.token(), config.box_shown(), config.restore(), bootd::notify::anew),
    };
    let library = Library::new(config.images()).with_volumes(config.volumes());
    runtime.spawn_blocking(move || match library.sweep() {
        Ok(Some(swept)) if swept.bytes > 0 => log::info!(swept:? = swept; "remains of imports removed"),
        Ok(_) => {}
        Err(e) => log::error!(error:% = e; "remains of imports not removed"),
    });
    runtime.spawn(serve(listener, api));
    runtime.spawn(end_on_signal(inputs.clone()));
    drop(inputs);
    bootd::notify::ready();
    drive(&mut control, &received, &plans, &newest, &mut way_back, clock);
    bootd::notify::stopping();
    runtime.shutdown_timeout(Duration::from_secs(1));
    ensure!(
        !control.must_restart(),
        "the store failed in the middle of a commit; it is opened anew by a restart"
    );
    Ok(())
}

fn open_store(config: &Config) -> Result<Sled> {
    let path = config.store();
    match Sled::open(&path, Options::default()) {
        Ok(store) => Ok(store),
        Err(e) if e.is_damage() => {
            // The journal holds every acknowledged commit since the newest snapshot, so nothing is lost.
            log::error!(error:% = e; "store is damaged, restoring it");
            let (store, recovery) = Sled::recover(&path, Options::default())
                .context("the store is damaged and cannot be restored")?;
            log::warn!(recovery:? = recovery; "store restored");
            Ok(store)
        }
        Err(e) => Err(e).with_context(|| format!("cannot open the store {}", path.display())),
    }
}

/// The copy of the store from before a migration, for an older release to go back to: until this one is proved good.
struct WayBack {
    kept: Option<Kept>,
    good: PathBuf,
}

impl WayBack {
    fn look(&mut self) {
        if self.kept.is_none() || !self.good.exists() {
            return;
        }
        match self.kept.take().map(|kept| kept.forget()) {
            Some(Ok(formats)) if !formats.is_empty() => {
                log::info!(formats:? = formats; "copy of the store from before its migration removed");
            }
            Some(Err(e)) => {
                log::warn!(error:% = e; "copy of the store from before its migration not removed")
            }
            _ => {}
        }
    }
}

fn forward_asks(asked: Receiver<Ask>, inputs: SyncSender<Input>) -> Result<()> {
    let forward = move || {
        for ask in asked {
            if inputs.send(Input::Ask(ask)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("asks".into()).spawn(forward).context("cannot start a thread")?;
    Ok(())
}

/// The loop: one input at a time, applied at once; then plans and events go out.
fn drive(
    control: &mut Control<Box<dyn Store>>,
    received: &Receiver<Input>,
    plans: &PlanSenders,
    newest: &watch::Sender<u64>,
    way_back: &mut WayBack,
    clock: Clock,
) {
    let mut fed = Time::ZERO;
    while !control.must_restart() {
        while let Some((hand, generation)) = control.poll_plan() {
            plans.send(hand, generation, control.plans());
        }
        newest.send_if_modified(|known| core::mem::replace(known, control.newest_event().0) != *known);
        let now = clock.now();
        if now.since(fed) >= Duration::from_secs(1) {
            fed = now;
            bootd::notify::alive();
            way_back.look();
        }
        let wait = control.poll_timeout().map_or(LONGEST, |due: Time| due.since(now)).min(LONGEST);
        match received.recv_timeout(wait) {
            Ok(Input::Ask(ask)) => ask(control, clock.now()),
            Ok(Input::Heard(heard)) => control.handle_hand(heard, clock.now()),
            Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if control.poll_timeout().is_some_and(|due| due <= clock.now()) {
            control.handle_timeout(clock.now());
        }
    }
}

async fn serve(listener: TcpListener, api: Api) {
    let served = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, api::router(api)).await
    };
    if let Err(e) = served.await {
        log::error!(error:% = e; "the API ended");
    }
}

async fn end_on_signal(inputs: SyncSender<Input>) {
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        terminate.recv().await;
        inputs.try_send(Input::End).ok();
    }
}
