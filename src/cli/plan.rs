//! The command line of `vmstage plan`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Subcommand)]
pub enum PlanCommand {
    /// Choose the closest flavor that has all that is asked for
    #[command(after_help = FLAVOR_HELP)]
    Flavor(FlavorArgs),
}

#[derive(Debug, Args)]
pub struct FlavorArgs {
    /// What `openstack flavor list --long --all -f json` printed; - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Memory, such as 1G or 512M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
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

const FLAVOR_HELP: &str = "\
The closest is the one with the fewest spare cores, then the least spare memory, scratch,
root disk and swap; then the first by its name. Scratch is the ephemeral disk, never the
root disk, which has to hold the image (size, virtual size, min_disk). Nova does not check
a root disk of 0 GiB. Disabled flavors are left out, and those whose properties need what
was not asked for: GPUs and other devices, traits, aggregates, dedicated hosts.

The first line is the name, and empty if none fits. GB is GiB.

  openstack flavor list --long --all -f json | vmstage plan flavor --request m1024c1s10 -

Exit codes: 0 found; 1 unusable input; 2 wrong usage; 3 none fits.";
