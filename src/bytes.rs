//! Copying and comparing bytes, in the static binary for x86_64. musl copies with `rep movsq`,
//! which takes as long for a few bytes as for some hundred, and compares one byte after the
//! other; a boot copies four thousand times, mostly less than 32 bytes. build.rs has the
//! linker take these. For other architectures musl's copying is good.

#![allow(unsafe_code)]

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};

/// ISO C, 7.24.2.1. Up to 32 bytes are read as two halves, which may overlap, before any is
/// written; of more, the last 16 are written once more at the end: up to 512 go 16 at a time,
/// and longer ones by the processor's own loop.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, size: usize) -> *mut c_void {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 20f",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "cmp rdx, 32",
        "ja 40f",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        // Less than 16.
        "20:",
        "cmp edx, 8",
        "jb 21f",
        "mov rcx, [rsi]",
        "mov rsi, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], rsi",
        "ret",
        "21:",
        "cmp edx, 4",
        "jb 22f",
        "mov ecx, [rsi]",
        "mov esi, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], esi",
        "ret",
        // The first, the middle and the last of three, which of one are the same.
        "22:",
        "test edx, edx",
        "jz 23f",
        "mov r10d, edx",
        "shr r10d",
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + r10]",
        "movzx r9d, byte ptr [rsi + rdx - 1]",
        "mov [rdi], cl",
        "mov [rdi + r10], r8b",
        "mov [rdi + rdx - 1], r9b",
        "23:",
        "ret",
        // More than 32.
        "40:",
        "cmp rdx, 512",
        "ja 42f",
        "lea r8, [rdi + rdx - 16]",
        "41:",
        "movups xmm0, [rsi]",
        "movups [rdi], xmm0",
        "add rsi, 16",
        "add rdi, 16",
        "cmp rdi, r8",
        "jb 41b",
        "movups [r8], xmm1",
        "ret",
        "42:",
        "lea r8, [rdi + rdx - 16]",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "movups [r8], xmm1",
        "ret",
    )
}

/// ISO C, 7.24.4.1.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(one: *const c_void, other: *const c_void, size: usize) -> c_int {
    naked_asm!(
        "cmp rdx, 8",
        "jb 21f",
        "20:",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 25f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rdx, 8",
        "jae 20b",
        // Less than eight are left.
        "21:",
        "test edx, edx",
        "jz 23f",
        "22:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jnz 24f",
        "inc rdi",
        "inc rsi",
        "dec edx",
        "jnz 22b",
        "23:",
        "xor eax, eax",
        "24:",
        "ret",
        // The first of the eight that differs decides.
        "25:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Different ones side by side, with nothing that repeats at a power of two.
    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n % 251) as u8 + 1).collect()
    }

    #[test]
    fn what_is_asked_for_is_copied_and_nothing_beside_it() {
        let lengths = (0..=600).chain([4095, 4096, 70_000]);
        for (length, at) in lengths.flat_map(|length| [0, 1, 7, 13].map(|at| (length, at))) {
            let from = bytes(at + length);
            let mut to = vec![0; at + length + 16];
            // SAFETY: both have as many bytes from there on.
            let said = unsafe {
                let to = to.as_mut_ptr().add(at).cast();
                memcpy(to, from.as_ptr().add(at).cast(), length) == to
            };
            assert!(said, "{length} at {at}: the destination is returned");
            let (before, rest) = to.split_at(at);
            let (copied, behind) = rest.split_at(length);
            assert_eq!(copied, &from[at..], "{length} at {at}");
            let mut beside = before.iter().chain(behind);
            assert!(beside.all(|byte| *byte == 0), "{length} at {at}");
        }
    }

    #[test]
    fn the_first_byte_that_differs_decides() {
        let compare = |one: &[u8], other: &[u8], length| {
            // SAFETY: both have as many bytes.
            unsafe { memcmp(one.as_ptr().cast(), other.as_ptr().cast(), length) }
        };
        for length in 0..70 {
            let one = bytes(length);
            assert_eq!(compare(&one, &one, length), 0, "{length}");
            for (differs, value) in (0..length).flat_map(|n| [0, 0x7f, 0x80, 0xff].map(|v| (n, v)))
            {
                let mut other = one.clone();
                other[differs] = value;
                // What comes later says the opposite, or lies behind the end.
                if let Some(last) = other.last_mut().filter(|_| differs + 1 < length) {
                    *last = if value < one[differs] { 0xff } else { 0 };
                }
                let expected = one.cmp(&other) as c_int;
                assert_eq!(
                    compare(&one, &other, length).signum(),
                    expected,
                    "{length} {differs}"
                );
                assert_eq!(
                    compare(&other, &one, length).signum(),
                    -expected,
                    "{length} {differs}"
                );
                assert_eq!(compare(&one, &other, differs), 0, "{length} {differs}");
            }
        }
    }
}
