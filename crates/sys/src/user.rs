//! Users and groups from the files in `/etc`, without a name service.
//!
//! A supervisor must not wait for LDAP to start a service, so only `/etc/passwd` and `/etc/group`
//! count.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use rustix::io::Errno;

use crate::raw;

/// The most bytes of `/etc/passwd` or `/etc/group` that are read.
const MAX_BYTES: u64 = 4 << 20;

/// A user, with the groups it is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    /// The login name; the number in decimal when the user has no entry.
    pub name: Vec<u8>,
    /// The home directory; `/` when the user has no entry.
    pub home: Vec<u8>,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
}

/// Why a user could not be looked up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum LookupError {
    /// No line of `/etc/passwd` has the name.
    #[error("user `{0}` is not in /etc/passwd")]
    Unknown(String),
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        path: &'static str,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

fn read_bounded(path: &'static str) -> Result<Vec<u8>, LookupError> {
    let mut text = Vec::new();
    match File::open(Path::new(path)).and_then(|f| f.take(MAX_BYTES).read_to_end(&mut text)) {
        Ok(_) => Ok(text),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(LookupError::Read { path, source }),
    }
}

fn decimal(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Returns the user with this name or decimal uid.
///
/// A number without an entry is a user without a name, whose only group has the same number.
pub fn lookup(name_or_uid: &[u8]) -> Result<User, LookupError> {
    let passwd = read_bounded("/etc/passwd")?;
    let number = decimal(name_or_uid);
    let entry = find_user(&passwd, |name, uid| name == name_or_uid || number == Some(uid));
    let user = match (entry, number) {
        (Some(user), _) => user,
        (None, Some(uid)) => {
            User { uid, gid: uid, name: name_or_uid.to_vec(), home: b"/".to_vec(), groups: vec![uid] }
        }
        (None, None) => {
            return Err(LookupError::Unknown(String::from_utf8_lossy(name_or_uid).into_owned()));
        }
    };
    let groups = groups_of(&read_bounded("/etc/group")?, &user);
    Ok(User { groups, ..user })
}

/// Returns the user with this uid, as [`lookup`] does.
pub fn lookup_uid(uid: u32) -> Result<User, LookupError> {
    lookup(uid.to_string().as_bytes())
}

fn find_user(passwd: &[u8], wanted: impl Fn(&[u8], u32) -> bool) -> Option<User> {
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        let name = fields.next()?;
        let uid = decimal(fields.nth(1)?)?;
        let gid = decimal(fields.next()?)?;
        let home = fields.nth(1)?;
        wanted(name, uid).then(|| User {
            uid,
            gid,
            name: name.to_vec(),
            home: home.to_vec(),
            groups: vec![gid],
        })
    })
}

fn groups_of(group: &[u8], user: &User) -> Vec<u32> {
    let mut groups = vec![user.gid];
    for line in group.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(_), Some(_), Some(gid), Some(members)) =
            (fields.next(), fields.next(), fields.next().and_then(decimal), fields.next())
        else {
            continue;
        };
        let member = members.split(|&b| b == b',').any(|m| m == user.name.as_slice());
        if member && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// The user who called this program, if it has become another user since.
static CALLER: OnceLock<u32> = OnceLock::new();

/// Makes this process run as `user`, with the user's groups, for good. Only [`caller`] still tells
/// who called it.
pub fn assume(user: &User) -> Result<(), Errno> {
    CALLER.get_or_init(real);
    raw::assume(user.uid, user.gid, &user.groups)
}

/// Returns the number of the user who called this program, also after it has become another.
pub fn caller() -> u32 {
    CALLER.get().copied().unwrap_or_else(real)
}

fn real() -> u32 {
    rustix::process::getuid().as_raw()
}

/// Returns the number of the user who logged in to the session in which this program was called, as
/// the kernel has it; `None` if nobody did, or if the kernel does not keep it.
///
/// **Source:** proc(5), `/proc/pid/loginuid`.
pub fn login() -> Option<u32> {
    let number = std::fs::read_to_string("/proc/self/loginuid").ok()?.trim().parse().ok()?;
    (number != u32::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_belongs_to_its_primary_group_and_to_each_group_that_lists_it() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nhermes:x:10000:10000::/opt/data:/bin/sh\nbroken\n";
        let user = find_user(passwd, |name, _| name == b"hermes").expect("hermes is there");
        assert_eq!((user.uid, user.gid, user.home.as_slice()), (10000, 10000, &b"/opt/data"[..]));
        let group = b"root:x:0:\nvideo:x:44:alice,hermes\nhermes:x:10000:\nnothermes:x:7:xhermes\n::\n";
        assert_eq!(groups_of(group, &user), [10000, 44]);
    }

    #[test]
    fn a_number_without_an_entry_is_a_user_without_a_name() {
        let user = lookup(b"3999999999").expect("numbers always work");
        assert_eq!((user.uid, user.gid, user.groups), (3_999_999_999, 3_999_999_999, vec![3_999_999_999]));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let error = lookup(b"nobody-has-this-name").expect_err("must be unknown");
        assert_eq!(error.to_string(), "user `nobody-has-this-name` is not in /etc/passwd");
    }
}
