//! *Lives here:* when a slot that another program has made is adapted to the definition.
//!
//! *Does not live here:* recognizing such a slot, and changing it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// How many milliseconds such a slot is left alone, because the program that made it may still
/// change or remove it.
const SETTLES_MS: u64 = 1_500;

/// The slots that wait, each with its time in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Adoptions(BTreeMap<OsString, u64>);

impl Adoptions {
    /// Notes that somebody has made the slot of a profile just now.
    pub fn made(&mut self, now: u64, entry: &OsStr) {
        self.0.insert(entry.to_owned(), now.saturating_add(SETTLES_MS));
    }

    /// Notes that a profile had a slot when the watch began.
    pub fn found(&mut self, entry: &OsStr) {
        self.0.insert(entry.to_owned(), 0);
    }

    /// Returns the profiles whose time has come, and forgets them.
    pub fn take_due(&mut self, now: u64) -> Vec<OsString> {
        let due: Vec<OsString> =
            self.0.iter().filter(|(_, at)| **at <= now).map(|(entry, _)| entry.clone()).collect();
        for entry in &due {
            self.0.remove(entry);
        }
        due
    }

    /// Returns when the next one is due.
    pub fn next(&self) -> Option<u64> {
        self.0.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Adoptions, SETTLES_MS};
    use std::ffi::OsStr;

    #[test]
    fn a_slot_is_left_alone_until_nobody_has_made_it_anew_for_a_while() {
        let mut adoptions = Adoptions::default();
        assert_eq!(adoptions.next(), None);
        adoptions.made(100, OsStr::new("coder"));
        adoptions.made(900, OsStr::new("coder"));
        assert_eq!(adoptions.next(), Some(900 + SETTLES_MS));
        assert_eq!(adoptions.take_due(899 + SETTLES_MS), [""; 0]);
        assert_eq!(adoptions.take_due(900 + SETTLES_MS), ["coder"]);
        assert_eq!((adoptions.take_due(u64::MAX), adoptions.next()), (Vec::new(), None));
    }

    #[test]
    fn what_was_there_when_the_watch_began_is_due_at_once() {
        let mut adoptions = Adoptions::default();
        adoptions.found(OsStr::new("coder"));
        assert_eq!(adoptions.take_due(0), ["coder"]);
    }
}
