//! Writes the man pages and the shell completions into the directory that it is given.

#[path = "../build/pages.rs"]
#[allow(dead_code, reason = "tests read more of it")]
mod pages;

use std::path::Path;
use std::{env, fs, io};

use clap::CommandFactory;
use vmstage::cli::Cli;

fn main() -> io::Result<()> {
    let directory = env::args_os()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: generate DIRECTORY"))?;
    for (name, content) in pages::all(Cli::command())? {
        fs::write(Path::new(&directory).join(name), content)?;
    }
    Ok(())
}
