//! The command line of `vmstage plan`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Choose the closest flavor that has all that is asked for
    #[command(after_help = FLAVOR_HELP)]
    Flavor(FlavorArgs),

    /// Choose the set of flavors that wastes least on given requests
    #[command(after_help = GRID_HELP)]
    Grid(GridArgs),
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
