//! What a rescan of the scandir means.
//!
//! *Lives here:* the comparison of what is supervised with what is there.
//! *Does not live here:* reading the directory.

/// A directory as it is now: the identity tells a directory from a later one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DirectoryIdentity {
    /// The device of the file system.
    pub device: u64,
    /// The inode of the directory.
    pub inode: u64,
}

/// What to do about one name of the scandir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanChange {
    /// Nothing is there and nothing is supervised, or what is there is already supervised.
    Nothing,
    /// A new directory: supervise it.
    Adopt,
    /// The directory is gone: let go of its service.
    Withdraw,
    /// Another directory took the name: let go of the old one, then look again.
    Replace,
}

/// Returns what the difference between the supervised directory and the present one means.
pub fn compare(supervised: Option<DirectoryIdentity>, there: Option<DirectoryIdentity>) -> ScanChange {
    match (supervised, there) {
        (None, None) => ScanChange::Nothing,
        (None, Some(_)) => ScanChange::Adopt,
        (Some(_), None) => ScanChange::Withdraw,
        (Some(old), Some(new)) if old == new => ScanChange::Nothing,
        (Some(_), Some(_)) => ScanChange::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_was_replaced_under_its_name_is_let_go_before_the_new_one_is_taken() {
        let (a, b) = (DirectoryIdentity { device: 1, inode: 2 }, DirectoryIdentity { device: 1, inode: 3 });
        assert_eq!(compare(None, None), ScanChange::Nothing);
        assert_eq!(compare(None, Some(a)), ScanChange::Adopt);
        assert_eq!(compare(Some(a), None), ScanChange::Withdraw);
        assert_eq!(compare(Some(a), Some(a)), ScanChange::Nothing);
        assert_eq!(compare(Some(a), Some(b)), ScanChange::Replace);
    }
}
