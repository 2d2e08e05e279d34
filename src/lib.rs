//! vmstage, the in-guest boot agent of a VM image.
//!
//! At boot it finds the VM's scratch disk, mounts it and makes the directories that jobs need,
//! and tells everybody who wants to know. [`command::boot`] is that story in order; the types on
//! the way carry its promise:
//!
//! ```text
//! inventory + signatures ──choose──▶ Accepted ──mount──▶ Staged ──directories──▶ Ready
//! ```
//!
//! # The layers
//!
//! From top to bottom; a module uses those below it and those beside it, and no two use each
//! other (the test `layers` holds it).
//!
//! | layer | holds |
//! | --- | --- |
//! | [`command`] | what each command prints and returns |
//! | [`watch`], [`image`], [`plan`] | the loop that follows the deadline; `install`, `check`, `seal`; what is decided before a launch |
//! | [`report`] | who is told, a module a consumer |
//! | [`status`] | the document from which every consumer is told |
//! | [`metadata`], [`deadline`], [`staging`] | asking who this VM is; when it must be gone; the scratch disk and its directories |
//! | [`disk`] | which disks there are, what is on them, which one may be taken |
//! | [`legacy`] | what goes when Scientific Linux 5 goes |
//! | [`host`], [`http`], [`backoff`], [`logging`] | the machine, and requests |
//! | [`cli`], [`config`], [`clock`], [`text`], [`url`], [`failure`], [`resources`], [`order`] | words and values |
//!
//! # Where to begin
//!
//! - **A disk**: [`disk::inventory`], [`disk::identity`] and [`disk::reader`] gather,
//!   [`disk::observe`] makes plain data of it, [`disk::choose`] judges, [`staging::acquire`] does
//!   so until a disk is there, [`staging::mount`] and [`staging::directories`] use it.
//! - **A deadline**: a source of [`metadata`] turns bytes into an answer, [`deadline::ledger`]
//!   holds what each said, [`deadline::decide`] and [`deadline::due`] say what follows,
//!   [`deadline::follower`] joins them for `boot` and for [`watch`].
//! - **The machine** is a [`host::Host`], which in tests is a directory tree.
//!
//! What is `pub` is so for `main`, `examples` and the tests of the program; nothing else should
//! use this crate, and it promises nothing to others. `ARCHITECTURE.md` has more.

// What only this crate needs is pub(crate), so that the compiler finds what is dead.
#![deny(unreachable_pub)]
#![warn(missing_docs, clippy::missing_errors_doc)]
// Read with `cargo doc --document-private-items`: nobody else uses this crate.
#![allow(rustdoc::private_intra_doc_links)]

pub(crate) mod backoff;
// The static binary has it, instead of musl's.
#[cfg(all(test, target_arch = "x86_64"))]
mod bytes;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod deadline;
pub mod disk;
#[cfg(test)]
mod documentation;
pub mod failure;
pub mod host;
pub mod http;
pub(crate) mod image;
#[cfg(test)]
mod layers;
pub mod legacy;
pub mod logging;
pub mod metadata;
pub(crate) mod order;
pub(crate) mod plan;
pub mod report;
pub(crate) mod resources;
pub(crate) mod staging;
pub mod status;
pub(crate) mod text;
pub(crate) mod url;
pub mod watch;
