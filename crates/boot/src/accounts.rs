//! The agent's user and its groups in `/etc/passwd` and `/etc/group`, without `usermod`.
//!
//! *Lives here:* the changes of the two texts, and writing them back.
//! *Does not live here:* looking users up (`gatevisor_sys::user`).
//!
//! **Source:** passwd(5), group(5); STG-1 to STG-6.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use gatevisor_sys::{Errno, file};
use rustix::fs::{CWD, Mode};

/// The largest id that somebody may ask for.
const LARGEST: u32 = 65534;
/// Where an engine's socket may be, in the order of preference.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];
/// Where graphics devices are.
const GRAPHICS: &str = "/dev/dri";

/// Returns the id that a variable asks for; what is no number between 1 and 65534 asks for nothing.
///
/// **Source:** STG-2.
pub fn wanted_id(value: &str) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    value.parse().ok().filter(|id| digits && (1..=LARGEST).contains(id))
}

/// Returns the lines of a file of colon-separated fields, changed by `change`, and whether any was.
fn edited(text: &[u8], mut change: impl FnMut(&mut Vec<Vec<u8>>) -> bool) -> Option<Vec<u8>> {
    let mut any = false;
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|&b| b == b'\n') {
        let (content, end) = match line.strip_suffix(b"\n") {
            Some(content) => (content, &b"\n"[..]),
            None => (line, &b""[..]),
        };
        let mut fields: Vec<Vec<u8>> = content.split(|&b| b == b':').map(<[u8]>::to_vec).collect();
        any |= change(&mut fields);
        out.extend(fields.join(&b':'));
        out.extend(end);
    }
    any.then_some(out)
}

fn set(field: Option<&mut Vec<u8>>, number: u32) -> bool {
    let text = number.to_string().into_bytes();
    match field {
        Some(field) if *field != text => {
            *field = text;
            true
        }
        _ => false,
    }
}

fn is(fields: &[Vec<u8>], name: &str) -> bool {
    fields.first().is_some_and(|first| first == name.as_bytes())
}

/// Returns `/etc/passwd` with these ids for the user, and `None` where they are so already or there is no such user.
pub fn with_user(passwd: &[u8], name: &str, uid: u32, gid: u32) -> Option<Vec<u8>> {
    edited(passwd, |fields| {
        let ours = is(fields, name);
        ours && (set(fields.get_mut(2), uid) | set(fields.get_mut(3), gid))
    })
}

/// Returns `/etc/group` with this id for the group, and `None` where it is so already or there is no such group.
///
/// Another group may have the id too.
pub fn with_group(group: &[u8], name: &str, gid: u32) -> Option<Vec<u8>> {
    edited(group, |fields| is(fields, name) && set(fields.get_mut(2), gid))
}

/// Returns `/etc/group` with the user as a member of the group with this id, which is made as `fallback` where there is
/// none; `None` where it is a member already.
pub fn with_member(group: &[u8], user: &str, gid: u32, fallback: &str) -> Option<Vec<u8>> {
    let wanted = gid.to_string().into_bytes();
    let mut found = false;
    let changed = edited(group, |fields| {
        if found || fields.get(2) != Some(&wanted) {
            return false;
        }
        found = true;
        let Some(members) = fields.get_mut(3) else { return false };
        if members.split(|&b| b == b',').any(|member| member == user.as_bytes()) {
            return false;
        }
        if !members.is_empty() {
            members.push(b',');
        }
        members.extend(user.as_bytes());
        true
    });
    if found {
        return changed;
    }
    let mut text = group.to_vec();
    if text.last().is_some_and(|&last| last != b'\n') {
        text.push(b'\n');
    }
    text.extend(format!("{fallback}:x:{gid}:{user}\n").into_bytes());
    Some(text)
}

