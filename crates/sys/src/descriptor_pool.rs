//! Low descriptors from which a process is started.
//!
//! A cloned child gets a copy of its parent's table of descriptors and closes nearly all of it at
//! exec. Both take longer the more services there are. If everything that the child needs is below
//! a ceiling, the child can share the table first and then copy only the part below the ceiling. It
//! closes the descriptors of other ranges at once; otherwise the end of another start would be seen
//! only when this child has ended.
//!
//! *Lives here:* the descriptors kept for that. *Does not live here:* the child's side (`raw`).
//!
//! **Source:** `close_range(2)`, `CLOSE_RANGE_UNSHARE`, Linux 5.9. Where it is missing there is no
//! pool, and children get a copy of everything.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::io::{DupFlags, Errno, dup3, fcntl_dupfd_cloexec};

use crate::raw::{self, EXTRAS, Stack};

/// The most descriptors that one start needs: directory, the three standard ones, the extra ones,
/// the report.
const CELLS: usize = 5 + EXTRAS;

/// Stacks that are kept for the next start.
const KEPT_STACKS: usize = 8;

/// A pool of ranges of descriptors, one for each of several starts at a time.
#[derive(Debug, Clone)]
pub struct DescriptorPool(Rc<Pool>);

#[derive(Debug)]
struct Pool {
    /// The open file behind every unused cell, which keeps the cell's number reserved.
    null: OwnedFd,
    /// The number of the descriptor that an unused cell duplicates.
    model: RawFd,
    free: RefCell<Vec<[OwnedFd; CELLS]>>,
    /// Stacks that no child uses any more.
    stacks: RefCell<Vec<Stack>>,
}

impl DescriptorPool {
    /// Returns a pool of `count` ranges made of the lowest free descriptors. Each is a duplicate of
    /// `null`, which must stay open as long as the pool is used.
    ///
    /// Call it before much else is open, from a process with one thread.
    ///
    /// # Errors
    /// `ENOSYS` and others if the kernel does not offer what is needed; `EMFILE`.
    pub fn new(null: impl AsFd, count: usize) -> Result<Self, Errno> {
        raw::try_unsharing()?;
        let another = || fcntl_dupfd_cloexec(&null, 0);
        let kept = another()?;
        let mut free = Vec::with_capacity(count);
        for _ in 0..count {
            let cells: Vec<OwnedFd> = (0..CELLS).map(|_| another()).collect::<Result<_, _>>()?;
            // Exactly `CELLS` descriptors were made, so the conversion succeeds.
            free.extend(<[OwnedFd; CELLS]>::try_from(cells));
        }
        // `take` pops from the end, so the lowest range comes last.
        free.reverse();
        let model = null.as_fd().as_raw_fd();
        Ok(Self(Rc::new(Pool { null: kept, model, free: RefCell::new(free), stacks: RefCell::default() })))
    }

    /// Returns whether a range is free. A used range is free again soon, because no other program
    /// keeps it.
    pub fn has_free(&self) -> bool {
        !self.0.free.borrow().is_empty()
    }

    /// Returns a free range, if there is one.
    pub(crate) fn take(&self) -> Option<PooledDescriptors> {
        let cells = self.0.free.borrow_mut().pop()?;
        Some(PooledDescriptors {
            cells: Some(cells),
            used: 0,
            changed: [false; CELLS],
            pool: Rc::clone(&self.0),
        })
    }

    /// Returns a stack for a child to run on.
    ///
    /// Getting memory from the kernel for each start, and giving it back, takes longer than all the
    /// work done on it.
    pub(crate) fn stack(&self) -> Stack {
        self.0.stacks.borrow_mut().pop().unwrap_or_else(raw::stack)
    }

    /// Keeps one stack for the next start, and frees the others that many simultaneous starts have
    /// needed.
    pub fn rest(&self) {
        self.0.stacks.borrow_mut().truncate(1);
    }

    /// Keeps a stack that no child uses any more.
    pub(crate) fn keep(&self, stack: Stack) {
        let mut stacks = self.0.stacks.borrow_mut();
        if stacks.len() < KEPT_STACKS {
            stacks.push(stack);
        }
    }
}

/// A range in use. Dropping it frees the range.
#[derive(Debug)]
pub(crate) struct PooledDescriptors {
    cells: Option<[OwnedFd; CELLS]>,
    used: usize,
    /// Which cells hold something other than the placeholder.
    changed: [bool; CELLS],
    pool: Rc<Pool>,
}

impl PooledDescriptors {
    /// Returns the lowest and the highest number of the descriptors that the child needs besides
    /// the standard ones.
    pub(crate) fn bounds(&self) -> (RawFd, RawFd) {
        let numbers = || self.cells.iter().flatten().map(AsRawFd::as_raw_fd);
        (numbers().min().unwrap_or_default(), numbers().max().unwrap_or_default())
    }

    /// Duplicates `fd` to a number within the bounds.
    pub(crate) fn hold(&mut self, fd: BorrowedFd<'_>) -> Result<RawFd, Errno> {
        let cell = self.cells.as_mut().and_then(|cells| cells.get_mut(self.used)).ok_or(Errno::MFILE)?;
        // Most children read from the very file that a free cell holds anyway.
        if fd.as_raw_fd() != self.pool.model {
            dup3(fd, cell, DupFlags::CLOEXEC)?;
            if let Some(changed) = self.changed.get_mut(self.used) {
                *changed = true;
            }
        }
        self.used = self.used.saturating_add(1);
        Ok(cell.as_raw_fd())
    }
}

impl Drop for PooledDescriptors {
    fn drop(&mut self) {
        let Some(mut cells) = self.cells.take() else { return };
        for (cell, _) in cells.iter_mut().zip(self.changed).filter(|(_, changed)| *changed) {
            // This cannot fail: the descriptor is valid and the number is ours.
            let _ = dup3(&self.pool.null, cell, DupFlags::CLOEXEC);
        }
        self.pool.free.borrow_mut().push(cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    #[test]
    fn a_range_of_the_pool_holds_what_it_is_given_until_it_is_free_again() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let pool = match DescriptorPool::new(&null, 1) {
            Ok(pool) => pool,
            // An older kernel. Tests elsewhere cover starts without a pool there.
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => return,
            Err(errno) => panic!("{errno}"),
        };
        let (reader, writer) = pipe().unwrap();
        let mut pooled = pool.take().unwrap();
        assert!(pool.take().is_none());
        let (lowest, highest) = pooled.bounds();
        for _ in 0..CELLS {
            assert!((lowest..=highest).contains(&pooled.hold(writer.as_fd()).unwrap()));
        }
        assert_eq!(pooled.hold(writer.as_fd()), Err(Errno::MFILE));
        drop(writer);
        drop(pooled);
        // A descriptor that equals the placeholder need not be duplicated, and is there all the
        // same.
        let mut pooled = pool.take().unwrap();
        let number = pooled.hold(null.as_fd()).unwrap();
        let held = format!("/proc/thread-self/fd/{number}");
        assert_eq!(std::fs::read_link(held).unwrap().to_str(), Some("/dev/null"));
        drop(pooled);
        // Nobody holds the other end of the pipe any more.
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
        assert!(pool.take().is_some());
    }
}
