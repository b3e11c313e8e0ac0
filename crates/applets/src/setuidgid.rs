//! `s6-setuidgid`: becomes a program as another user.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use gatevisor_sys::user::{self, LookupError, User};
use gatevisor_wire::exit::Exit;

use crate::arguments::{Arguments, number};
use crate::become_program::{become_program, inherited};
use crate::{AppletOutcome, Fatal};

pub(crate) const USAGE: &str = "s6-setuidgid username prog...";

/// Variables by which s6's tools pass on a user; they are removed here.
const HANDED_ON: [&str; 3] = ["UID", "GID", "GIDLIST"];

/// Takes the user's id, its group and every group that lists it, and becomes the program.
///
/// The account is a name, or `UID:GID` in numbers. Only `/etc/passwd` and `/etc/group` are read.
///
/// **Source:** <https://skarnet.org/software/s6/s6-setuidgid.html>
pub(crate) fn run(words: &[OsString]) -> AppletOutcome {
    let arguments = Arguments::parse(words, b"", b"")?;
    let [account, program @ ..] = arguments.operands else { return Err(Fatal::Usage) };
    if program.is_empty() {
        return Err(Fatal::Usage);
    }
    let user = find(account)?;
    user::assume(&user).map_err(|errno| {
        Fatal::new(Exit::System, format!("cannot become user `{}`: {errno}", account.display()))
    })?;
    let mut environment = inherited();
    environment.retain(|(name, _)| !HANDED_ON.iter().any(|handed_on| name == handed_on));
    Err(become_program(program, environment))
}

fn find(account: &OsStr) -> Result<User, Fatal> {
    if let Some((uid, gid)) = in_numbers(account) {
        return Ok(User { uid, gid, name: Vec::new(), home: Vec::new(), groups: vec![gid] });
    }
    // A lone number is not a name, and its group would be unknown.
    if account.as_bytes().iter().all(u8::is_ascii_digit) {
        let message = format!("unknown user `{}`; write UID:GID for a user by number", account.display());
        return Err(Fatal::new(Exit::No, message));
    }
    user::lookup(account.as_bytes()).map_err(|error| match error {
        LookupError::Unknown(_) => Fatal::of(Exit::No, &error, None),
        LookupError::Read { .. } => Fatal::of(Exit::System, &error, None),
    })
}

fn in_numbers(account: &OsStr) -> Option<(u32, u32)> {
    let (uid, gid) = account.to_str()?.split_once(':')?;
    let id = |text: &str| number(Some(OsStr::new(text))).ok();
    Some((id(uid)?, id(gid)?))
}

#[cfg(test)]
mod tests {
    use super::{find, in_numbers};
    use std::ffi::OsStr;

    #[test]
    fn an_account_is_a_name_or_two_numbers() {
        assert_eq!(in_numbers(OsStr::new("12:34")), Some((12, 34)));
        for other in ["root", "12", ":34", "12:", "12:34:56", "root:0", "-1:0", "4294967296:0"] {
            assert_eq!(in_numbers(OsStr::new(other)), None, "{other}");
        }
        let user = find(OsStr::new("12:34")).unwrap();
        assert_eq!((user.uid, user.gid, user.groups), (12, 34, vec![34]));
        assert_eq!(find(OsStr::new("root")).unwrap().uid, 0);
    }

    #[test]
    fn an_unknown_user_and_a_lone_number_are_refused() {
        for (account, message) in [
            ("nobody-has-this-name", "user `nobody-has-this-name` is not in /etc/passwd"),
            ("0", "unknown user `0`; write UID:GID for a user by number"),
        ] {
            assert_eq!(find(OsStr::new(account)).unwrap_err().to_string(), message);
        }
    }
}
