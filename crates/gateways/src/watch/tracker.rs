//! *Lives here:* which profiles have come and gone since the last look, and when a new one is
//! complete. No I/O, no clock.
//!
//! *Does not live here:* looking (see `subscription` and [`crate::profile`]), and slots.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// Milliseconds without a change in a new profile after which it counts as complete.
///
/// Somebody who copies a profile, or makes one file by file, does not report when that is done. The
/// agent's own command makes the slot itself right after the last file. The time is shorter than
/// the start of a command line, so that the next command finds the slot.
pub(super) const SETTLE_MS: u64 = 200;
/// Milliseconds after which a new profile counts as complete even if it keeps changing.
pub(super) const LONGEST_MS: u64 = 2000;

/// What the watcher knows of the directories among the profiles.
#[derive(Debug, Clone, Default)]
pub(super) struct ProfileTracker {
    /// Directories that have been profiles and are still there.
    known: BTreeSet<OsString>,
    /// Directories that are being filled.
    pending: BTreeMap<OsString, Debounce>,
}

#[derive(Debug, Clone, Copy)]
struct Debounce {
    since: u64,
    due: u64,
}

/// What is to be done about one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProfileChange {
    /// It is a profile, and new.
    Register {
        /// What the directory is called.
        name: OsString,
        /// When it was first seen to be a profile, in milliseconds.
        since: u64,
    },
    /// It is gone.
    Withdraw {
        /// What the directory was called.
        name: OsString,
    },
}

impl ProfileTracker {
    /// Returns a tracker to which these profiles are known already.
    pub(super) fn new(known: BTreeSet<OsString>) -> Self {
        Self { known, pending: BTreeMap::new() }
    }

    /// Handles what is there at `now`: each directory, whether it has the marker, and which were
    /// `touched` since the last look. Returns what to do. New profiles come first, because they are
    /// quick.
    ///
    /// A profile that loses only its marker stays one, because editors replace files. If its
    /// directory was replaced between two looks, it is still the same profile, as it has the same
    /// name.
    pub(super) fn look(
        &mut self,
        now: u64,
        seen: &BTreeMap<OsString, bool>,
        touched: &BTreeSet<OsString>,
    ) -> Vec<ProfileChange> {
        let mut steps = Vec::new();
        self.pending.retain(|name, _| seen.get(name) == Some(&true));
        for name in seen.iter().filter_map(|(name, complete)| complete.then_some(name)) {
            if self.known.contains(name) {
                continue;
            }
            let first = Debounce { since: now, due: now.saturating_add(SETTLE_MS) };
            let pending = self.pending.entry(name.clone()).or_insert(first);
            if touched.contains(name) {
                pending.due = later(pending.since, now);
            }
            if pending.due <= now {
                steps.push(ProfileChange::Register { name: name.clone(), since: pending.since });
            }
        }
        for step in &steps {
            if let ProfileChange::Register { name, .. } = step {
                self.pending.remove(name);
                self.known.insert(name.clone());
            }
        }
        let gone: Vec<OsString> =
            self.known.iter().filter(|name| !seen.contains_key(*name)).cloned().collect();
        for name in gone {
            self.known.remove(&name);
            steps.push(ProfileChange::Withdraw { name });
        }
        steps
    }

    /// Returns whether a profile that was new at `since` is so new that somebody else may be about
    /// to make its slot.
    pub(super) const fn is_recent(now: u64, since: u64) -> bool {
        now < since.saturating_add(LONGEST_MS)
    }

    /// Postpones the registration of a profile that was new at `since`.
    pub(super) fn postpone(&mut self, now: u64, name: &OsStr, since: u64) {
        self.known.remove(name);
        self.pending.insert(name.to_owned(), Debounce { since, due: later(since, now) });
    }

    /// Notes that somebody has made the slot of this profile. From then on, they decide whether it
    /// has one.
    pub(super) fn made(&mut self, name: &OsStr) {
        if self.pending.remove(name).is_some() {
            self.known.insert(name.to_owned());
        }
    }

    /// Returns the directories that are being filled.
    pub(super) fn pending(&self) -> impl Iterator<Item = &OsStr> {
        self.pending.keys().map(OsString::as_os_str)
    }

    /// Makes every directory that is being filled count as complete.
    pub(super) fn complete_all(&mut self, now: u64) {
        self.pending.values_mut().for_each(|pending| pending.due = now);
    }

    /// Returns when something will count as complete if nothing changes until then.
    pub(super) fn due(&self) -> Option<u64> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// Returns the directories in which changes matter: those that may become profiles, and those
    /// that are new.
    pub(super) fn unfinished<'a>(&self, seen: &'a BTreeMap<OsString, bool>) -> BTreeSet<&'a OsStr> {
        let matters = |name: &OsString, complete: bool| {
            !self.known.contains(name) && (!complete || self.pending.contains_key(name))
        };
        seen.iter()
            .filter(|(name, complete)| matters(name, **complete))
            .map(|(name, _)| name.as_os_str())
            .collect()
    }
}

