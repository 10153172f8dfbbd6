//! A BMC that is only software, on a real socket: for tests, and for other people's consoles.

use crate::hand::Clock;
use ipmi::{Bmc, BmcEvent};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep_until};

/// Bugs may be given and taken away from outside: the timers are looked at again at least this often.
const GLANCE: Duration = Duration::from_millis(50);

/// A served [`Bmc`]; it ends when this is dropped.
pub struct Double {
    bmc: Arc<Mutex<Bmc>>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Double {
    /// Serves the BMC at the address; port 0 takes any.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn start(bmc: Bmc, address: SocketAddr) -> io::Result<Double> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        let bmc = Arc::new(Mutex::new(bmc));
        let task = tokio::spawn(serve(Arc::clone(&bmc), socket));
        Ok(Double { bmc, address, task })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The BMC itself, to look at and to give bugs. Not to be held across an await.
    pub fn bmc(&self) -> MutexGuard<'_, Bmc> {
        lock(&self.bmc)
    }

    /// What was done to the machine and not yet asked for.
    pub fn events(&self) -> Vec<BmcEvent> {
        let mut bmc = self.bmc();
        core::iter::from_fn(|| bmc.poll_event()).collect()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(bmc: &Mutex<Bmc>) -> MutexGuard<'_, Bmc> {
    bmc.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(bmc: Arc<Mutex<Bmc>>, socket: UdpSocket) {
    let clock = Clock::start();
    let mut buffer = [0; 2048];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received.ok(),
            () = sleep_until(Instant::now() + GLANCE) => None,
        };
        let now = clock.now();
        let out: Vec<_> = {
            let mut bmc = lock(&bmc);
            bmc.handle_timeout(now);
            if let Some((len, from)) = received {
                bmc.handle_datagram(now, from, &buffer[..len]);
            }
            core::iter::from_fn(|| bmc.poll_transmit()).collect()
        };
        for (to, datagram) in out {
            // What cannot be sent is lost, as on any network.
            let _ = socket.send_to(&datagram, to).await;
        }
    }
}
