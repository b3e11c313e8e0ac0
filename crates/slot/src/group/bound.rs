//! The limits that a control group has for a service as a whole.
//!
//! *Lives here:* which limits there are, and their files in a service directory. *Does not live
//! here:* the files of the kernel (`leaf`).

/// The highest percentage of a processor.
const MAX_PERCENT: u64 = 1_000_000;

/// A limit on a service as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Bytes of memory. Beyond them, a process of the service is killed.
    Memory,
    /// Bytes of memory. Beyond them, the service is slowed down and its memory reclaimed.
    MemoryHigh,
    /// Percent of one processor.
    CpuPercent,
    /// Number of processes and threads.
    Pids,
}

impl Bound {
    /// All bounds.
    pub const ALL: [Self; 4] = [Self::Memory, Self::MemoryHigh, Self::CpuPercent, Self::Pids];

    /// Returns the name of its file in `cgroup/`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::MemoryHigh => "memory-high",
            Self::CpuPercent => "cpu-percent",
            Self::Pids => "pids",
        }
    }

    /// Returns the path of its file in a service directory.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Memory => "cgroup/memory",
            Self::MemoryHigh => "cgroup/memory-high",
            Self::CpuPercent => "cgroup/cpu-percent",
            Self::Pids => "cgroup/pids",
        }
    }

    /// Returns an error if a number cannot be this bound.
    ///
    /// # Errors
    /// Tells what would be right.
    pub fn check(self, number: u64) -> Result<(), &'static str> {
        match (self, number) {
            (Self::CpuPercent, 0 | MAX_PERCENT..) => {
                Err("must be a number of percent from 1 on, of which one processor has 100")
            }
            (_, 0) => Err("must be at least 1"),
            (_, number) if i64::try_from(number).is_err() => Err("is more than any machine has"),
            _ => Ok(()),
        }
    }
}