fn later(since: u64, now: u64) -> u64 {
    now.saturating_add(SETTLE_MS).min(since.saturating_add(LONGEST_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(words: &str) -> BTreeMap<OsString, bool> {
        // `a` is a profile, `a?` a directory without the marker.
        words
            .split_whitespace()
            .map(|word| (word.trim_end_matches('?').into(), !word.ends_with('?')))
            .collect()
    }

    fn names(words: &str) -> BTreeSet<OsString> {
        words.split_whitespace().map(Into::into).collect()
    }

    /// Each line is a time, what is there, what was touched, and the result: `+name` or `-name`.
    fn check(known: &str, lines: &str) {
        let mut tracker = ProfileTracker::new(names(known));
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut parts = line.split('|').map(str::trim);
            let mut part = || parts.next().unwrap_or_default();
            let (now, there, touched, expected) = (part().parse().unwrap(), part(), part(), part());
            let steps = tracker.look(now, &seen(there), &names(touched));
            let said: Vec<String> = steps
                .iter()
                .map(|step| match step {
                    ProfileChange::Register { name, .. } => format!("+{}", name.display()),
                    ProfileChange::Withdraw { name } => format!("-{}", name.display()),
                })
                .collect();
            assert_eq!(said.join(" "), expected, "{line}");
        }
    }

    #[test]
    fn a_new_profile_counts_when_nothing_happens_in_it_any_more() {
        check(
            "",
            "   0 | a?  |   |
               50 | a   | a |
              150 | a   | a |
              300 | a   |   |
              350 | a   |   | +a
              900 | a   | a |",
        );
    }

    #[test]
    fn a_profile_that_never_comes_to_rest_counts_after_two_seconds() {
        check(
            "",
            "   0 | a | a |
             1000 | a | a |
             1999 | a | a |
             2000 | a | a | +a",
        );
    }

    #[test]
    fn a_renamed_profile_is_a_new_one_and_a_vanished_one() {
        check(
            "old other",
            "  0 | new other | new old |   -old
             200 | new other |   | +new",
        );
    }

    #[test]
    fn a_marker_that_is_replaced_makes_no_difference() {
        check(
            "a",
            "  0 | a? | a |
              10 | a  | a |
             500 | a  |   |
             600 |    |   | -a",
        );
    }

    #[test]
    fn a_profile_that_vanishes_before_it_is_complete_never_counts() {
        check(
            "",
            "  0 | a |   |
             100 |   |   |
             150 | a |   |
             340 | a |   |
             350 | a |   | +a",
        );
    }

    #[test]
    fn a_profile_that_somebody_else_registers_is_left_to_them_for_a_while() {
        let mut tracker = ProfileTracker::new(BTreeSet::new());
        let (there, nothing) = (seen("a b?"), BTreeSet::new());
        assert!(tracker.look(0, &there, &nothing).is_empty());
        assert_eq!(tracker.unfinished(&there).len(), 2);
        tracker.complete_all(10);
        assert_eq!(
            tracker.look(10, &there, &nothing),
            [ProfileChange::Register { name: "a".into(), since: 0 }]
        );
        assert!(ProfileTracker::is_recent(10, 0));
        tracker.postpone(10, OsStr::new("a"), 0);
        assert_eq!(tracker.due(), Some(210));
        assert_eq!(tracker.look(210, &there, &nothing).len(), 1);
        assert!(!ProfileTracker::is_recent(2000, 0));
        assert_eq!((tracker.due(), tracker.unfinished(&there)), (None, BTreeSet::from([OsStr::new("b")])));
    }

    #[test]
    fn a_profile_whose_slot_somebody_made_is_left_to_them() {
        let mut tracker = ProfileTracker::new(BTreeSet::new());
        let nothing = BTreeSet::new();
        assert!(tracker.look(0, &seen("a"), &nothing).is_empty());
        assert_eq!(tracker.pending().collect::<Vec<_>>(), ["a"]);
        tracker.made(OsStr::new("a"));
        tracker.made(OsStr::new("b"));
        assert_eq!((tracker.pending().count(), tracker.due()), (0, None));
        assert!(tracker.look(500, &seen("a"), &nothing).is_empty());
        assert_eq!(tracker.look(600, &seen(""), &nothing), [ProfileChange::Withdraw { name: "a".into() }]);
    }

    proptest! {
        #[test]
        fn invariant_what_is_registered_is_there_and_what_is_withdrawn_is_not(
            looks in proptest::collection::vec((proptest::collection::btree_map("[a-c]", any::<bool>(), 0..3), 0_u64..400), 1..30),
        ) {
            let (mut tracker, mut now) = (ProfileTracker::new(BTreeSet::new()), 0);
            let mut registered = BTreeSet::new();
            for (there, passed) in looks {
                let there: BTreeMap<OsString, bool> = there.into_iter().map(|(name, is)| (name.into(), is)).collect();
                now += passed;
                for step in tracker.look(now, &there, &BTreeSet::new()) {
                    match step {
                        ProfileChange::Register { name, .. } => {
                            prop_assert_eq!(there.get(&name), Some(&true));
                            prop_assert!(registered.insert(name), "registered twice");
                        }
                        ProfileChange::Withdraw { name } => {
                            prop_assert!(!there.contains_key(&name));
                            prop_assert!(registered.remove(&name), "withdrawn, and was not there");
                        }
                    }
                }
                prop_assert!(tracker.due().is_none_or(|due| due <= now + LONGEST_MS));
            }
        }
    }
}
