use std::process::ExitCode;

use log::{LevelFilter, error};
use nix::sys::stat::{Mode, umask};

use vmstage::cli::{Cli, Command, Deferred, MetadataArgs, ProbeArgs, StatusArgs};
use vmstage::command::{boot, check, end, install, metadata, plan, probe, seal, status, watch};
use vmstage::failure::Failure;
use vmstage::host::{Host, kernel_calls};
use vmstage::legacy::vdso;
use vmstage::logging;

#[cfg(all(target_env = "musl", panic = "abort"))]
#[path = "legacy/no_backtrace.rs"]
mod no_backtrace;

#[cfg(all(target_arch = "x86_64", target_env = "musl", panic = "abort"))]
mod bytes;
mod heap;

#[global_allocator]
static ALLOCATOR: heap::Heap = heap::Heap::new();

fn main() -> ExitCode {
    vdso::avoid_broken();
    kernel_calls::take_signals_as_usual();
    // Whoever called: what is made here is for everybody to read and enter.
    umask(Mode::from_bits_truncate(0o022));
    let host = Host::this_machine();
    let cli = Cli::called();
    logging::start(if cli.verbose {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    });
    // None but `boot` is compiled into this function, whose stack would be touched in each boot.
    let done = match cli.command {
        Command::Boot(config) => Ok(boot::run(&host, config.file.as_deref(), boot::TURN)),
        Command::Probe(Deferred(ProbeArgs { config, format })) => {
            probe::run(&host, config.file.as_deref(), format).map(|()| 0)
        }
        Command::Status(Deferred(StatusArgs {
            config,
            format,
            wait,
        })) => status::run(&host, config.file.as_deref(), format, wait),
        Command::Metadata(Deferred(MetadataArgs { config, format })) => {
            metadata::run(&host, config.file.as_deref(), format)
        }
        Command::Watch(config) => watch::run(&host, config.file.as_deref()),
        Command::End(Deferred(arguments)) => end::run(&host, arguments),
        Command::Install(Deferred(arguments)) => install::install(&host, &arguments),
        Command::Uninstall(Deferred(arguments)) => install::uninstall(&host, &arguments),
        Command::Check(Deferred(arguments)) => check::run(&host, &arguments),
        Command::Seal(Deferred(arguments)) => seal::run(&host, &arguments),
        Command::Plan(command) => plan::run(&command),
    };
    ExitCode::from(done.unwrap_or_else(|failure: Failure| {
        error!("{failure}");
        failure.exit_code()
    }))
}
