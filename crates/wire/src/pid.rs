//! *Lives here:* a process number that cannot be zero or negative, so that `kill(0, …)` cannot be
//! written.
//!
//! *Does not live here:* finding out whether the process exists.

use std::{fmt, num::NonZeroI32};

/// A process number that is greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// Returns the process number, or `None` if `raw` is zero or negative.
    pub const fn new(raw: i32) -> Option<Self> {
        match NonZeroI32::new(raw) {
            Some(id) if id.is_positive() => Some(Self(id)),
            _ => None,
        }
    }

    /// Returns the number, always greater than zero.
    pub const fn get(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Pid;

    #[test]
    fn zero_and_negative_numbers_are_no_process_ids() {
        for (raw, expected) in
            [(i32::MIN, None), (-1, None), (0, None), (1, Some(1)), (i32::MAX, Some(i32::MAX))]
        {
            assert_eq!(Pid::new(raw).map(Pid::get), expected, "{raw}");
        }
    }

    #[test]
    fn a_process_id_prints_as_its_number() {
        assert_eq!(Pid::new(4711).unwrap().to_string(), "4711");
    }
}
