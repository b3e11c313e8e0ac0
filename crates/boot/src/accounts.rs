//! The agent's user and its groups in `/etc/passwd` and `/etc/group`, without `usermod`.
//!
//! *Lives here:* the changes of the two texts, and writing them back.
//! *Does not live here:* looking users up (`gatevisor_sys::user`).
//!
//! **Source:** passwd(5), group(5); STG-1 to STG-6.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gatevisor_sys::{Errno, file, trust};
use rustix::fs::{CWD, FileType, Mode};

/// The largest id that somebody may ask for.
const LARGEST: u32 = 65534;
/// Where an engine's socket may be, in the order of preference.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];
/// Where graphics devices are.
const GRAPHICS: &str = "/dev/dri";

/// Returns the id that a variable asks for; `None` if it is not a number between 1 and 65534.
///
/// **Source:** STG-2.
pub fn wanted_id(value: &str) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    value.parse().ok().filter(|id| digits && (1..=LARGEST).contains(id))
}

/// Returns why a variable that asks for an id is ignored, for people.
pub fn not_an_id(name: &str, value: &OsStr) -> String {
    let shown = value.to_string_lossy();
    let shown = shown.escape_debug();
    format!("{name}=`{shown}` is no number from 1 to {LARGEST}, and is ignored; give another id to that user")
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

/// Returns `/etc/passwd` with these ids for the user; `None` if the user has them already or does
/// not exist.
pub fn with_user(passwd: &[u8], name: &str, uid: u32, gid: u32) -> Option<Vec<u8>> {
    edited(passwd, |fields| {
        let ours = is(fields, name);
        ours && (set(fields.get_mut(2), uid) | set(fields.get_mut(3), gid))
    })
}

/// Returns `/etc/group` with this id for the group; `None` if the group has it already or does not
/// exist.
///
/// Another group may have the id too.
pub fn with_group(group: &[u8], name: &str, gid: u32) -> Option<Vec<u8>> {
    edited(group, |fields| is(fields, name) && set(fields.get_mut(2), gid))
}

/// Returns `/etc/group` with the user as a member of the group with this id; `None` if it is a
/// member already. If there is no such group, it is made with the name `fallback`.
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

/// Replaces an account file, atomically if possible.
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

/// Returns the groups that own what the agent may want to use, each with a name for it: an engine's
/// socket, graphics devices. Root's group is never among them.
///
/// The agent must not gain a group by putting a node there itself. So a node counts only if it is
/// root's, and is either a mount or in directories that only root can change. Its descriptor is
/// what is checked.
///
/// **Source:** STG-5, STG-6.
pub fn device_groups() -> Vec<(u32, &'static str)> {
    groups_of(&SOCKETS.map(Path::new), Path::new(GRAPHICS))
}

fn groups_of(sockets: &[&Path], graphics: &Path) -> Vec<(u32, &'static str)> {
    let socket = sockets.iter().find_map(|path| group_of(path, FileType::Socket));
    let nodes = fs::read_dir(graphics).into_iter().flatten().flatten();
    let nodes = nodes.filter_map(|entry| group_of(&entry.path(), FileType::CharacterDevice));
    let named = |name| move |gid| (gid, name);
    let all = socket.map(named("hostdocker")).into_iter().chain(nodes.map(named("hostrender")));
    let mut groups: Vec<(u32, &str)> = all.filter(|(gid, _)| *gid != 0).collect();
    groups.sort_unstable();
    groups.dedup_by_key(|(gid, _)| *gid);
    groups
}

/// Returns the group of a node of this type that only root, or somebody who may mount, could have
/// put there.
fn group_of(path: &Path, wanted: FileType) -> Option<u32> {
    let arrival = trust::follow(path).ok()?;
    let (node, stat) = arrival.node?;
    let is_wanted = FileType::from_raw_mode(stat.st_mode) == wanted && stat.st_uid == 0;
    (is_wanted && (arrival.way.is_none() || trust::is_mount(&node))).then_some(stat.st_gid)
}

#[cfg(test)]
mod tests {
    use super::{groups_of, not_an_id, wanted_id, with_group, with_member, with_user, write};
    use std::ffi::OsStr;
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
    fn a_wrong_id_is_named_with_its_variable_and_the_limits() {
        let said = |value: &str| not_an_id("PUID", OsStr::new(value));
        let expected =
            "PUID=`70000` is no number from 1 to 65534, and is ignored; give another id to that user";
        assert_eq!(said("70000"), expected);
        assert!(said("a\nb").starts_with("PUID=`a\\nb` is no number"));
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

    #[test]
    fn what_the_agent_puts_where_a_socket_or_a_device_is_looked_for_gives_it_no_group() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir_in("/var").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| dir.path().join(name);
        let socket = |name: &str| {
            let bound = std::os::unix::net::UnixListener::bind(path(name)).unwrap();
            std::os::unix::fs::chown(path(name), Some(0), Some(4711)).unwrap();
            bound
        };
        let groups = |name: &str| groups_of(&[&path(name)], &path("dri"));
        let _sockets = [socket("of-root"), socket("of-agent")];
        assert_eq!(groups("of-root"), [(4711, "hostdocker")]);
        std::os::unix::fs::chown(path("of-agent"), Some(4712), None).unwrap();
        assert_eq!(groups("of-agent"), []);
        std::os::unix::fs::symlink(path("of-root"), path("link")).unwrap();
        assert_eq!(groups("link"), [(4711, "hostdocker")], "root's own link");
        std::os::unix::fs::lchown(path("link"), Some(4712), None).unwrap();
        assert_eq!(groups("link"), []);
        // If everybody may make files in a directory, a socket of root's there may be another name
        // of a socket elsewhere.
        fs::create_dir(path("run")).unwrap();
        fs::set_permissions(path("run"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::hard_link(path("of-root"), path("run/docker.sock")).unwrap();
        assert_eq!(groups("run/docker.sock"), []);
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::chown(path("file"), Some(0), Some(4711)).unwrap();
        assert_eq!(groups("file"), [], "no socket");
    }
}
