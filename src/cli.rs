//! The command line. The man page and the completions are made from it.

#![allow(missing_docs, reason = "a doc comment here is what --help prints")]

// By their paths: build.rs has this file as a module of another place.
#[path = "cli/deferred.rs"]
mod deferred;
#[path = "cli/plan.rs"]
mod plan;

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

pub use deferred::Deferred;
pub use plan::{ExpireArgs, FlavorArgs, GridArgs, ImageArgs, PlanCommand, SnapshotArgs};

use crate::{config, text};

/// Finds a VM's scratch disk at boot, mounts it, and says when the VM is ready and
/// when it must be gone.
#[derive(Debug, Parser)]
#[command(name = "vmstage", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// Say what is observed and decided on the way
    #[arg(short, long, global = true)]
    pub verbose: bool,

    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What this program was called for; ends it where that is nothing that it knows. What init
    /// calls is known as it is: a tenth of what `boot` computes would be for the parser.
    pub fn called() -> Cli {
        match env::args_os().skip(1).eq(["boot"]) {
            true => Cli::by_init(),
            false => Cli::parse(),
        }
    }

    fn by_init() -> Cli {
        Cli {
            verbose: false,
            command: Command::Boot(ConfigArgs { file: None }),
        }
    }
}

/// Writes lines to standard output, and nothing that a terminal acts on. Whoever closed it
/// early has seen enough.
///
/// # Errors
///
/// That standard output cannot be written to.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout();
    let text = text::printable_lines(text);
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(e).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find the scratch disk, mount it, make its directories, and tell everybody; what
    /// init calls
    #[command(after_help = BOOT_HELP)]
    Boot(ConfigArgs),

    /// Show which disk `boot` would take and why, changing nothing
    #[command(after_help = PROBE_HELP)]
    Probe(Deferred<ProbeArgs>),

    /// Show what became of this boot
    #[command(after_help = STATUS_HELP)]
    Status(Deferred<StatusArgs>),

    /// Ask the metadata sources who this machine is and when it must be gone, and show
    /// what each said
    #[command(after_help = METADATA_HELP)]
    Metadata(Deferred<MetadataArgs>),

    /// Stay, and follow the deadline: ask again, tell what changed, warn users, drain,
    /// and end the machine if the configuration says so
    #[command(after_help = WATCH_HELP)]
    Watch(ConfigArgs),

    /// End this machine at a time of your own, everybody being told; or rehearse its end
    #[command(after_help = END_HELP)]
    End(Deferred<EndArgs>),

    /// Put this program and its files into an image, and enable it there
    #[command(after_help = INSTALL_HELP)]
    Install(Deferred<InstallArgs>),

    /// Take vmstage out of an image, with all that it has left there
    #[command(after_help = UNINSTALL_HELP)]
    Uninstall(Deferred<UninstallArgs>),

    /// Show what in an image will not work or is unsafe, changing nothing
    #[command(after_help = CHECK_HELP)]
    Check(Deferred<CheckArgs>),

    /// Make a machine or an image ready to be saved: what is of one machine is removed
    #[command(after_help = SEAL_HELP)]
    Seal(Deferred<SealArgs>),

    /// Decide from what `openstack … -f json` printed, before a VM is launched
    #[command(subcommand)]
    Plan(PlanCommand),
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    /// Wait until the machine is ready or has failed; for at most SECONDS, if given
    #[arg(long, value_name = "SECONDS", num_args = 0..=1)]
    pub wait: Option<Option<u64>>,
}

#[derive(Debug, Args)]
pub struct MetadataArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The root directory of the image's file system [default: /, this machine]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
}

#[derive(Debug, Args)]
pub struct SealArgs {
    /// The root directory of the image's file system [default: /, this machine]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// List what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    /// Seal also while jobs of HTCondor run, which end
    #[arg(long)]
    pub force: bool,
    /// Remove also a spool of HTCondor that holds jobs
    #[arg(long)]
    pub condor: bool,
    /// Remove also logs, shell histories, what is in /tmp, and who logged in
    #[arg(long)]
    pub logs: bool,
    /// Switch this machine off when it is sealed
    #[arg(long)]
    pub poweroff: bool,
    /// Only what vmstage itself has left; for /etc/cloud/clean.d
    #[arg(long, hide = true, conflicts_with_all = ["condor", "logs", "poweroff"])]
    pub own_part: bool,
}

