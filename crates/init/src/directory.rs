//! Opens a service directory, finds out its owner, and makes the files that a supervisor keeps in
//! it.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::OnceLock;

use gatevisor_core::entry::DirectoryIdentity;
use gatevisor_core::trust::{self, Ownership, Principal, RunsAs};
use gatevisor_paths::{Links, Mounts, RefusalReason, ResolveError, Resolver, by_path};
use gatevisor_sys::user::{self, User};
use gatevisor_sys::{Errno, file};
use gatevisor_wire::files;
use gatevisor_wire::status::Status;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Stat, fchmod, fchown, fstat, mkdirat, mknodat, openat, statat,
    unlinkat,
};

use crate::orphaned_status::Orphan;
use crate::status_file::put_status;

/// Mode of a `supervise/` that we make: the owner decides who may send commands.
const SUPERVISE_MODE: u32 = 0o700;
/// Mode of a control FIFO that we make.
const CONTROL_MODE: u32 = 0o600;

/// Why a directory is not supervised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{step}: {errno}")]
    Step { step: &'static str, errno: Errno },
    #[error("it belongs to uid {owner}, and this supervisor runs as uid {ours}; only root can serve others")]
    ForeignOwner { owner: u32, ours: u32 },
    #[error("others than its owner may write to it (mode {mode:04o}); remove that permission")]
    WritableByOthers { mode: u32 },
    #[error("the symbolic link belongs to uid {0}, neither root nor the owner of its target")]
    PlantedLink(u32),
    #[error("the symbolic link leads where nobody may be led: {0}")]
    Astray(ResolveError),
    #[error("another file system is mounted there, and no link of root's leads to it")]
    Mounted,
    #[error("its log belongs to uid {log}, and it belongs to uid {entry}")]
    ForeignLog { log: u32, entry: u32 },
    #[error("`{0}` exists and is something else")]
    WrongType(&'static str),
    #[error("its lock is held: another supervisor serves it")]
    Locked,
    #[error("too few descriptors are left; raise the limit of open files")]
    NoDescriptors,
    #[error(
        "uid {owner} has {limit} services already, the most that one user may have; raise --max-services-of-user"
    )]
    TooManyOfOwner { owner: u32, limit: usize },
    #[error("there are {limit} services already, the most that there may be; raise --max-services")]
    TooMany { limit: usize },
    #[error("it is what directs this supervisor, and no service")]
    Ours,
    #[error("it is the directory of `{0}`, which is supervised already")]
    Taken(String),
    #[error("{0}")]
    Owner(#[from] user::LookupError),
}

fn at(step: &'static str) -> impl Fn(Errno) -> Refusal {
    move |errno| Refusal::Step { step, errno }
}

/// A service directory that is opened and locked by us.
#[derive(Debug)]
pub(crate) struct OpenedService {
    identity: DirectoryIdentity,
    dir: Rc<OwnedFd>,
    supervise: OwnedFd,
    control: OwnedFd,
    /// Kept open only for its lock.
    _lock: OwnedFd,
    owner: Option<Rc<User>>,
    normally_up: bool,
    is_published: bool,
    orphan: Option<Orphan>,
}

impl OpenedService {
    pub(crate) fn identity(&self) -> DirectoryIdentity {
        self.identity
    }

    pub(crate) fn dir(&self) -> &Rc<OwnedFd> {
        &self.dir
    }

    pub(crate) fn supervise(&self) -> &OwnedFd {
        &self.supervise
    }

    pub(crate) fn control(&self) -> &OwnedFd {
        &self.control
    }

    /// Returns the owner, unless it is the user of this process.
    pub(crate) fn owner(&self) -> Option<&Rc<User>> {
        self.owner.as_ref()
    }

    /// Returns whether it has no `down` file.
    pub(crate) fn is_normally_up(&self) -> bool {
        self.normally_up
    }

    /// Returns whether its first status was written.
    pub(crate) fn is_published(&self) -> bool {
        self.is_published
    }

    /// Returns the last status that a killed supervisor published of it.
    pub(crate) fn orphan(&self) -> Option<Orphan> {
        self.orphan
    }
}

/// Looks up each owner's groups once for all of the owner's services.
#[derive(Debug, Default)]
pub(crate) struct Owners(Vec<Rc<User>>);

impl Owners {
    fn get(&mut self, uid: u32) -> Result<Rc<User>, user::LookupError> {
        if let Some(known) = self.0.iter().find(|user| user.uid == uid) {
            return Ok(Rc::clone(known));
        }
        let user = Rc::new(user::lookup_uid(uid)?);
        self.0.push(Rc::clone(&user));
        Ok(user)
    }

