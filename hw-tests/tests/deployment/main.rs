//! The main job and its faults on the virtual rack: real switch, BMCs, firmware, ramdisk and systems.
//! Takes root and Debian's packages (`hw-tests/setup`).
#![allow(clippy::unwrap_used, reason = "a test's stage fails by panic, like the test")]

mod backup;
mod faults;
mod job;
mod kills;
mod push;
mod scene;
