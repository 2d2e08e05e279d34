//! Where memory comes from: one heap for Rust and, in the static binary, for C.
//!
//! musl's own allocator maps and unmaps a page for nearly every buffer. `malloc` and the
//! others, which libblkid and most of musl call, are defined here first; build.rs has the
//! linker take these. What musl allocates for itself alone (atexit(3), time zones) stays its
//! own.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::process::abort;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::yield_now;

use dlmalloc::Dlmalloc;

/// A tenth of a second, or so.
const MOST_TURNS: u32 = 100_000;

/// With a lock of its own, for it is taken thousands of times in each run, and always free:
/// this program has no threads.
pub(crate) struct Heap {
    memory: UnsafeCell<Dlmalloc>,
    is_taken: AtomicBool,
}

// SAFETY: what is not Sync in it is used by one at a time.
unsafe impl Sync for Heap {}

impl Heap {
    pub(crate) const fn new() -> Heap {
        Heap {
            memory: UnsafeCell::new(Dlmalloc::new()),
            is_taken: AtomicBool::new(false),
        }
    }

    #[inline(always)]
    fn with<T>(&self, work: impl FnOnce(&mut Dlmalloc) -> T) -> T {
        if self.is_taken.swap(true, Ordering::Acquire) {
            self.wait();
        }
        // SAFETY: nobody else has it until it is given back in the next line.
        let done = work(unsafe { &mut *self.memory.get() });
        self.is_taken.store(false, Ordering::Release);
        done
    }

    /// Nobody has it for long. Where it was taken by this thread, a panic in it is being told.
    #[cold]
    fn wait(&self) {
        for _ in 0..MOST_TURNS {
            yield_now();
            if !self.is_taken.swap(true, Ordering::Acquire) {
                return;
            }
        }
        abort();
    }
}

// SAFETY: each call is passed on to the one heap of which all memory here comes. What it gives
// may be freed and, with its natural alignment, grown without size and alignment.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and alignment will do.
        self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        // SAFETY: the caller's memory is of this heap, and used no more.
        self.with(|heap| unsafe { heap.c_free(memory) });
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and alignment will do.
        self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's memory is of this heap, and has this size and alignment.
        self.with(|heap| unsafe { heap.realloc(memory, layout.size(), layout.align(), size) })
    }
}

#[cfg(all(target_env = "musl", panic = "abort"))]
mod for_c {
    //! ISO C, 7.22.3: all of them, so that none of musl's own meets memory of this heap. What
    //! musl has beside them (posix_memalign, strdup, ...) calls these; but for
    //! malloc_usable_size, which nobody here calls.

    use std::ffi::c_void;
    use std::ptr;

    use nix::errno::Errno;

    use crate::ALLOCATOR;

    /// NULL with an errno, where there is no memory.
    fn or_no_memory(memory: *mut u8) -> *mut c_void {
        if memory.is_null() {
            Errno::ENOMEM.set();
        }
        memory.cast()
    }

    #[unsafe(no_mangle)]
    extern "C" fn malloc(size: usize) -> *mut c_void {
        // SAFETY: any size will do.
        or_no_memory(ALLOCATOR.with(|heap| unsafe { heap.c_malloc(size) }))
    }

    #[unsafe(no_mangle)]
    extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        let memory = match count.checked_mul(size) {
            // SAFETY: any size will do, with the alignment that all memory has.
            Some(size) => ALLOCATOR.with(|heap| unsafe { heap.calloc(size, align_of::<u128>()) }),
            None => ptr::null_mut(),
        };
        or_no_memory(memory)
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn realloc(memory: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: the caller's memory is of this heap, or NULL.
        or_no_memory(ALLOCATOR.with(|heap| unsafe { heap.c_realloc(memory.cast(), size) }))
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn free(memory: *mut c_void) {
        // SAFETY: the caller's memory is of this heap and used no more, or NULL.
        ALLOCATOR.with(|heap| unsafe { heap.c_free(memory.cast()) })
    }

    #[unsafe(no_mangle)]
    extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
        if !alignment.is_power_of_two() {
            Errno::EINVAL.set();
            return ptr::null_mut();
        }
        // SAFETY: the alignment is a power of two, and any size will do.
        or_no_memory(ALLOCATOR.with(|heap| unsafe { heap.c_memalign(alignment, size) }))
    }
}
