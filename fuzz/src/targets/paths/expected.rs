//! Where a path should lead by the rules.
//!
//! *Lives here:* the rules a second time, in their simplest form, with whole paths that nobody
//! changes meanwhile. *Does not live here:* anything of the resolver, which is compared with this.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use gatevisor_paths::{Links, Mounts, look};
use rustix::fs::{CWD, Mode, OFlags, openat};

const MOST_LINKS: usize = 16;
const MOST_STEPS: usize = 128;

/// What may be followed and crossed.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub links: Links,
    pub mounts: Mounts,
}

struct Way {
    rules: Rules,
    at: PathBuf,
    owner: Option<u32>,
    links: usize,
    passed: Vec<PathBuf>,
}

/// Returns the target of a path below a directory, as a path without links, or nothing if it may
/// not be opened.
pub fn leads(rules: Rules, base: &Path, path: &Path, flags: OFlags) -> Option<PathBuf> {
    let is_whole = base == Path::new("/");
    let leads_out = |part: Component<'_>| matches!(part, Component::ParentDir | Component::RootDir);
    if path.as_os_str().is_empty() || !is_whole && path.components().any(leads_out) {
        return None;
    }
    let mut way = Way::new(rules, base);
    let end = way.go(path, flags)?;
    let seen = fs::symlink_metadata(&end).ok()?;
    let is_owners = way.owner.is_none_or(|owner| owner == seen.uid());
    let is_kind = !flags.contains(OFlags::DIRECTORY) || seen.is_dir();
    (is_owners && is_kind).then_some(end)
}

/// Returns the directories on the way from `/`, with paths without links.
pub fn passed(rules: Rules, path: &Path) -> Vec<PathBuf> {
    let mut way = Way::new(rules, Path::new("/"));
    way.go(path, OFlags::RDONLY);
    way.passed
}

fn mount(path: &Path) -> Option<u64> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    look(openat(CWD, path, flags, Mode::empty()).ok()?).ok()?.mount
}

fn components(path: &Path) -> VecDeque<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(named).collect()
}

impl Way {
    fn new(rules: Rules, base: &Path) -> Self {
        Self { rules, at: base.to_owned(), owner: None, links: 0, passed: Vec::new() }
    }

    fn go(&mut self, path: &Path, flags: OFlags) -> Option<PathBuf> {
        let mut left = components(path);
        for _ in 0..MOST_STEPS {
            let Some(name) = left.pop_front() else { return Some(self.at.clone()) };
            self.passed.push(self.at.clone());
            let next = self.next(&name);
            let seen = fs::symlink_metadata(&next).ok()?;
            if !self.crosses(&next) {
                return None;
            }
            let is_last = left.is_empty() && name != "..";
            if seen.is_symlink() {
                if is_last && flags.contains(OFlags::NOFOLLOW) {
                    return Some(next);
                }
                let mut target = self.follow(&next, &seen)?;
                target.append(&mut left);
                left = target;
            } else if is_last {
                return Some(next);
            } else if seen.is_dir() {
                self.at = next;
            } else {
                return None;
            }
        }
        left.is_empty().then(|| self.at.clone())
    }

    fn next(&self, name: &OsString) -> PathBuf {
        if name == ".." { self.at.parent().unwrap_or(&self.at).to_owned() } else { self.at.join(name) }
    }

    fn crosses(&self, next: &Path) -> bool {
        mount(&self.at) == mount(next) || matches!(self.rules.mounts, Mounts::Operators | Mounts::All)
    }

    fn follow(&mut self, link: &Path, seen: &Metadata) -> Option<VecDeque<OsString>> {
        let is_roots = seen.uid() == 0 && seen.nlink() == 1;
        let is_one_users = seen.uid() != 0 && self.owner.is_none_or(|owner| owner == seen.uid());
        let is_allowed = match self.rules.links {
            Links::Refused => false,
            Links::Roots => is_roots,
            Links::RootsOrOwnersOfTarget => is_roots || is_one_users,
            Links::All => true,
        };
        if !is_allowed || self.links >= MOST_LINKS || link.starts_with("/proc") {
            return None;
        }
        self.links += 1;
        if seen.uid() != 0 && self.rules.links == Links::RootsOrOwnersOfTarget {
            self.owner = Some(seen.uid());
        }
        if self.rules.mounts == Mounts::BehindLinks {
            self.rules.mounts = Mounts::Operators;
        }
        let target = fs::read_link(link).ok()?;
        if target.is_absolute() {
            if !self.crosses(Path::new("/")) {
                return None;
            }
            self.at = "/".into();
        }
        Some(components(&target))
    }
}