#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The root directory of the image's file system; / for this machine itself
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// List what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What starts the image's services, where that is not clear from its /sbin/init
    #[arg(long, value_enum)]
    pub init: Option<InitOption>,
    /// Install also where a package manager has vmstage
    #[arg(long)]
    pub force: bool,
    /// The program for the image, where it is for another architecture [default: this one]
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Take out the line of fstab, the commands of rc.local and the script that staged the
    /// disk before; each is kept beside as .before-vmstage
    #[arg(long)]
    pub replace_old: bool,
    /// Bring no files, and only enable those that are there: for packages
    #[arg(long, conflicts_with_all = ["force", "binary"])]
    pub enable_only: bool,
}

#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// The root directory of the image's file system; / for this machine itself
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// List what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Uninstall also where a package manager has vmstage
    #[arg(long)]
    pub force: bool,
    /// Only end watch, and take back what others were told; for packages
    #[arg(long)]
    pub keep_files: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("when").required(true).args(["in", "at", "cancel"]))]
pub struct EndArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// So long from now, such as 30m
    #[arg(id = "in", long, value_name = "DURATION", value_parser = config::parse_duration)]
    pub after: Option<Duration>,
    /// At this time: 2027-01-31T18:00:00Z, or Unix seconds
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Take back what was ordered before
    #[arg(long)]
    pub cancel: bool,
    /// Why, for users and for the drain command
    #[arg(long, value_name = "TEXT", conflicts_with = "cancel")]
    pub reason: Option<String>,
    /// No new work, and drain, but do not power off
    #[arg(long, conflicts_with_all = ["cancel", "rehearse"])]
    pub drain_only: bool,
    /// Behave as for a cloud's notice, and end nothing
    #[arg(long, value_enum, value_name = "NOTICE", conflicts_with_all = ["cancel", "keep"])]
    pub rehearse: Option<Rehearse>,
    /// Hold after a reboot of this machine as well
    #[arg(long, conflicts_with = "cancel")]
    pub keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rehearse {
    /// EC2 wants its spot instance back, in two minutes
    Spot,
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration [default: /etc/vmstage.toml, which may be missing]
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What starts the services of an image, where its files do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InitOption {
    Systemd,
    Sysv,
    Upstart,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    Text,
    Json,
}

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  ready (also: it already was)
  1  an error that has no code of its own
  2  wrong usage
  3  no usable device
  4  a chosen device could not be mounted
  5  staged, but a directory could not be made as asked; the others are made
  6  the configuration is wrong; nothing was touched but HTCondor's drop-in

`check` and `plan` have codes of their own: their --help has them.";

const BOOT_HELP: &str = "\
Without a configuration, the first of LABEL=ephemeral0, LABEL=blankpartition0,
/dev/vdb, /dev/sdb, /dev/xvdb and LOCAL (what the cloud marks as local scratch)
that holds a usable file system is mounted on /staging, where the directories
condor and tmp are made. What only a name led to must be empty, or bear the mark
.vmstage of an earlier boot. Swap, partition tables, the root disk, the config
drive, and whatever else is no scratch disk are rejected, with the reason. Where
there is no such disk, a blank one that the cloud marks as local scratch gets a
file system. `vmstage probe` shows all of that beforehand.

It can be run again: on a staged machine it changes nothing but the mark, and
exits with 0. After a failure nothing lies under the mount point.

The last line goes to the console too:
  vmstage: ready: /dev/vdb (ext2, LABEL=ephemeral0) on /staging, 19.6 GiB free, condor tmp
  vmstage: FAILED(3): no usable disk: …

Exit codes: 0 ready, 1 other error, 2 usage, 3 no usable device, 4 cannot be
mounted, 5 a directory could not be made, 6 wrong configuration.";

const PROBE_HELP: &str = "\
The first table has a line for each spec of staging.devices and each device it
leads to; the second, one for each block device that was looked at. `boot` takes
the first accepted one. REASON says why a device may be used, or why not and what
to do.

Exit codes: 0 there is a usable device, or one is mounted already; 3 there is
none; 4 the mount point cannot be used; 6 wrong configuration.";

const STATUS_HELP: &str = "\
The status is what `boot` wrote to status.json in /run/vmstage (/var/run/vmstage
where there is no /run), or in /var/lib/vmstage where /run was full.

Exit codes: that of `boot`; 1 if it has not finished in this boot of the machine,
or if what it mounted is no longer mounted.";

