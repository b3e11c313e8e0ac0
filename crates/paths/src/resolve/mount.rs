//! Who is responsible for a mount.
//!
//! *Lives here:* reading the kernel's table of mounts, once as long as it does not change.
//! *Does not live here:* telling mounts apart (`look`).
//!
//! Only the operator, or the engine, mounts file systems where this process sees them. There is one
//! exception: a user's own program that serves a file system (FUSE), which a helper mounts for that
//! user. A request to such a file system waits for that user. The table tells whose program it is,
//! so the mount itself need not be touched.
//!
//! **Source:** `proc_pid_mountinfo(5)`, mount.fuse(8), `user_id`.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, geteuid, getpid};

/// The kernel's table of mounts.
const TABLE: &str = "/proc/self/mountinfo";
/// Room for a table, which is read at once if it is no longer.
const TABLE_BYTES: usize = 8192;

thread_local! {
    /// The table as it was read last. A command asks for each directory on each path.
    static KNOWN: RefCell<Option<KnownTable>> = const { RefCell::new(None) };
}

/// What the table says, as long as the kernel reports no change of it.
struct KnownTable {
    /// The process that opened it. After fork(2), the kernel would report a change to only one of
    /// the two processes.
    owner: Pid,
    ours: u32,
    file: File,
    operators: Vec<u64>,
}

impl KnownTable {
    fn read() -> Option<Self> {
        // The kernel reports each change after the opening, so also one while it is read.
        let mut file = File::open(TABLE).ok()?;
        let mut table = Vec::with_capacity(TABLE_BYTES);
        file.read_to_end(&mut table).ok()?;
        let ours = geteuid().as_raw();
        let operators = operators_in(&String::from_utf8_lossy(&table), ours);
        Some(Self { owner: getpid(), ours, file, operators })
    }

    /// Returns whether it says what the kernel's table says now.
    fn is_current(&self) -> bool {
        // Only the process that opened it may ask, because the first answer is the only one.
        if self.owner != getpid() || self.ours != geteuid().as_raw() {
            return false;
        }
        let mut changes = [PollFd::new(&self.file, PollFlags::PRI)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut changes, Some(&now)), Ok(0))
    }
}

/// Returns whether a mount is the operator's. A mount that is not in the table is not.
pub fn is_operators(mount: u64) -> bool {
    KNOWN.with_borrow_mut(|known| {
        let is_in = |table: &Option<KnownTable>| {
            table.as_ref().is_some_and(|table| table.is_current() && table.operators.contains(&mount))
        };
        // Some kernels report no change, so what is not in the table is looked for once more.
        is_in(known) || {
            *known = KnownTable::read();
            known.as_ref().is_some_and(|table| table.operators.contains(&mount))
        }
    })
}

/// Returns the mount points below a directory, in the table's order; none if there is no `/proc`.
pub fn mounts_within(directory: impl AsFd) -> Vec<PathBuf> {
    let number = directory.as_fd().as_raw_fd();
    let Ok(path) = std::fs::read_link(format!("/proc/self/fd/{number}")) else { return Vec::new() };
    let table = std::fs::read(TABLE).unwrap_or_default();
    let points = table.split(|&b| b == b'\n').filter_map(mount_point);
    points.filter(|point| *point != path && point.starts_with(&path)).collect()
}

/// Returns the mount point in a line of the table.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let word = line.split(|&b| b == b' ').nth(4)?;
    let mut path = Vec::with_capacity(word.len());
    let mut left = word;
    while let Some((&first, rest)) = left.split_first() {
        // The table writes a space, a line end, a tab or a backslash as three octal digits.
        let escaped =
            rest.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            path.push(byte);
            left = rest.get(3..).unwrap_or_default();
        } else {
            path.push(first);
            left = rest;
        }
    }
    Some(OsString::from_vec(path).into())
}

/// Returns the mounts of a table that are the operator's or our own.
fn operators_in(table: &str, ours: u32) -> Vec<u64> {
    let is_trusted = |line: &&str| answering_user(line).is_none_or(|uid| [0, ours].contains(&uid));
    let number = |line: &str| line.split(' ').next().and_then(|word| word.parse().ok());
    table.lines().filter(is_trusted).filter_map(number).collect()
}

/// Returns the user whose program serves the file system in a line of the table, if one does.
fn answering_user(line: &str) -> Option<u32> {
    let (_, after) = line.split_once(" - ")?;
    let mut words = after.split(' ');
    let (kind, options) = (words.next()?, words.nth(1).unwrap_or_default());
    if !kind.starts_with("fuse") {
        return None;
    }
    let user = options.split(',').find_map(|option| option.strip_prefix("user_id="));
    // If such a file system does not tell its user, it belongs to nobody whom we trust.
    Some(user.and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::operators_in;

    const TABLE: &str = "\
24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 24 0:27 / /home/a/remote rw,nosuid,nodev shared:9 - fuse.sshfs host: rw,user_id=1000,group_id=1000
32 24 0:28 / /mnt/a\\040b rw master:3 - fuse.rclone remote: rw,user_id=0,group_id=0,allow_other
33 24 8:2 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw,user_id=0
34 24 0:29 / /odd rw - fuse x rw
";

    #[test]
    fn a_file_system_that_a_user_answers_for_is_not_the_operators() {
        assert_eq!(operators_in(TABLE, 0), [24, 32, 33]);
        assert!(operators_in(TABLE, 1000).contains(&31), "one's own program one may wait for");
    }

    #[test]
    fn where_a_file_system_is_mounted_is_read_from_the_table() {
        let points = TABLE.lines().filter_map(|line| super::mount_point(line.as_bytes()));
        let expected = ["/", "/home/a/remote", "/mnt/a b", "/mnt/ntfs", "/odd"];
        assert_eq!(points.collect::<Vec<_>>(), expected.map(std::path::PathBuf::from));
        let within = |path: &str| super::mounts_within(crate::look::pinned(rustix::fs::CWD, path).unwrap());
        assert!(within("/").contains(&"/proc".into()));
        assert!(within("/proc/self/fd").is_empty());
    }

    #[test]
    fn the_mounts_of_this_machine_are_found() {
        let fd = crate::look::pinned(rustix::fs::CWD, "/proc").unwrap();
        assert!(super::is_operators(crate::look(fd).unwrap().mount.unwrap()));
        assert!(!super::is_operators(u64::MAX));
    }
}
