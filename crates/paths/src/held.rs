//! Directories that are held open, at which the paths of this thread begin for a while.
//!
//! *Lives here:* which directories are held, and which of them a path leads through.
//! *Does not live here:* resolving the rest of a path (`resolve`).
//!
//! A command that reads many files of one home would pass the same directories for each of them. So
//! these directories are resolved once and held open. Below them, the rules for links and mounts
//! are the same as for the whole path, because no link but root's was followed on the way. If
//! another directory gets the name meanwhile, only the next command sees that directory.
//!
//! While anybody holds any, this thread stays the same user, which the kernel is asked for once.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::{Rc, Weak};

use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::resolve::{Links, Resolver};

thread_local! {
    static HELD: RefCell<Vec<Weak<HeldDirectory>>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread is root, while anybody holds directories.
    static USER: RefCell<Weak<IsRoot>> = const { RefCell::new(Weak::new()) };
}

#[derive(Debug)]
struct IsRoot(bool);

#[derive(Debug)]
struct HeldDirectory {
    path: PathBuf,
    directory: OwnedFd,
    /// Whether no link at all was followed on the way to it.
    is_without_links: bool,
}

/// The held directories. They are released when this is dropped.
#[derive(Debug)]
#[must_use = "the directories are held as long as this lives"]
pub struct HeldDirectories {
    _held: Vec<Rc<HeldDirectory>>,
    _user: Rc<IsRoot>,
}

/// Has paths below these directories begin there, until the result is dropped.
///
/// One that cannot be opened is not held, nor one to which a link of another user leads: the rules
/// for the whole path decide then. Only root's paths are resolved step by step, so for other users
/// nothing is held.
///
/// Until then, this thread must not become another user.
pub fn hold<P: AsRef<Path>>(directories: impl IntoIterator<Item = P>) -> HeldDirectories {
    let user = USER.with_borrow_mut(|known| {
        known.upgrade().unwrap_or_else(|| {
            let asked = Rc::new(IsRoot(geteuid().is_root()));
            *known = Rc::downgrade(&asked);
            asked
        })
    });
    let directories = directories.into_iter().filter(|_| user.0);
    let mut held = Vec::new();
    HELD.with_borrow_mut(|known| known.retain(|other| other.strong_count() > 0));
    for directory in directories {
        // The way to the next one may lead through it.
        if let Some(directory) = opened(directory.as_ref()).map(Rc::new) {
            HELD.with_borrow_mut(|known| known.push(Rc::downgrade(&directory)));
            held.push(directory);
        }
    }
    HeldDirectories { _held: held, _user: user }
}

/// Returns whether this thread is root.
pub fn is_root() -> bool {
    let known = USER.with_borrow(|known| known.upgrade().map(|user| user.0));
    known.unwrap_or_else(|| geteuid().is_root())
}

fn opened(path: &Path) -> Option<HeldDirectory> {
    // Below the root directory of another process, the rules for mounts are different.
    let is_plain = path.is_absolute() && !path.starts_with("/proc") && !has_parent(path);
    if !is_plain {
        return None;
    }
    let (begin, flags) = (begin(path), OFlags::PATH | OFlags::DIRECTORY);
    let by = |rules: Resolver| match &begin {
        Some(begin) => rules.from(begin.as_fd(), begin.rest, flags).ok(),
        None => rules.from_root(path, flags).ok(),
    };
    let path = path.to_owned();
    if let Some(directory) = by(Resolver::READING) {
        let is_without_links = begin.as_ref().is_none_or(|begin| begin.held.is_without_links);
        return Some(HeldDirectory { path, directory, is_without_links });
    }
    let directory = by(Resolver::READING.following(Links::Roots))?;
    Some(HeldDirectory { path, directory, is_without_links: false })
}

fn has_parent(path: &Path) -> bool {
    path.components().any(|part| matches!(part, Component::ParentDir))
}

/// The last held directory on the way to a path.
pub struct Begin<'a> {
    held: Rc<HeldDirectory>,
    /// The rest of the path; `.` if it leads to the directory itself.
    pub rest: &'a Path,
}

impl AsFd for Begin<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.directory.as_fd()
    }
}

