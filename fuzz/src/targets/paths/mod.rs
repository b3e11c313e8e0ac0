//! Any tree that an agent can make, and what root does in it: every way of the crate `paths`.
//!
//! *Lives here:* the meaning of bytes as orders, and what must hold after each. *Does not live
//! here:* the tree (`tree`), and where a path should lead by the rules (`expected`).
//!
//! The first bytes choose the walk at the end. Each order after them is one byte and its arguments.
//! Mounts are made only if `GATEVISOR_FUZZ_MAY_MOUNT` says that this process has a mount name space
//! of its own. Orders that cannot be carried out, without it or without being root, are left out.

mod expected;
mod tree;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Component, Path, PathBuf};

use gatevisor_paths::walk::{WalkProgress, WalkReport, Wrong};
use gatevisor_paths::{Links, Mounts, OpenHome, Resolver, Walker, by_path, look};
use rustix::fs::{CWD, Mode, OFlags, openat};

use expected::{Rules, leads};
use tree::{AGENT, Tree, is_root, may_give};

/// The most orders of one input.
const MOST_ORDERS: usize = 64;
/// The most orders that look for something.
const MOST_TRIES: usize = 8;
/// The most components of a path that is tried.
const MOST_COMPONENTS: u8 = 6;

/// The rest of the input.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Returns the next byte, or 0 at the end.
    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }
}

/// Makes the tree that the bytes describe, opens paths in it, and walks it.
pub fn paths(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (walk, turn) = (bytes.byte(), bytes.byte());
    let mut tree = Tree::new();
    let mut tries = 0;
    for _ in 0..MOST_ORDERS {
        let Some(order) = bytes.next() else { break };
        if order < 12 {
            tree.obey(order, || bytes.byte());
        } else if tries < MOST_TRIES {
            tries += 1;
            match order % 4 {
                0 | 1 => resolves(&tree, &mut bytes),
                2 => makes(&tree, &mut bytes),
                _ => finds_home(&tree, &mut bytes),
            }
        }
    }
    walks(&tree, walk, turn);
}

/// Reads a path below the tree.
fn path(bytes: &mut Bytes<'_>) -> PathBuf {
    let many = bytes.byte() % MOST_COMPONENTS;
    (0..=many).map(|_| component(bytes.byte())).collect::<Vec<_>>().join("/").into()
}

fn component(byte: u8) -> String {
    match byte % 16 {
        12 => ".".into(),
        13 => "none".into(),
        14 => "d".into(),
        15 if byte > 127 => "..".into(),
        15 => String::new(),
        number => format!("n{number}"),
    }
}

fn directory(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).expect("the tree is there")
}

/// Opens a path with one set of rules, by the kernel's own call and by steps, and compares both
/// with the rules.
fn resolves(tree: &Tree, bytes: &mut Bytes<'_>) {
    let choice = bytes.byte();
    let links = [Links::Refused, Links::Roots, Links::RootsOrOwnersOfTarget, Links::All];
    let mounts = [Mounts::None, Mounts::Operators, Mounts::BehindLinks, Mounts::All];
    let pick = |shift: u8| usize::from(choice >> shift & 3);
    let rules = Rules { links: links[pick(0)], mounts: mounts[pick(2)] };
    let flags =
        [OFlags::RDONLY, OFlags::RDONLY | OFlags::DIRECTORY, OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW]
            [pick(4)];
    let path = path(bytes);
    let resolver = Resolver::STRICT.following(rules.links).crossing(rules.mounts);
    let base = directory(&tree.top());
    let [quick, slow] = [resolver, resolver.by_steps()].map(|resolver| {
        let opened = resolver.open(&base, &path, flags);
        opened.map(|fd| look(fd).expect("what is open can be looked at")).map_err(|error| {
            // If nothing is there, the component does not matter.
            let at = if error.is_missing() { path.clone() } else { error.path };
            (at, error.reason)
        })
    });
    assert_eq!(quick, slow, "{rules:?} {flags:?} {}: openat2 and the steps differ", path.display());
    let wanted = leads(rules, &tree.top(), &path, flags);
    let found = quick.as_ref().ok().map(|seen| (seen.device, seen.inode));
    let numbers = wanted.as_ref().map(|path| numbers(path));
    assert_eq!(found, numbers, "{rules:?} {flags:?} {}: {quick:?}, not {wanted:?}", path.display());
}

