//! What brings the box up: from the kernel to the moment when the services may start.
//!
//! ```text
//!   kernel ─► [`init`]   PID 1 of the initramfs: modules, the slot's partition ([`slot`]), its [`seal`],
//!      │                 dm-verity ([`verity`]), the new root
//!      └─► init of the slot ─► [`start`]   [`data`], the configuration ([`search`], [`config`]),
//!                  │                       the [`network`] ([`links`], [`rtnl`]), what [`services`] read
//!                  ├─► applianced supervisor, respawned ─► [`good`], when all services were ready for a minute
//!                  ├─► [`good::watch`], where the slot is on [`trial`] after an [`update`]; with Secure Boot
//!                  │   the [`loader`] is another than GRUB
//!                  ├─► [`ssh`], respawned: a shell for operators, where somebody may log in
//!                  └─► [`changes`], respawned: cards that come late, a stick that is put in
//! ```
//!
//! Whatever is wrong is said on the console with what to do, stands in the [`report`], and keeps nothing
//! else from coming up; only a slot that is damaged ends in a restart, for there is another.
//!
//! It knows nothing of nodes, images or deployments.

pub mod changes;
pub mod clock;
pub mod config;
pub mod console;
pub mod data;
pub mod did;
pub mod durable;
pub mod editenv;
pub mod efivars;
pub mod esp;
pub mod good;
pub mod gpt;
pub mod grubenv;
pub mod init;
pub mod links;
pub mod loader;
pub mod mapper;
pub mod menu;
pub mod modules;
pub mod moments;
pub mod network;
pub mod pe;
pub mod report;
pub mod rtnl;
pub mod seal;
pub mod search;
pub mod services;
pub mod slot;
pub mod ssh;
pub mod start;
pub mod time;
pub mod trial;
pub mod trust;
pub mod uki;
pub mod update;
pub mod verity;
pub mod watchdog;
