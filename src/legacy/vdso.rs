//! Dodging a broken vDSO.
//!
//! In the vDSO of 2.6.18-238.el5 every clock function ends a musl program with
//! SIGSEGV. musl looks for the vDSO in the auxiliary vector at the first clock
//! call and makes system calls where there is none, so the entry has to be gone
//! before that call.
//!
//! Unsafe code for lack of another way: only a walk past the end of the
//! environment leads to the auxiliary vector.

#![allow(unsafe_code)]

use nix::libc::{AT_IGNORE, AT_NULL, AT_SYSINFO_EHDR, c_ulong};
use nix::sys::utsname::uname;

unsafe extern "C" {
    static environ: *mut c_ulong;
}

/// Makes musl read the clock by system calls on every 2.6 kernel. To be called
/// before anything looks at a clock.
pub fn avoid_broken() {
    // glibc has looked for the vDSO before main; nobody runs it on such a kernel.
    if cfg!(target_env = "musl") && is_2_6() {
        ignore_vdso();
    }
}

fn is_2_6() -> bool {
    uname().is_ok_and(|kernel| kernel.release().as_encoded_bytes().starts_with(b"2.6."))
}

fn ignore_vdso() {
    // SAFETY: the kernel puts the auxiliary vector, pairs of a tag and a value
    // up to AT_NULL, behind the NULL that ends the environment, on the stack of
    // the program, which may write there. `environ` still points to what the
    // kernel put there: changing the environment takes unsafe code, and no
    // other file of this program that has any does so.
    unsafe {
        let mut word = environ;
        while *word != 0 {
            word = word.add(1);
        }
        let mut tag = word.add(1);
        while *tag != AT_NULL {
            if *tag == AT_SYSINFO_EHDR {
                *tag = AT_IGNORE;
            }
            tag = tag.add(2);
        }
    }
}
