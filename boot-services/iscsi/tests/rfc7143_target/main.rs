//! Sentences of RFC 7143, said to the target by an initiator that does as it is told.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod captures;
mod data;
mod hostile;
mod login;
mod manage;
mod order;
mod rig;
mod sessions;
