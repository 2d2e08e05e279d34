//! What the program carries for images, and how the static build is linked: with the libblkid
//! that `make` built for musl, and for size. A glibc build uses the system's libblkid.

#[path = "src/cli.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "only the definition is needed"
)]
mod cli;
#[path = "build/pages.rs"]
#[allow(dead_code, reason = "tests read more of it")]
mod pages;
#[path = "src/text.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "only the command line's is needed"
)]
mod text;

use std::path::Path;
use std::{env, fs, io};

use clap::CommandFactory;

/// What the command line's definition takes from the program.
mod config {
    pub(crate) fn parse_duration(_: &str) -> Result<std::time::Duration, String> {
        unreachable!("nothing is parsed here")
    }
}

/// Files that `vmstage install` puts into an image as they are.
const CARRIED: [&str; 10] = [
    "packaging/cloud-init/50-vmstage",
    "packaging/vmstage.toml",
    "systemd/80-vmstage.preset",
    "systemd/condor.service.d/vmstage.conf",
    "systemd/vmstage-watch.service",
    "systemd/vmstage.service",
    "systemd/vmstage.service.d/nss-user-lookup.conf",
    "sysvinit/rc.local.sl",
    "sysvinit/rc.local.ubuntu",
    "sysvinit/vmstage",
];

fn main() -> io::Result<()> {
    carry()?;
    link();
    Ok(())
}

/// Packs what is carried into one file: for each a line with its name and length, and then its
/// content; as one deflate stream, since texts of one kind are alike.
fn carry() -> io::Result<()> {
    for source in [
        "build/pages.rs",
        "build/settings.rs",
        "src/cli.rs",
        "src/cli/deferred.rs",
        "src/cli/plan.rs",
        "src/text.rs",
    ] {
        println!("cargo::rerun-if-changed={source}");
    }
    let mut files = pages::all(cli::Cli::command())?;
    for path in CARRIED {
        println!("cargo::rerun-if-changed={path}");
        files.push((path.into(), fs::read(path)?));
    }
    let mut all = Vec::new();
    for (name, content) in files {
        all.extend(format!("{name} {}\n", content.len()).bytes());
        all.extend(content);
    }
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let out = Path::new(&out);
    let packed = miniz_oxide::deflate::compress_to_vec(&all, 10);
    fs::write(out.join("carried"), packed)
}

fn link() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("musl") {
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));

    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let directory = here.join(match arch.as_str() {
        "x86_64" => "target/libblkid/lib".into(),
        other => format!("target/libblkid-{other}/lib"),
    });
    let library = directory.join("libblkid.a");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.exists() {
        println!(
            "cargo::error=a musl build needs {}: run `make TARGET={arch}-unknown-linux-musl`, which builds it",
            library.display()
        );
        return;
    }
    println!("cargo::rustc-link-search=native={}", directory.display());

    // The first definition of a symbol counts: src/legacy/no_backtrace.rs before libunwind,
    // src/heap.rs and src/bytes.rs before musl.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,muldefs");

    // What is relocated when it starts takes a bit each and not 24 bytes (musl 1.2.4 on): the
    // program does it itself, on any kernel.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");

    for script in ["no-unwind-tables.ld", "boot-order.ld"] {
        let script = here.join("packaging").join(script);
        println!("cargo::rerun-if-changed={}", script.display());
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
}