fn numbers(path: &Path) -> (u64, u64) {
    let seen = fs::symlink_metadata(path).expect("the way ends at something");
    (seen.dev(), seen.ino())
}

/// Makes a file at the target of a path: in the tree, on its mount, or nowhere.
fn makes(tree: &Tree, bytes: &mut Bytes<'_>) {
    let by_steps = bytes.byte() & 1 == 1;
    let path = path(bytes);
    let before = tree.elsewhere();
    let resolver = if by_steps { Resolver::STRICT.by_steps() } else { Resolver::STRICT };
    let base = directory(&tree.top());
    let made = resolver.create(&base, &path, OFlags::WRONLY | OFlags::EXCL, Mode::RUSR | Mode::WUSR);
    assert_eq!(tree.elsewhere(), before, "{} was made elsewhere", path.display());
    let rules = Rules { links: Links::Refused, mounts: Mounts::None };
    let itself = OFlags::PATH | OFlags::NOFOLLOW;
    if let Ok(fd) = made {
        let seen = look(fd).expect("what is open can be looked at");
        let wanted = leads(rules, &tree.top(), &path, itself).expect("what was made is where the path leads");
        assert_eq!((seen.device, seen.inode), numbers(&wanted));
    }
    if let Ok((parent, name)) = resolver.parent(&base, &path) {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let wanted = leads(rules, &tree.top(), above, OFlags::DIRECTORY).expect("a parent is below the tree");
        let seen = look(parent).expect("what is open can be looked at");
        assert_eq!((seen.device, seen.inode), numbers(&wanted));
        assert_eq!(Path::new(name).components().count(), 1);
    }
}

/// Finds a home at a path through the tree, and makes missing directories if nobody else decides
/// where they are.
fn finds_home(tree: &Tree, bytes: &mut Bytes<'_>) {
    let wants_made = bytes.byte() & 1 == 1;
    let path = tree.top().join(path(bytes));
    let before: BTreeSet<_> = tree.whole().into_iter().map(|found| found.path).collect();
    let links = if is_root() { Links::Roots } else { Links::All };
    let rules = Rules { links, mounts: Mounts::Operators };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let is_made = wants_made && stays(tree, rules, &path);
    let wanted = leads(rules, Path::new("/"), &path, flags).map(|path| numbers(&path));
    let home = if is_made {
        OpenHome::open_or_make(&path, Mode::from_raw_mode(0o755))
    } else {
        OpenHome::open(&path)
    };
    let found = home.as_ref().ok().map(|home| (home.seen().device, home.seen().inode));
    if wanted.is_some() || !is_made {
        assert_eq!(found, wanted, "{}: {home:?}", path.display());
    }
    for new in tree.whole().into_iter().filter(|found| !before.contains(&found.path)) {
        let above = new.path.parent().expect("it is in the tree");
        let is_others = is_root() && tree.is_theirs(above);
        assert!(is_made && !is_others, "{} was made where others decide", new.path.display());
    }
    let Ok(home) = home else { return };
    let at = by_path::path_of(&home).expect("there is /proc");
    // What was found before was not made, wherever it is.
    let was_there = wanted.is_some();
    assert!(
        !is_made || was_there || at.starts_with(tree.root()),
        "{} was made beside everything",
        at.display()
    );
    let through = expected::passed(rules, &path);
    let is_theirs = |path: &PathBuf| is_root() && tree.is_theirs(path);
    if through.iter().any(is_theirs) {
        home.above().expect_err("an agent's directory is on the way");
    }
}

