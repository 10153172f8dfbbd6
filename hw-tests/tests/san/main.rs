//! Nodes that boot from a volume on the virtual rack: real firmware, switch and BMCs, Debian's iPXE, kernel
//! and initiator. Takes root and Debian's packages (`hw-tests/setup`).
#![allow(clippy::unwrap_used, reason = "a test's stage fails by panic, like the test")]

mod boot;
mod guest;
mod kills;
mod reference;
mod replace;
mod scene;
mod strangers;
mod trouble;
mod volumes;
