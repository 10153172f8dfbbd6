//! Starts the processes of the appliance from a static table, passes them their sockets, restarts them,
//! and says what it waits for.
//!
//! ```text
//!   table ──► Watch (one per service, a value) ──► Start / Kill ──► fork, drop, exec
//!                ▲                                                     │
//!                └── exited, ready, watchdog, time ◄───────────────────┘
//! ```
//!
//! It never sends anything to those it starts and never waits for one. Sockets are its own: a client's
//! connection waits in their queue while the service behind restarts. Every child dies with it
//! (PR_SET_PDEATHSIG), and whoever starts it again gets a fresh set: nothing is lost, since control's
//! state is in the store and a hand's in its run directory.
//!
//! Conventions are the common ones, so that the same programs run under systemd: `LISTEN_FDS` with the
//! sockets from descriptor 3 on, `NOTIFY_SOCKET` with `READY=1` and `WATCHDOG=1`, and `FDSTORE=1` with which a
//! service leaves the sockets it opened itself for its next life: a connection waits in their queue too.
//!
//! When all services were ready for a minute without a break, a command is run once: on the appliance it tells
//! the boot loader that the slot which was tried is good. Then a file in the run directory says so to the services.
//!
//! A service may be somebody else's program, which says nothing of itself: it counts as ready when it runs, and a boot
//! is good without it.
//!
//! Where the machine has a watchdog, the loop feeds it: a supervisor that stands still, or is not started again, restarts
//! the machine. One that merely ends leaves it running for the next; only a machine that ends is let go of.
//!
//! This crate knows nothing of what the services do.

mod dog;
mod run;
mod spawn;
mod trial;
mod watch;
mod watchdog;

pub use run::{Ended, GOOD, RunError, Service, Socket, Status, run};
pub use spawn::{Capability, Privilege};
pub use watch::{Action, Report, State, Watch};
