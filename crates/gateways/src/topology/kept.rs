//! *Lives here:* the meaning of a setting that some versions of an agent write by themselves. No
//! I/O.
//!
//! *Does not live here:* which settings these are (the agent definition); reading them (`look`).

use serde::{Deserialize, Serialize};

use super::decide::SettingAnswer;

/// What a home remembers of a setting that some versions write by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptSetting {
    /// Its last value at the start of a version that does not write it.
    pub said: Option<bool>,
    /// Whether a version that writes it was started since then.
    pub is_doubtful: bool,
}

impl KeptSetting {
    /// Returns whether a yes does not count, because a version that was used since may have written
    /// it.
    pub fn overrules(self, answer: &SettingAnswer) -> bool {
        self.is_doubtful && *answer == SettingAnswer::Says(true) && self.said != Some(true)
    }

    /// Returns the answer that counts, given the present answer of the setting.
    pub fn counts(self, answer: SettingAnswer) -> SettingAnswer {
        match self.said {
            _ if !self.overrules(&answer) => answer,
            Some(said) => SettingAnswer::Says(said),
            None => SettingAnswer::Silent,
        }
    }

    /// Returns what is remembered after the start of a version. `writes` tells whether that version
    /// writes the setting.
    #[must_use]
    pub fn after(self, writes: bool, answer: &SettingAnswer) -> Self {
        let plain = |said| Self { said, is_doubtful: false };
        match answer {
            _ if writes => Self { is_doubtful: true, ..self },
            _ if self.overrules(answer) => self,
            SettingAnswer::Says(said) => plain(Some(*said)),
            SettingAnswer::Silent => plain(None),
            SettingAnswer::Unknown(_) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_that_a_newer_version_wrote_does_not_count_for_the_older_one_unless_it_was_there_before() {
        let (yes, no, silent) =
            (SettingAnswer::Says(true), SettingAnswer::Says(false), SettingAnswer::Silent);
        let broken = SettingAnswer::Unknown("not YAML".to_owned());
        // What an older version found, what the newer one made of it, and what counts then for the
        // older one.
        for (before, written, counts) in [
            (Some(&silent), &yes, &silent),
            (Some(&no), &yes, &no),
            (Some(&yes), &yes, &yes),
            (Some(&broken), &yes, &silent),
            // Only the newer one was ever used.
            (None, &yes, &silent),
            // Somebody has changed it.
            (Some(&yes), &no, &no),
            (None, &silent, &silent),
            (Some(&silent), &broken, &broken),
        ] {
            let kept = KeptSetting::default();
            let kept = before.map_or(kept, |answer| kept.after(false, answer)).after(true, written);
            assert_eq!(kept.counts(written.clone()), *counts, "{before:?} {written:?}");
            // The next start finds the same, and so does one after another use of the newer one.
            let again = kept.after(false, written);
            assert_eq!(again.counts(written.clone()), *counts, "again: {before:?} {written:?}");
            let twice = again.after(true, written);
            assert_eq!(twice.counts(written.clone()), *counts, "twice: {before:?} {written:?}");
        }
    }

    #[test]
    fn where_a_no_was_read_since_a_yes_counts_again() {
        let (yes, no) = (SettingAnswer::Says(true), SettingAnswer::Says(false));
        let kept = KeptSetting::default().after(true, &yes).after(false, &no);
        assert_eq!(kept.counts(yes.clone()), yes);
        assert!(!KeptSetting::default().overrules(&yes), "no other version was used");
    }
}
