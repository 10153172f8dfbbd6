//! The lab: a virtual rack of real parts, what is made to be booted in it, and an appliance to stand in it.
//!
//! | module | is |
//! |---|---|
//! | [`artifact`] | the deploy ramdisk and the user images, made from Debian packages |
//! | [`rack`] | switch, BMCs, nodes and networks, raised from a description and removed again |
//! | [`stand`] | a rack with an appliance in it: what the demo and the end-to-end tests stand on |
//! | [`targets`] | iSCSI targets, ours and other people's, to be tried side by side |
//!
//! Beside them stands the house's judge, `tests/floors.rs`.

pub mod artifact;
pub mod rack;
pub mod shell;
pub mod stand;
pub mod targets;