/// Replaces an account file, atomically where it can be.
///
/// A file that is mounted by itself cannot be replaced; it is written over.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mode = fs::metadata(path).map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    let parent = file::open_directory(CWD, directory)?;
    match file::replace(&parent, name, &format!(".{name}.new"), text, Mode::from_raw_mode(mode)) {
        Err(Errno::BUSY | Errno::XDEV) => fs::write(path, text),
        other => Ok(other?),
    }
}

/// Returns the groups, each with a name for it, that own what the agent may want to use: an engine's socket, graphics
/// devices. Never root's.
///
/// **Source:** STG-5, STG-6.
pub fn device_groups() -> Vec<(u32, &'static str)> {
    let socket = SOCKETS.iter().filter_map(|path| fs::metadata(path).ok());
    let socket =
        socket.filter(|meta| meta.file_type().is_socket()).map(|meta| (meta.gid(), "hostdocker")).next();
    let nodes = fs::read_dir(GRAPHICS).into_iter().flatten().flatten();
    let nodes = nodes.filter_map(|entry| fs::metadata(entry.path()).ok());
    let nodes = nodes.filter(|meta| meta.file_type().is_char_device()).map(|meta| (meta.gid(), "hostrender"));
    let mut groups: Vec<(u32, &str)> = socket.into_iter().chain(nodes).filter(|(gid, _)| *gid != 0).collect();
    groups.sort_unstable();
    groups.dedup_by_key(|(gid, _)| *gid);
    groups
}

#[cfg(test)]
mod tests {
    use super::{wanted_id, with_group, with_member, with_user, write};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nhermes:x:10000:10000::/opt/data:/bin/sh\nbroken";
    const GROUP: &[u8] = b"root:x:0:\nvideo:x:44:alice\nhermes:x:10000:\n";

    fn text(bytes: Option<Vec<u8>>) -> Option<String> {
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn an_id_is_a_number_from_1_to_65534() {
        for (value, expected) in [("1", Some(1)), ("65534", Some(65534)), ("99", Some(99)), ("007", Some(7))]
        {
            assert_eq!(wanted_id(value), expected, "{value}");
        }
        for wrong in ["", "0", "65535", "-1", "+5", " 5", "5 ", "x", "1e3", "99999999999"] {
            assert_eq!(wanted_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_users_ids_change_and_nothing_else_does() {
        let changed = text(with_user(PASSWD, "hermes", 99, 100)).unwrap();
        assert_eq!(changed, "root:x:0:0:root:/root:/bin/sh\nhermes:x:99:100::/opt/data:/bin/sh\nbroken");
        assert_eq!(with_user(PASSWD, "hermes", 10000, 10000), None);
        assert_eq!(with_user(PASSWD, "herm", 1, 1), None);
        assert_eq!(with_user(PASSWD, "broken", 1, 1), None);
    }

    #[test]
    fn a_group_may_have_the_id_of_another() {
        let changed = text(with_group(GROUP, "hermes", 44)).unwrap();
        assert_eq!(changed, "root:x:0:\nvideo:x:44:alice\nhermes:x:44:\n");
        assert_eq!(with_group(GROUP, "hermes", 10000), None);
    }

    #[test]
    fn a_member_joins_the_group_that_is_there_or_a_new_one() {
        let joined = text(with_member(GROUP, "hermes", 44, "x")).unwrap();
        assert_eq!(joined, "root:x:0:\nvideo:x:44:alice,hermes\nhermes:x:10000:\n");
        assert_eq!(with_member(joined.as_bytes(), "hermes", 44, "x"), None);
        let made = text(with_member(GROUP, "hermes", 998, "hostdocker")).unwrap();
        assert!(made.ends_with("hermes:x:10000:\nhostdocker:x:998:hermes\n"), "{made}");
        assert_eq!(text(with_member(b"a:x:1:", "u", 2, "b")).unwrap(), "a:x:1:\nb:x:2:u\n");
    }

    #[test]
    fn an_account_file_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("group");
        fs::write(&path, GROUP).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"new\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
