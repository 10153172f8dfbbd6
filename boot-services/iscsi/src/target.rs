//! The target: one value per connection, and what all connections share.
//!
//! ```text
//!   Targets<V> ── Access<V> (who, from where, how proved, which LUNs) ── Arc<Unit<V>> ── scsi::LogicalUnit, V
//!      │ shared; set() and remove() while running                             V: what the driver knows a volume by
//!      ▼
//!   Connection<V>, one per TCP connection, in a thread of the driver's
//!
//!      octets ──► handle_octets ─┐                       ┌─► poll_transmit: Octets | DataIn
//!      octets that the driver    ├─► login, CmdSN, R2T ──┼─► poll_job: what the medium has to do
//!      put in place itself ──────┘   tasks, sequence     ├─► poll_timeout
//!      done(job), alarm, timeout                         └─► poll_event
//! ```
//!
//! The driver's loop, in one thread per connection:
//!
//! ```text
//!   connection = Connection::new(&targets, link, alarm, nonce, now)
//!   loop {
//!       while let Some(event) = connection.poll_event()    { tell it; Closed is the last }
//!       while let Some(job) = connection.poll_job()        { do it here, or in a helper; handle_done(done, now) }
//!       while let Some(next) = connection.poll_transmit(now) { gather; write out before receiving again }
//!       if connection.is_over() { break }                   // all that was to be sent has been polled
//!       match connection.want() {
//!           Want::Octets(least) => receive into the buffer as much as is there (at least one octet);
//!                                  used = handle_octets(&buffer, now): it stops where data belong in place
//!           Want::Place(place)  => min(place.length, what is left in the buffer) octets of the buffer go to the volume
//!                                  at place.offset, the rest is received straight into it (as much as comes);
//!                                  handle_placed(count, result, now)
//!           Want::Wait          => take nothing from the socket until a job is done
//!       }
//!       waiting for the socket ends at poll_timeout() → handle_timeout(now), and at an alarm → handle_alarm(now)
//!   }
//!   drop(connection)                                       // whoever waits for its end goes on
//! ```
//!
//! After `handle_alarm` or `handle_timeout` ask `want()` again: a range that was wanted before may not be
//! wanted any more, and must not be written to then (that is how a LUN RESET or a fence of another session
//! takes effect). A connection whose socket was `cut` by its alarm is over at its next `handle_alarm`. A socket
//! is closed in order when the connection is over (shut down for writing first): what was said last is why.

//!
//! Everything the driver touches (`scsi::` names are that crate's):
//!
//! ```text
//! Targets<V>: Clone          new(Limits) · set(Access<V>) -> Vec<ConnectionId> (whose threads must be joined)
//!                            remove(&str) -> Vec<ConnectionId> · shut_down() (all are asked to log out, none may
//!                            log in) · sessions() -> Vec<Session>
//! Unit<V>                    new(scsi::LogicalUnit, V) -> Arc<Unit<V>> · volume() -> &V · logical() -> MutexGuard
//! Access<V>                  name, initiators, networks, portals, auth: Auth::{None, Chap(chap::Chap)},
//!                            luns: Vec<(Lun, Arc<Unit<V>>)>; what is read-only is so by its LogicalUnit
//! Link                       peer: SocketAddr, portal: SocketAddr (the connection's own address)
//! trait Alarm: Send + Sync   wake(): end the thread's waiting, handle_alarm follows
//!                            cut():  shut the socket down both ways, and wake
//!
//! Connection<V>              new(&Targets<V>, Link, Arc<dyn Alarm>, chap::Nonce, Time)
//!   id() -> ConnectionId     want() -> Want<V>
//!   handle_octets(&[u8], now) -> usize                     handle_placed(usize, Result<(), MediumError>, now)
//!   poll_transmit(now) -> Option<Transmit<V>>              poll_job() -> Option<Job<V>>
//!   handle_done(TaskId, Done, now)                         poll_event() -> Option<Event>
//!   poll_timeout() -> Option<Time>                         handle_timeout(now) · handle_alarm(now)
//!   handle_end(now): the socket ended or broke             is_over() -> bool
//!   peek_read() -> Option<Range<V>>: what the next transmit would read from the medium
//!   set_aside(TaskId), handle_ready(TaskId): others go first until its octets are at hand (cold data)
//!   failed(&DataIn<V>, MediumError) -> Vec<u8>: what to send instead of a DataIn that could not be read; its header
//!       must not have been sent. Call it for every DataIn of that task that was polled already.
//!
//! Want<V>      Octets(usize) · Place(Place<V> { unit, task, offset: u64, length: usize }) · Wait
//! Transmit<V>  Header(pdu::Sealed) · Octets(Bytes) · DataIn(DataIn<V> { header: Sealed, unit, task, offset: u64,
//!              length: usize, padding: usize, digest: bool })
//!              A DataIn is sent as header, then `length` octets of the volume from `offset`, then trailer(): with
//!              `digest` the octets must be read to memory first: trailer = data_in.trailer(&octets).
//! Job<V>       Perform { task, unit, work: scsi::Compound, data: Vec<u8> } → Done::Response(scsi::Response)
//!              Store   { task, unit, offset, data } (data whose digest was right) → Done::Medium(result)
//!              Flush   { task, unit } (FUA) → Done::Medium(result)
//!              Keep    { task, unit, octets } (reservations, on disk before the status) → Done::Medium(result)
//! Event        LoggedIn(Session) · Closed(Closed { why, initiator, target })
//! ```

mod access;
mod answer;
mod command;
mod connection;
mod duties;
mod end;
mod intake;
mod login;
mod manage;
mod order;
mod phase;
mod targets;
mod task;
mod words;

pub use access::{Access, Auth, Link, Network, Unit, Who};
pub use answer::MOST_DATA_IN;
pub use connection::{Connection, MOST_TASKS};
pub use targets::{Limits, Targets};
pub use words::{
    Alarm, Closed, ConnectionId, DataIn, Done, Event, Job, Misbehaviour, Place, Range, Refusal, Session,
    TaskId, Transmit, Want, Why,
};

use crate::keys::Offer;

/// All portals are one group: a session has one connection, and could have it at any.
const PORTAL_GROUP: u16 = 1;

/// What a target is ready for.
fn offer() -> Offer {
    Offer::default()
}
