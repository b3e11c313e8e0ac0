//! Decides which user a service runs as.
//!
//! *Lives here:* the rule, without any system call: ownership is authority. A file may name its own
//! owner; only root's files may name another user.
//! *Does not live here:* looking users up and becoming them.

use gatevisor_sys::user::User;

/// The change of the process's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// Keep the present user.
    Keep,
    /// Become the user that the file names.
    BecomeNamed,
    /// Become the owner of the file.
    BecomeOwner,
}

/// Why a service may not run as the user that its file names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum IdentityError {
    /// Only root can become another user.
    #[error(
        "the file wants user `{wanted}` and this is uid {current}, not root; \
         remove `user`, or run the supervisor as root or as that user"
    )]
    NotRoot {
        /// The named user.
        wanted: String,
        /// The present user.
        current: u32,
    },
    /// The file belongs to one user and names another.
    #[error(
        "the file belongs to uid {owner} and wants user `{wanted}`; \
         only a file of root's may name another user than its owner"
    )]
    NotOwner {
        /// The named user.
        wanted: String,
        owner: u32,
    },
}

/// Decides which user a service runs as.
///
/// `current` is the effective uid, `owner` owns the file that describes the service, `wanted` is
/// the user that it names.
pub fn decide(current: u32, owner: u32, wanted: Option<&User>) -> Result<RunAs, IdentityError> {
    let name = |user: &User| String::from_utf8_lossy(&user.name).into_owned();
    match (current, wanted) {
        (0, None) if owner == 0 => Ok(RunAs::Keep),
        (0, None) => Ok(RunAs::BecomeOwner),
        (0, Some(user)) if owner != 0 && user.uid != owner => {
            Err(IdentityError::NotOwner { wanted: name(user), owner })
        }
        (0, Some(user)) if user.uid == 0 => Ok(RunAs::Keep),
        (0, Some(_)) => Ok(RunAs::BecomeNamed),
        (_, None) => Ok(RunAs::Keep),
        (_, Some(user)) if user.uid == current => Ok(RunAs::Keep),
        (_, Some(user)) => Err(IdentityError::NotRoot { wanted: name(user), current }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> User {
        User { uid, gid: uid, name: format!("u{uid}").into(), home: b"/".to_vec(), groups: vec![uid] }
    }

    #[test]
    fn authority_is_ownership() {
        let table = [
            // (current, owner, wanted) => decision
            (0, 0, None, Ok(RunAs::Keep)),
            (0, 0, Some(0), Ok(RunAs::Keep)),
            (0, 0, Some(7), Ok(RunAs::BecomeNamed)),
            (0, 7, None, Ok(RunAs::BecomeOwner)),
            (0, 7, Some(7), Ok(RunAs::BecomeNamed)),
            (0, 7, Some(0), Err(IdentityError::NotOwner { wanted: "u0".into(), owner: 7 })),
            (0, 7, Some(8), Err(IdentityError::NotOwner { wanted: "u8".into(), owner: 7 })),
            (7, 0, None, Ok(RunAs::Keep)),
            (7, 8, None, Ok(RunAs::Keep)),
            (7, 7, Some(7), Ok(RunAs::Keep)),
            (7, 7, Some(8), Err(IdentityError::NotRoot { wanted: "u8".into(), current: 7 })),
            (7, 7, Some(0), Err(IdentityError::NotRoot { wanted: "u0".into(), current: 7 })),
        ];
        for (current, owner, wanted, expected) in table {
            let wanted = wanted.map(user);
            assert_eq!(decide(current, owner, wanted.as_ref()), expected, "{current} {owner} {wanted:?}");
        }
    }
}
