//! Decides whose directories are supervised, and whose scripts are executed.
//!
//! *Lives here:* what owners and modes of files permit.
//! *Does not live here:* finding out owners and modes, and following links (`gatevisor-paths`).
//!
//! The owner of a service directory is the user whom its programs run as. Besides that user, only
//! root and the supervisor's own user may decide what is executed.

/// The owner and the permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The user number of the owner.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

/// A user, and the user's own group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// The user number.
    pub uid: u32,
    /// The group number.
    pub gid: u32,
}

/// The user whom the programs of a service directory run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsAs {
    /// The supervisor's user.
    Supervisor,
    /// The directory's owner.
    Owner,
}

/// Returns the user whom the programs of a directory run as; `None` if this supervisor cannot serve
/// its owner.
pub fn runs_as(owner: u32, supervisor: u32) -> Option<RunsAs> {
    match (owner, supervisor) {
        _ if owner == supervisor => Some(RunsAs::Supervisor),
        (_, 0) => Some(RunsAs::Owner),
        // Files that root shipped in an image are trusted.
        (0, _) => Some(RunsAs::Supervisor),
        _ => None,
    }
}

/// Why a script is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptDistrust {
    /// Its directory was given to this user during its supervision.
    NewOwner(u32),
    /// It belongs to this user, who is neither root nor the directory's owner nor the supervisor's
    /// user.
    Stranger(u32),
    /// It is neither a regular file nor a link.
    WrongKind,
    /// Users besides its owner may write to it; these are its permissions.
    WritableByOthers(u32),
}

/// The kind of a script's file, without following a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptKind {
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// Any other kind.
    Other,
}

/// Returns why a script of a service is not executed. `directory` is the present owner of its
/// directory, `user` the user of the service's programs, unless it is the supervisor's.
pub fn distrust(
    (script, kind): (Ownership, ScriptKind),
    directory: u32,
    user: Option<Principal>,
    supervisor: Principal,
) -> Option<ScriptDistrust> {
    let is_still_its_own =
        user.map_or(directory == supervisor.uid || directory == 0, |user| user.uid == directory);
    if !is_still_its_own {
        return Some(ScriptDistrust::NewOwner(directory));
    }
    if ![0, directory, supervisor.uid].contains(&script.uid) {
        return Some(ScriptDistrust::Stranger(script.uid));
    }
    match kind {
        // The owner of a link is what counts; the target is that user's choice.
        ScriptKind::Link => None,
        ScriptKind::Other => Some(ScriptDistrust::WrongKind),
        ScriptKind::File => script
            .is_writable_by_others(user.unwrap_or(supervisor).gid)
            .then_some(ScriptDistrust::WritableByOthers(script.mode & 0o7777)),
    }
}

/// Returns whether the programs in the directory `log` of an entry may run as the owner of `log`.
///
/// The owner of an entry can give this name to any directory in it, also to one that somebody else
/// made there. An entry of root's or the supervisor's may have a log of every user who can be
/// served.
pub fn may_have_log_of(entry: u32, log: u32, supervisor: u32) -> bool {
    entry == 0 || entry == supervisor || entry == log
}

impl Ownership {
    /// Returns whether users besides the owner, and groups besides `own_group`, may write.
    pub fn is_writable_by_others(self, own_group: u32) -> bool {
        self.mode & 0o002 != 0 || (self.mode & 0o020 != 0 && self.gid != own_group)
    }

    /// Returns whether only root and this user may change it, whatever their groups are.
    pub fn is_only_of(self, user: u32) -> bool {
        (self.uid == 0 || self.uid == user) && self.mode & 0o022 == 0
    }

    /// Returns whether only root and this user, or their own groups, may change it.
    pub fn is_only_of_group(self, user: Principal) -> bool {
        (self.uid == 0 || self.uid == user.uid) && !self.is_writable_by_others(user.gid)
    }

    /// Returns whether users besides root may write.
    pub fn is_open_to_others_than_root(self) -> bool {
        self.uid != 0 || self.is_writable_by_others(0)
    }
}