/// Returns the last held directory on the way to a path, if there is one.
pub fn begin(path: &Path) -> Option<Begin<'_>> {
    let held = HELD.with_borrow(|known| {
        let held = known.iter().filter_map(Weak::upgrade);
        let on_the_way = held.filter(|held| path.starts_with(&held.path));
        on_the_way.max_by_key(|held| held.path.as_os_str().len())
    })?;
    let rest = path.strip_prefix(&held.path).ok()?;
    if rest.as_os_str().is_empty() {
        // A look at this name that follows no link would see a link there.
        return held.is_without_links.then_some(Begin { held, rest: Path::new(".") });
    }
    (!has_parent(rest)).then_some(Begin { held, rest })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use rustix::io::Errno;

    use super::*;
    use crate::by_path;

    fn read(path: &Path) -> Result<String, Errno> {
        let file = by_path::open(path, OFlags::RDONLY)?;
        Ok(std::io::read_to_string(fs::File::from(file)).unwrap())
    }

    #[test]
    fn a_held_directory_is_the_same_until_it_is_let_go_and_then_the_path_leads_anew() {
        let temp = tempfile::tempdir().unwrap();
        let (home, other, file) =
            (temp.path().join("home"), temp.path().join("other"), temp.path().join("home/file"));
        for (directory, text) in [(&home, "first"), (&other, "second")] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("file"), text).unwrap();
        }
        let held = hold([&home]);
        fs::rename(&home, temp.path().join("gone")).unwrap();
        fs::rename(&other, &home).unwrap();
        let expected = if geteuid().is_root() { "first" } else { "second" };
        assert_eq!(read(&file).unwrap(), expected);
        drop(held);
        assert_eq!(read(&file).unwrap(), "second");
    }

    #[test]
    fn a_directory_below_a_held_one_is_the_one_that_is_there_and_not_in_what_got_its_name() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let home = temp.path().join("home");
        for text in ["first", "second"] {
            fs::create_dir_all(home.join("inner")).unwrap();
            fs::write(home.join("inner/file"), text).unwrap();
            if text == "first" {
                fs::rename(&home, temp.path().join("gone")).unwrap();
            }
        }
        let (gone, inner) = (temp.path().join("gone"), temp.path().join("gone/inner"));
        let outer = hold([&gone]);
        fs::rename(&gone, temp.path().join("aside")).unwrap();
        fs::rename(&home, &gone).unwrap();
        let held = hold([&inner]);
        assert_eq!(read(&inner.join("file")).unwrap(), "first");
        drop(outer);
        assert_eq!(read(&inner.join("file")).unwrap(), "first");
        drop(held);
        assert_eq!(read(&inner.join("file")).unwrap(), "second");
        // What lies behind a link is not held as if no link led there.
        let link = temp.path().join("link");
        symlink(&gone, &link).unwrap();
        let held = hold([&link, &link.join("inner")]);
        assert!(begin(&link.join("inner")).is_none_or(|begin| begin.rest != Path::new(".")));
        drop(held);
    }

    #[test]
    fn the_nearest_of_several_held_directories_counts_and_a_link_that_has_the_name_of_one_is_still_seen() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let (outer, inner) = (temp.path().to_owned(), temp.path().join("inner"));
        fs::create_dir(&inner).unwrap();
        let _inner = hold([&inner]);
        let held = hold([&outer]);
        let rest = |path: &Path| begin(path).map(|begin| begin.rest.to_owned());
        assert_eq!(rest(&inner.join("a/b")), Some("a/b".into()));
        assert_eq!((rest(&inner), rest(&outer)), (Some(".".into()), Some(".".into())));
        assert_eq!(rest(&outer.join("inner-too")), Some("inner-too".into()));
        assert_eq!(rest(&inner.join("../x")), None);
        drop(held);
        assert_eq!(rest(&outer.join("a")), None);
        // A link that has the name of a directory can be looked at itself.
        let link = outer.join("link");
        symlink(&inner, &link).unwrap();
        let _link = hold([&link]);
        assert_eq!((rest(&link.join("a")), rest(&link)), (Some("a".into()), None));
        assert!(by_path::look_itself(&link).unwrap().is_link());
    }

    #[test]
    fn below_a_held_directory_root_is_led_by_no_other_links_than_on_the_whole_path() {
        if !geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let agent = 54_321;
        let [roots, agents, slot] = ["roots", "agents", "slot"].map(|name| temp.path().join(name));
        for made in [&roots, &agents, &slot] {
            fs::create_dir(made).unwrap();
        }
        lchown(&agents, Some(agent), Some(agent)).unwrap();
        let led = |target: &Path, owner: u32, is_held: bool| {
            let at = slot.join("event");
            let _ = fs::remove_file(&at);
            symlink(target, &at).unwrap();
            lchown(&at, Some(owner), Some(owner)).unwrap();
            let _held = hold(is_held.then_some(&slot));
            by_path::directory(&at).map(drop)
        };
        for (target, owner) in [(&roots, agent), (&roots, 0), (&agents, 0), (&agents, agent)] {
            assert_eq!(led(target, owner, true), led(target, owner, false), "{} {owner}", target.display());
        }
        assert_eq!(led(&roots, agent, true), Err(Errno::LOOP));
        // A directory to which a link of the agent's leads is not held, so its end must be the
        // agent's.
        symlink(&agents, temp.path().join("way")).unwrap();
        lchown(temp.path().join("way"), Some(agent), Some(agent)).unwrap();
        fs::write(agents.join("secret"), "root's").unwrap();
        let _held = hold([temp.path().join("way")]);
        assert_eq!(by_path::open(temp.path().join("way/secret"), OFlags::RDONLY).unwrap_err(), Errno::LOOP);
    }
}
