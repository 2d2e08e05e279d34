//! The command line of `vmstage plan`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Deferred, Format};
use crate::config;

#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Choose the closest flavor that has all that is asked for
    #[command(after_help = FLAVOR_HELP)]
    Flavor(Deferred<FlavorArgs>),

    /// Choose the set of flavors that wastes least on given requests
    #[command(after_help = GRID_HELP)]
    Grid(Deferred<GridArgs>),

    /// Find the newest copy of an image, and the clouds that have to get it
    #[command(after_help = IMAGE_HELP)]
    Image(Deferred<ImageArgs>),

    /// Say whether a snapshot of a server is finished
    #[command(after_help = SNAPSHOT_HELP)]
    Snapshot(Deferred<SnapshotArgs>),

    /// Show which servers are past their end, and which have none
    #[command(after_help = EXPIRE_HELP)]
    Expire(Deferred<ExpireArgs>),
}

#[derive(Debug, Args)]
pub struct FlavorArgs {
    /// What `openstack flavor list --long --all -f json` printed; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Memory, such as 1G or 512M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Cores
    #[arg(long, value_name = "NUMBER")]
    pub cores: Option<String>,
    /// Space on the ephemeral disk, such as 10G
    #[arg(long, value_name = "SIZE")]
    pub scratch: Option<String>,
    /// All at once: m1024c1s10, c8-30gb-186, SCS-2V-4-20, or memory=1G,cores=1,scratch=10G
    #[arg(long, value_name = "REQUEST", conflicts_with_all = ["memory", "cores", "scratch"])]
    pub request: Option<String>,
    /// What `openstack image show -f json` printed: the image has to fit, too
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// A property that the flavor must have, such as a GPU; may be repeated
    #[arg(long = "property", value_name = "KEY[=VALUE]")]
    pub properties: Vec<String>,
    /// What is to be spared first, such as memory,cores [default: cores,memory,scratch,root,swap]
    #[arg(long, value_name = "LIST")]
    pub rank: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct ImageArgs {
    /// What `openstack image show -f json` printed of a copy, or `image list --long`, in a
    /// folder of its cloud's name; or as CLOUD=FILE
    #[arg(value_name = "FILE", required_unless_present = "targets")]
    pub files: Vec<PathBuf>,
    /// The image's name [default: the one of the copies that were shown]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What `openstack image list --long -f json` printed of a cloud that is to have it; may be
    /// repeated [default: all clouds]
    #[arg(long = "to", value_name = "FILE")]
    pub targets: Vec<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// What `openstack image show -f json` printed of the snapshot; - for standard input
    #[arg(value_name = "FILE")]
    pub image: PathBuf,
    /// What `openstack server show -f json` printed of its server, asked before the image
    #[arg(long, value_name = "FILE")]
    pub server: PathBuf,
    /// An image that is saved for longer is stuck, and one that nobody goes on with
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = config::parse_duration)]
    pub patience: Duration,
    /// Decide as if it was this time: RFC 3339, or Unix seconds
    #[arg(long, value_name = "TIME")]
    pub now: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct ExpireArgs {
    /// What `openstack server list` or `server show` printed; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Print the commands, too, that delete what is overdue; the table as comments of a shell
    #[arg(long)]
    pub commands: bool,
    /// Decide as if it was this time: RFC 3339, or Unix seconds
    #[arg(long, value_name = "TIME")]
    pub now: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct GridArgs {
    /// Requests, one a line: MiB, cores and KiB of disk, or a name; - for standard input
    #[arg(value_name = "FILE")]
    pub requests: PathBuf,
    /// At most so many flavors
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub flavors: u64,
    /// What counts how much, such as cores=2,memory=1,scratch=0.5 [default: all the same]
    #[arg(long, value_name = "LIST")]
    pub weights: Option<String>,
    /// What `openstack flavor list --long --all -f json` printed: these need not be made
    #[arg(long, value_name = "FILE")]
    pub have: Option<PathBuf>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

const FLAVOR_HELP: &str = "\
The closest is the one with the fewest spare cores, then the least spare memory, scratch,
root disk and swap; then the first by its name. Scratch is the ephemeral disk, never the
root disk, which has to hold the image (size, virtual size, min_disk). Nova does not check
a root disk of 0 GiB. Disabled flavors are left out, and those whose properties need what
was not asked for: GPUs and other devices, traits, aggregates, dedicated hosts.

The first line is the name, and empty if none fits. GB is GiB.

  openstack flavor list --long --all -f json | vmstage plan flavor --request m1024c1s10 -

Exit codes: 0 found; 1 unusable input; 2 wrong usage; 3 none fits.";

const GRID_HELP: &str = "\
A request gets the flavor of the set that wastes least on it. What is wasted: of each of
cores, memory and scratch (given - asked) / given; the mean of these, over all requests.

A line has three columns, as HTCondor prints them: RequestMemory in MiB, RequestCpus, and
RequestDisk in KiB; or one name, such as m1024c1s10. Lines with undefined are left out,
and counted. Scratch is given in whole GiB.

  condor_history -af RequestMemory RequestCpus RequestDisk | vmstage plan grid -

It says whether a better set can exist, and how much better it can be at most. The
commands make what is missing; the root disk is then as large as the image (--disk).

Exit codes: 0 chosen; 1 unusable input; 2 wrong usage.";

const IMAGE_HELP: &str = "\
Copies are of the same content if they have the same hash under the same algorithm; else
the same MD5; else the same recorded sha256 (owner_specified.openstack.sha256, sha256). The
newest is the one that was created last, among those that are active. For each cloud:
there (whatever its name is), copy, conflict (the name is taken by other content), or
cannot tell. Then the commands that copy it; the directory where they run has to have room.

  vmstage plan image --name sl5 --to cloudB/images.json cloudA/sl5.json cloudB/sl5.json

Exit codes: 0 nothing to do; 10 something to copy; 4 conflict; 5 cannot tell; 1 unusable
input, or no copy to take; 2 wrong usage. The worst counts: 4, 5, 10.";

const SNAPSHOT_HELP: &str = "\
A snapshot is finished if its image is active, has a size, and its server has no task
any more. An active image alone may still be written to.

  while openstack server show -f json S >server.json
        openstack image show -f json I | vmstage plan snapshot - --server server.json
        [ $? = 75 ]; do sleep 10; done

Exit codes: 0 finished; 75 not yet; 1 failed, stuck, in volumes, or unusable input; 2 wrong
usage.";

const EXPIRE_HELP: &str = "\
A server's end is the earliest of vmstage_deadline and vmstage_lifetime in its
properties, which vmstage follows in the guest. A lifetime counts from the launch, which
`server show` prints, else from the creation. Put 'Created At' before Properties:

  openstack server list --long -c ID -c Name -c Status -c 'Created At' -c Properties \\
      -f json | vmstage plan expire -

Exit codes: 0 none is overdue; 10 some are; 1 unusable input, or none is and of some it
cannot be told; 2 wrong usage.";
