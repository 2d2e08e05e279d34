//! The tests of the program on this host, with real block devices and services that
//! answer as a test wants. All in one program, because linking takes longer than most.
//!
//! `cargo test --test host -- staging::` runs the claims of one module.

// Loop devices and chroot(2) take system calls.
#![allow(unsafe_code)]

#[macro_use]
mod common;
mod server;

mod bad_input;
mod blank;
mod choosing;
mod clouds;
mod commands;
mod config_drive;
mod crashes;
mod directories;
mod doubles;
mod evidence;
mod faulty_disk;
mod full_run;
mod hanging;
mod image;
mod inherited;
mod init;
mod local;
mod looking;
mod metadata;
mod network;
mod old_kernel;
mod others;
mod plan;
mod resources;
mod schemas;
mod several;
mod silent;
mod staging;
mod turned_off;
mod unfinished;
mod watch;
mod write_errors;

use std::process::ExitCode;

use nix::sys::signal::{SigHandler, Signal, signal};

fn main() -> ExitCode {
    // Ignored, as nohup(1) leaves it, no shell that a test starts could set a trap for it.
    // SAFETY: no handler is installed, and no thread runs yet.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }.unwrap();
    watch::day::play_a_part();
    common::run(&[
        blank::CLAIMS,
        choosing::CLAIMS,
        staging::CLAIMS,
        directories::CLAIMS,
        evidence::CLAIMS,
        unfinished::CLAIMS,
        local::CLAIMS,
        several::CLAIMS,
        looking::CLAIMS,
        bad_input::CLAIMS,
        commands::CLAIMS,
        full_run::CLAIMS,
        others::CLAIMS,
        resources::CLAIMS,
        schemas::CLAIMS,
        turned_off::CLAIMS,
        config_drive::CLAIMS,
        metadata::CLAIMS,
        clouds::CLAIMS,
        network::CLAIMS,
        faulty_disk::CLAIMS,
        hanging::CLAIMS,
        silent::CLAIMS,
        inherited::CLAIMS,
        crashes::CLAIMS,
        image::check::CLAIMS,
        image::install::CLAIMS,
        image::uninstall::CLAIMS,
        image::overlay::CLAIMS,
        image::replace::CLAIMS,
        image::seal::CLAIMS,
        write_errors::CLAIMS,
        image::silent::CLAIMS,
        plan::flavor::CLAIMS,
        plan::grid::CLAIMS,
        plan::image::CLAIMS,
        plan::snapshot::CLAIMS,
        plan::stdin::CLAIMS,
        plan::expire::CLAIMS,
        init::sysv::CLAIMS,
        init::rc_local::CLAIMS,
        init::units::CLAIMS,
        watch::running::CLAIMS,
        watch::end::CLAIMS,
        watch::anew::CLAIMS,
        watch::anothers::CLAIMS,
        watch::clock::CLAIMS,
        watch::day::CLAIMS,
        watch::notices::CLAIMS,
        watch::second::CLAIMS,
        old_kernel::CLAIMS,
    ])
}
