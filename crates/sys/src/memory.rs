//! Memory that outlives a process: files without a name, with numbers in them that several
//! processes see.
//!
//! *Lives here:* making such a file, and mapping it.
//! *Does not live here:* the meaning of the numbers.
//!
//! If a process is killed, its stores stay visible to the processes that look afterwards: the pages
//! belong to the file and not to the process. The memory does not survive the machine.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::raw;

/// Returns a new file in memory that nobody else can open by name; `name` helps with debugging.
pub fn file(name: &str) -> Result<OwnedFd, Errno> {
    memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
}

/// Returns whether a descriptor belongs to a file that [`file()`] made, here or in another process.
pub fn is_file(fd: impl AsFd) -> bool {
    fcntl_get_seals(fd).is_ok()
}

/// Numbers in a file in memory, initially zero.
#[derive(Debug)]
pub struct Words(raw::Mapping);

impl Words {
    /// Maps the first `count` numbers of a file made by [`file()`], and grows the file as far as
    /// necessary.
    ///
    /// Only pages that are written take memory.
    ///
    /// # Errors
    /// `EINVAL` for a file of another kind, or one that is too short and cannot grow; those of
    /// mmap(2).
    pub fn map(file: impl AsFd, count: usize) -> Result<Self, Errno> {
        let bytes = count.checked_mul(size_of::<AtomicU64>()).ok_or(Errno::OVERFLOW)?;
        let wanted = u64::try_from(bytes).map_err(|_| Errno::OVERFLOW)?;
        let length = || Ok::<u64, Errno>(u64::try_from(fstat(&file)?.st_size).unwrap_or(0));
        if length()? < wanted {
            ftruncate(&file, wanted)?;
        }
        // If somebody could shrink the file, touching the removed part would kill this process.
        if !fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            fcntl_add_seals(&file, SealFlags::SHRINK)?;
        }
        if length()? < wanted {
            return Err(Errno::INVAL);
        }
        raw::Mapping::new(file.as_fd(), count).map(Self)
    }

    /// Returns numbers that only this process sees and that end with it. Only pages that are
    /// written take memory.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn private(count: usize) -> Result<Self, Errno> {
        raw::Mapping::private(count).map(Self)
    }

    /// Returns the numbers.
    pub fn as_slice(&self) -> &[AtomicU64] {
        self.0.words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn what_one_mapping_stores_another_one_sees() {
        let memory = file("test").unwrap();
        assert!(is_file(&memory));
        let ours = Words::map(&memory, 1000).unwrap();
        assert!(ours.as_slice().iter().all(|word| word.load(SeqCst) == 0));
        ours.as_slice()[999].store(7, SeqCst);
        drop(ours);
        let theirs = Words::map(&memory, 1000).unwrap();
        assert_eq!((theirs.as_slice().len(), theirs.as_slice()[999].load(SeqCst)), (1000, 7));
    }

    #[test]
    fn numbers_of_ones_own_need_no_file() {
        let words = Words::private(1 << 20).unwrap();
        assert_eq!(words.as_slice().len(), 1 << 20);
        words.as_slice()[1000].store(7, SeqCst);
        assert_eq!([999, 1000].map(|at| words.as_slice()[at].load(SeqCst)), [0, 7]);
    }

    #[test]
    fn a_mapped_file_can_grow_and_never_shrink() {
        let memory = file("test").unwrap();
        let words = Words::map(&memory, 10).unwrap();
        assert_eq!(ftruncate(&memory, 0), Err(Errno::PERM));
        let more = Words::map(&memory, 5000).unwrap();
        words.as_slice()[9].store(3, SeqCst);
        assert_eq!(more.as_slice()[9].load(SeqCst), 3);
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let regular = tempfile::tempfile().unwrap();
        assert!(!is_file(&regular));
        assert_eq!(Words::map(&regular, 10).unwrap_err(), Errno::INVAL);
        assert_eq!(Words::map(file("test").unwrap(), usize::MAX).unwrap_err(), Errno::OVERFLOW);
    }
}