const METADATA_HELP: &str = "\
Asks what metadata.sources lists, or \"auto\" finds, at most for metadata.timeout,
and Machine/Job Features where there are any. Secrets are left out.

Exit codes: 0 at least one answered; 1 none did; 6 wrong configuration.";

const WATCH_HELP: &str = "\
Stays in the foreground. Asks once a minute whether the deadline has moved. When
grace begins, deadline.drain is run, once; at the deadline, deadline.action is
done. What was done is not done again after a restart.

SIGHUP reads the configuration again, SIGUSR1 what `vmstage end` ordered; SIGTERM
ends watching, not the machine.

Exit codes: 0 ended by SIGTERM; 6 wrong configuration.";

const INSTALL_HELP: &str = "\
Nothing of the image is run, and nothing outside of DIR is written: links are followed
inside of it, and one that leads out is refused. Run again, it does what is missing. An
existing /etc/vmstage.toml stays; the shipped one is in /usr/share/doc/vmstage.

It is enabled by links: systemd's; S85vmstage and its like for chkconfig, lower where
HTCondor would start before it, with /etc/chkconfig.d/vmstage, by which chkconfig keeps
the number; with insserv also the lines in /etc/init.d/.depend.*. Where that is not
enough, it says what to run.

Of rc.local --replace-old takes whole lines that can do nothing else. A command that is
more than one of those stays, with the script that it runs, and is named.

  vmstage install --root /mnt/image --replace-old

Exit codes: 0 installed and enabled, or with --init none installed; 1 not, or not
enabled, for the reason given; 2 wrong usage; 6 the image's configuration is wrong, and
with it what --replace-old would take out.";

const UNINSTALL_HELP: &str = "\
HTCondor's drop-in goes first, then all that others were told, the program and its
files, and its state. What `install --replace-old` took out comes back, unless it was
changed since. A changed /etc/vmstage.toml stays, and is named.

With --root / watch is ended before; the scratch disk stays mounted.

Exit codes: 0 uninstalled; 1 not, or not completely, for the reason given; 2 wrong
usage.";

const CHECK_HELP: &str = "\
One line a finding, the worst first:
  error old-fstab /etc/fstab:2: … ; do: …
Nothing of an image is run. The ids are the same in each version, and in JSON.

Exit codes: 0 nothing but notes; 10 warnings; 11 errors; 1 DIR cannot be looked at;
2 wrong usage.";

const SEAL_HELP: &str = "\
HTCondor and watch are stopped before anything else. Then go: vmstage's state and
reports, but for this machine's first boot where that is kept by UUID; its empty
directories below the mount point; cloud-init's lines of fstab and its state; machine
id, random seeds, DHCP leases and network addresses; host keys where something makes
new ones; what HTCondor has in its directories. What stays is named, with the reason.

Never touched: accounts, passwords, keys that let somebody in, tokens; the scratch
disk and volumes; what a link leads to; /etc/vmstage.toml. A sealed machine boots again
as itself. On a terminal it asks first.

Exit codes: 0 sealed; 1 not, or not completely, for the reason given; 2 wrong usage;
6 the image's configuration is wrong.";

const END_HELP: &str = "\
Sets a limit of this machine's own, beside those of the cloud; the earliest counts.
Users, batch systems and the drain command are told as for any other deadline, and
deadline.action is done then. It needs no confirmation, and min_uptime does not
apply. A later order replaces an earlier one.

It ends with this boot. With --keep it holds after a reboot of this machine, once
the clock can be trusted (min_uptime); never in another VM that was launched from
an image of this one.

--cancel ends grace for everybody. What drain has done is not undone. It needs neither
a valid configuration nor room in /run.

--rehearse spot begins grace at once and runs drain (with VMSTAGE_REHEARSAL=1), as
EC2's notice would; everybody is told that it is a rehearsal, and it is over with
its time: vmstage end --in 2m --rehearse spot

`vmstage watch` has to be running: without it nothing is ordered. While it waits for a
service it may answer later than in 2 s: then that is said, and what was ordered holds.

Exit codes: 0 ordered; 1 it was not, for the reason given; 2 wrong usage, a time in
the past or too far ahead; 6 wrong configuration.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_calls_is_what_the_parser_would_make_of_it() {
        let parsed = Cli::try_parse_from(["vmstage", "boot"]).unwrap();
        assert_eq!(format!("{:?}", Cli::by_init()), format!("{parsed:?}"));
    }
}