/// Returns whether missing directories on the way would be made in the tree or beside it. Links of
/// root, and `..`, may also lead root to `/`, where this target must leave nothing.
fn stays(tree: &Tree, rules: Rules, path: &Path) -> bool {
    let above = tree.root().components().count().saturating_sub(1);
    let is_below = path.starts_with(tree.top());
    let is_straight = is_below && !path.components().any(|part| part == Component::ParentDir);
    let passed = expected::passed(rules, path);
    is_straight && passed.iter().skip(above).all(|directory| directory.starts_with(tree.root()))
}

/// Measures, gives away and removes the tree, while an agent may change it.
fn walks(tree: &Tree, choice: u8, turn: u8) {
    let before = tree.elsewhere();
    let (own, most) = tree.counted();
    let calls = Cell::new(0_u64);
    let is_hostile = choice & 1 == 1 && tree.mounts().is_empty();
    let mut going = |_: &WalkProgress| {
        calls.set(calls.get() + 1);
        if is_hostile && calls.get().is_multiple_of(u64::from(turn) + 1) {
            swap(tree, calls.get());
        }
        // No tree needs more than this, so the walk does not end.
        assert!(calls.get() < most * 100 + 5000, "a walk of {most} entries takes too many steps");
        true
    };
    let mut walker = Walker::new(&mut going);
    if choice & 2 == 2 {
        walker = walker.by_steps();
    }
    let top = directory(&tree.top());
    let (measured, report) = walker.measure(&top).expect("the tree can be read");
    if !is_hostile {
        assert_eq!(measured.entries, own, "{report:?}");
    }
    gives(tree, &mut walker, is_hostile);
    assert_eq!(tree.elsewhere(), before, "giving touched what is not in the tree");
    calls.set(0);
    let mut walker = Walker::new(&mut going);
    if choice & 2 == 2 {
        walker = walker.by_steps();
    }
    removes(tree, &mut walker, choice, is_hostile);
    assert_eq!(tree.elsewhere(), before, "removing touched what is not in the tree");
}

fn gives(tree: &Tree, walker: &mut Walker<'_>, is_hostile: bool) {
    if !may_give() {
        return;
    }
    let above = directory(tree.root());
    let report = walker.give(&above, c"tree", (AGENT, AGENT));
    if is_hostile {
        return;
    }
    told(tree, &report);
    assert!(report.problems.iter().all(|problem| problem.why == Wrong::OtherNames), "{report:?}");
    assert_eq!(
        walker.give(&above, c"tree", (AGENT, AGENT)).progress.changed,
        0,
        "giving is done in one walk"
    );
}

fn removes(tree: &Tree, walker: &mut Walker<'_>, choice: u8, is_hostile: bool) {
    let above = directory(tree.root());
    let removed =
        if choice & 4 == 4 { walker.remove(&above, c"tree") } else { walker.empty(directory(&tree.top())) };
    if is_hostile {
        return;
    }
    // The kernel refuses it if a mount is left in the tree.
    let report = removed.expect("root, and the owner, can remove a tree");
    told(tree, &report);
    assert_eq!(report.problems, Vec::new());
    let left = fs::read_dir(tree.top()).map_or(0, Iterator::count);
    assert_eq!(left == 0, tree.mounts().is_empty(), "{left} entries are left");
}

/// Checks that the report names every mount of the tree, and nothing else.
fn told(tree: &Tree, report: &WalkReport) {
    assert_eq!(report.mounts.len(), tree.mounts().len(), "{report:?}");
    assert!(!report.is_stopped);
}

/// Moves an entry of the tree aside, and puts a link to what is outside in its place.
fn swap(tree: &Tree, call: u64) {
    let entry = tree.top().join(format!("n{}", call % 12));
    let aside = tree.root().join("aside").join(call.to_string());
    if call < 200 && fs::rename(&entry, aside).is_ok() {
        let _ = symlink(tree.outside(), entry);
    }
}