    /// Forgets the groups, so that changed ones count from the next scan on.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Returns the user and the group of this process.
///
/// They never change in a supervisor, so the kernel is asked once and not for each file.
pub(crate) fn ourselves() -> Principal {
    static OURSELVES: OnceLock<Principal> = OnceLock::new();
    *OURSELVES.get_or_init(|| Principal {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    })
}

/// Returns the user of this process.
pub(crate) fn our_user() -> u32 {
    ourselves().uid
}

/// Returns the owner and permissions of a file.
pub(crate) fn ownership(stat: &Stat) -> Ownership {
    Ownership { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode }
}

/// Converts a user to the type that decisions take.
pub(crate) fn principal(user: &User) -> Principal {
    Principal { uid: user.uid, gid: user.gid }
}

/// Returns the owner in `stat` if we may serve that user; `None` if the directory's programs run as
/// the supervisor's user.
fn authority(stat: &Stat, owners: &mut Owners) -> Result<Option<Rc<User>>, Refusal> {
    let (owner, ours) = (stat.st_uid, our_user());
    let user = match trust::runs_as(owner, ours) {
        Some(RunsAs::Supervisor) => None,
        Some(RunsAs::Owner) => Some(owners.get(owner)?),
        None => return Err(Refusal::ForeignOwner { owner, ours }),
    };
    let own_group = user.as_ref().map_or(ourselves().gid, |user| user.gid);
    if ownership(stat).is_writable_by_others(own_group) {
        return Err(Refusal::WritableByOthers { mode: stat.st_mode & 0o7777 });
    }
    Ok(user)
}

/// Returns which mounts may be entries without a link: none if anybody but root and us controls the
/// scandir. Otherwise such a user could replace the directory above a mount point, and another
/// volume would be mounted as an entry.
pub(crate) fn allowed_mounts(scandir: impl AsFd) -> Mounts {
    let is_ours = fstat(scandir).is_ok_and(|stat| ownership(&stat).is_only_of_group(ourselves()));
    if is_ours { Mounts::Operators } else { Mounts::BehindLinks }
}

/// Opens the directory `name` of the scandir. A link is followed only if its owner may choose the
/// target.
pub(crate) fn open_entry(scandir: impl AsFd, mounted: Mounts, name: &[u8]) -> Result<OwnedFd, Refusal> {
    let resolver = Resolver::READING.following(Links::RootsOrOwnersOfTarget).crossing(mounted);
    let opened = resolver.directory(&scandir, OsStr::from_bytes(name));
    opened.map_err(|error| refused(scandir.as_fd(), name, error))
}

/// Returns why an entry of the scandir was not opened.
///
/// Problems with the target of a user's own link are not described, because that user need not be
/// allowed to know what is there.
fn refused(scandir: BorrowedFd<'_>, name: &[u8], error: ResolveError) -> Refusal {
    let stat = statat(scandir, name, AtFlags::SYMLINK_NOFOLLOW);
    let link = stat.ok().filter(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink());
    let is_roots = |stat: &Stat| stat.st_uid == 0 && stat.st_nlink == 1;
    match (link, error.reason) {
        (Some(link), _) if !is_roots(&link) && link.st_uid != our_user() => Refusal::PlantedLink(link.st_uid),
        (_, RefusalReason::Errno(errno)) => Refusal::Step { step: "opening it", errno },
        (None, RefusalReason::OtherMount) => Refusal::Mounted,
        (None, _) => Refusal::Step { step: "opening it", errno: error.errno() },
        (Some(_), _) => Refusal::Astray(error),
    }
}

/// Prepares an opened directory, to which `stat` belongs, for supervision, and locks it.
///
/// This process must not supervise it already: the lock only excludes other processes, and is lost
/// when one of its descriptors is closed. Existing files keep their owner and mode; new ones belong
/// to the directory's owner.
///
/// `first_status` makes the first status, given whether the service is normally up. It is written
/// before the control FIFO is opened, because the open FIFO tells others that the service is
/// supervised. `may_be_orphaned` tells that our last supervisor was killed.
pub(crate) fn prepare(
    dir: OwnedFd,
    stat: &Stat,
    owners: &mut Owners,
    may_be_orphaned: bool,
    first_status: impl Fn(bool) -> Status,
) -> Result<OpenedService, Refusal> {
    let owner = authority(stat, owners)?;
    make_directory(&dir, files::EVENT, files::EVENT_MODE, owner.as_deref())?;
    let made = make_directory(&dir, files::SUPERVISE, SUPERVISE_MODE, owner.as_deref())?;
    let is_fresh = made.is_some();
    let supervise = match made {
        Some(supervise) => supervise,
        None => file::open_directory(&dir, files::SUPERVISE).map_err(at("opening supervise"))?,
    };
    let lock = file::lock(&supervise, "lock").map_err(at("locking it"))?.ok_or(Refusal::Locked)?;
    forget_the_past(&supervise, is_fresh)?;
    // If the service holds a lock of its own, that lock prevents a second instance, and s6 leaves
    // the service alone, too.
    let holds_a_lock = || statat(&dir, files::LOCK_FD, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    let is_orphaned = may_be_orphaned && !is_fresh && !holds_a_lock();
    let orphan = if is_orphaned { Orphan::of(&supervise) } else { None };
    let normally_up = match statat(&dir, files::DOWN, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => true,
        Ok(_) => false,
        Err(errno) => return Err(Refusal::Step { step: "looking for `down`", errno }),
    };
    // If it cannot be written, the supervision that follows reports that and continues without it.
    let is_published = put_status(&supervise, &first_status(normally_up), is_fresh).is_ok();
    let control = make_control(&supervise, owner.as_deref())?;
    Ok(OpenedService {
        identity: identity(stat),
        dir: Rc::new(dir),
        supervise,
        control,
        _lock: lock,
        owner,
        normally_up,
        is_published,
        orphan,
    })
}

/// Returns an error unless the programs in the directory `log` of an entry may run as the owner of
/// `log`.
pub(crate) fn log_belongs(entry: impl AsFd, log: impl AsFd) -> Result<(), Refusal> {
    let owner = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| stat.st_uid).map_err(at("looking at log"));
    let (entry, log) = (owner(entry.as_fd())?, owner(log.as_fd())?);
    if trust::may_have_log_of(entry, log, our_user()) {
        Ok(())
    } else {
        Err(Refusal::ForeignLog { log, entry })
    }
}

/// Returns what kind of file a descriptor is, and whose.
pub(crate) fn look(dir: impl AsFd) -> Result<Stat, Refusal> {
    fstat(dir).map_err(at("looking at it"))
}

/// Returns what distinguishes a directory from every other one.
pub(crate) fn identity(stat: &Stat) -> DirectoryIdentity {
    DirectoryIdentity { device: stat.st_dev, inode: stat.st_ino }
}

/// Gives a file that we have just made to its owner.
///
/// A user who may write to the directory may have replaced it already. So it is changed only if it
/// still belongs to us, has no other name, and is empty.
fn give(made: impl AsFd, stat: &Stat, name: &'static str, owner: Option<&User>) -> Result<(), Refusal> {
    let is_fresh = if FileType::from_raw_mode(stat.st_mode).is_dir() {
        owner.is_none() || is_empty(&made).map_err(at("looking into what was made"))?
    } else {
        stat.st_nlink == 1
    };
    if stat.st_uid != our_user() || !is_fresh {
        return Err(Refusal::WrongType(name));
    }
    let Some(owner) = owner else { return Ok(()) };
    let uid = Some(rustix::fs::Uid::from_raw(owner.uid));
    let gid = Some(rustix::fs::Gid::from_raw(owner.gid));
    fchown(made, uid, gid).map_err(at("giving it to its owner"))
}

/// Returns whether a directory has no entries.
fn is_empty(directory: impl AsFd) -> Result<bool, Errno> {
    let mut space = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(directory, &mut space);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a directory and returns it; `None` if the name existed already.
fn make_directory(
    dir: impl AsFd,
    name: &'static str,
    mode: u32,
    owner: Option<&User>,
) -> Result<Option<OwnedFd>, Refusal> {
    match mkdirat(&dir, name, Mode::from_raw_mode(mode & 0o777)) {
        Err(Errno::EXIST) => return Ok(None),
        other => other.map_err(at("making a directory in it"))?,
    }
    let fresh = file::open_directory(&dir, name).map_err(|_| Refusal::WrongType(name))?;
    let stat = fstat(&fresh).map_err(at("looking at what was made"))?;
    give(&fresh, &stat, name, owner)?;
    // The mode is set after the change of owner, which clears the set-group-id bit, and regardless
    // of the umask.
    if mode & !0o777 != 0 {
        fchmod(&fresh, Mode::from_raw_mode(mode)).map_err(at("setting a mode in it"))?;
    }
    Ok(Some(fresh))
}

fn make_control(supervise: impl AsFd, owner: Option<&User>) -> Result<OwnedFd, Refusal> {
    const NAME: &str = "control";
    const WRONG: Refusal = Refusal::WrongType("supervise/control");
    let supervise = supervise.as_fd();
    let made = match mknodat(supervise, NAME, FileType::Fifo, Mode::from_raw_mode(CONTROL_MODE), 0) {
        Ok(()) => true,
        Err(Errno::EXIST) => {
            let stat =
                statat(supervise, NAME, AtFlags::SYMLINK_NOFOLLOW).map_err(at("looking at control"))?;
            if !FileType::from_raw_mode(stat.st_mode).is_fifo() {
                return Err(WRONG);
            }
            false
        }
        Err(errno) => return Err(Refusal::Step { step: "making the control FIFO", errno }),
    };
    let (fifo, stat) = open_fifo(supervise, NAME).map_err(at("opening the control FIFO"))?.ok_or(WRONG)?;
    if made {
        give(&fifo, &stat, "supervise/control", owner)?;
    }
    Ok(fifo)
}

/// Opens a FIFO for reading, and for writing, too, so that it never ends; also returns its kind and
/// owner. `None` if it is not a FIFO, or is borrowed.
pub(crate) fn open_fifo(dir: impl AsFd, name: &str) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(&dir, name, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    // Another name may belong to a FIFO that somebody else reads, and bytes meant for that reader
    // would come here.
    let is_borrowed = stat.st_nlink != 1 && fstat(&dir)?.st_uid != stat.st_uid;
    Ok((FileType::from_raw_mode(stat.st_mode).is_fifo() && !is_borrowed).then_some((fd, stat)))
}

/// Empties the death tally and removes the policy of an earlier supervisor. If `supervise/` is new,
/// there is none.
fn forget_the_past(supervise: impl AsFd, is_fresh: bool) -> Result<(), Refusal> {
    const TALLY: &str = "death_tally";
    let (supervise, mode) = (supervise.as_fd(), Mode::from_raw_mode(0o644));
    // An empty file is complete as soon as it exists.
    match mknodat(supervise, TALLY, FileType::RegularFile, mode, 0) {
        Err(Errno::EXIST) => file::publish(supervise, TALLY, "death_tally.new", &[], mode),
        other => other,
    }
    .map_err(at("emptying the death tally"))?;
    if is_fresh {
        return Ok(());
    }
    match unlinkat(supervise, "policy", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Refusal::Step { step: "removing the old policy", errno }),
    }
}

/// Makes the directory and missing parents.
pub(crate) fn make_scandir(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match by_path::open(path, flags) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    std::fs::create_dir_all(path)
        .map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    by_path::open(path, flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_where_its_owner_may_decide_that_and_nobody_is_told_what_others_links_lead_to() {
        if our_user() != 0 {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let give = |name: &str, owner| std::os::unix::fs::lchown(at(name), Some(owner), None).unwrap();
        for (name, owner) in [("roots", 0), ("theirs", 12_345)] {
            std::fs::create_dir(at(name)).unwrap();
            give(name, owner);
        }
        let scandir = file::open_directory(rustix::fs::CWD, temp.path()).unwrap();
        let open = |name: &str| {
            let opened = open_entry(&scandir, Mounts::BehindLinks, name.as_bytes());
            opened.map(|dir| fstat(dir).unwrap().st_ino).map_err(|refusal| refusal.to_string())
        };
        let planted = |owner: u32| Err(Refusal::PlantedLink(owner).to_string());
        for (name, target, owner, expected) in [
            ("a", "theirs", 0, Ok("theirs")),
            ("b", "roots", 0, Ok("roots")),
            ("c", "theirs", 12_345, Ok("theirs")),
            ("d", "roots", 12_345, planted(12_345)),
            ("e", "missing", 12_345, planted(12_345)),
            ("f", "missing", 0, Err(format!("opening it: {}", Errno::NOENT))),
            ("g", "theirs", 54_321, planted(54_321)),
            ("i", "b", 0, Ok("roots")),
            ("j", "a", 0, Ok("theirs")),
            ("k", "/proc/self/cwd", 12_345, planted(12_345)),
        ] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
            give(name, owner);
            let inode =
                |name: &str| file::open_directory(&scandir, name).map(|dir| fstat(dir).unwrap().st_ino);
            assert_eq!(open(name), expected.map(|name| inode(name).unwrap()), "{name}");
        }
        // A link of root's that leads through another user's directory, or has a second name,
        // proves nothing.
        std::os::unix::fs::symlink("c", at("l")).unwrap();
        assert!(open("l").is_ok(), "what is theirs is reached through what is theirs");
        std::os::unix::fs::symlink("d", at("m")).unwrap();
        let said = open("m").unwrap_err();
        assert!(said.starts_with("the symbolic link leads where nobody may be led: "), "{said}");
        assert!(said.contains("uid 12345"), "{said}");
        std::fs::hard_link(at("b"), at("h")).unwrap();
        assert!(open("h").is_err());
        std::fs::write(at("file"), "").unwrap();
        assert_eq!(open("file"), Err(format!("opening it: {}", Errno::NOTDIR)));
    }
}
