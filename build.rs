//! How the static build is linked: with the libblkid that `make` built for musl, and
//! for size. A glibc build uses the system's libblkid.

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("musl") {
        return;
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));

    let directory = here.join("target/libblkid/lib");
    let library = directory.join("libblkid.a");
    println!("cargo::rerun-if-changed={}", library.display());
    if !library.exists() {
        println!(
            "cargo::error=a musl build needs {}: run `make`, which builds it",
            library.display()
        );
        return;
    }
    println!("cargo::rustc-link-search=native={}", directory.display());

    // The first definition of a symbol counts: src/legacy/no_backtrace.rs before libunwind.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,muldefs");

    // What is relocated when it starts takes a bit each and not 24 bytes (musl 1.2.4 on): the
    // program does it itself, on any kernel.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");

    let script = here.join("packaging/no-unwind-tables.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
}
