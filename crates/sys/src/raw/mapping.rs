//! Memory that is shared through a file.
//!
//! *Lives here:* mapping numbers, and giving the memory back.
//! *Does not live here:* the meaning of the numbers.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

use super::last_errno;

/// Numbers in a file that is mapped into this process, and perhaps into others.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<AtomicU64>,
    count: usize,
}

impl Mapping {
    /// Maps the first `count` numbers of a file that is long enough and cannot shrink.
    pub(crate) fn new(file: BorrowedFd<'_>, count: usize) -> Result<Self, Errno> {
        Self::map(libc::MAP_SHARED, file.as_raw_fd(), count)
    }

    /// Allocates memory for `count` numbers, initially zero.
    pub(crate) fn private(count: usize) -> Result<Self, Errno> {
        Self::map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, count)
    }

    fn map(flags: c_int, file: RawFd, count: usize) -> Result<Self, Errno> {
        let length = count.checked_mul(size_of::<AtomicU64>()).ok_or(Errno::OVERFLOW)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // JUSTIFICATION: neither std nor rustix offers a safe mapping.
        // SAFETY: with a null address the kernel takes memory that nothing else uses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file, 0) };
        if address == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let address = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { address, count })
    }

    /// Returns the numbers.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // JUSTIFICATION: Rust did not allocate the memory. SAFETY: `map` mapped `count` numbers at
        // this page-aligned address, and they stay until `drop`; every bit pattern is a number;
        // other processes change them only as atomics or by system calls.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.count) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let length = self.count.saturating_mul(size_of::<AtomicU64>());
        // JUSTIFICATION: only `munmap` gives back what `mmap` took. SAFETY: the range is the one
        // that `map` mapped, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.address.as_ptr().cast(), length) };
    }
}

// SAFETY: atomics may be used from every thread, and the mapping belongs to the process, not to a
// thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives nothing but atomics.
unsafe impl Sync for Mapping {}
