//! Trees of all shapes, walked while they are somebody else's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it cannot show"
)]

mod common;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{Bed, bind, c, directory, give, is_ordinary, is_root, link, may_mount, mute, tmpfs, write};
use gatevisor_paths::walk::{WalkProgress, WalkReport, Wrong};
use gatevisor_paths::{Errno, Walker};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};

const AGENT: (u32, u32) = (12_345, 12_345);

/// Lets a walk go on, up to more entries than any test has.
fn always(progress: &WalkProgress) -> bool {
    assert!(progress.entries < 100_000, "the walk does not end");
    true
}

fn emptied(path: &Path) -> WalkReport {
    Walker::new(&mut always).empty(directory(path)).unwrap()
}

fn given(parent: &Path, name: &str) -> WalkReport {
    Walker::new(&mut always).give(directory(parent), &c(name), AGENT)
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

/// Makes `depth` directories in each other, deeper than a path can tell.
fn chain(top: &Path, depth: usize) -> OwnedFd {
    let mut at = directory(top);
    for _ in 0..depth {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    at
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_tree_is_emptied_and_no_link_of_it_is_followed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("tree/a/b/file"), "x");
    write(&at("tree/.hidden/file"), "x");
    write(&at("outside/file"), "precious");
    symlink(at("outside"), at("tree/a/link")).unwrap();
    symlink("../outside", at("tree/link")).unwrap();
    let report = emptied(&at("tree"));
    assert_eq!((report.mounts.len(), report.problems.len(), report.is_stopped), (0, 0, false));
    assert_eq!((count(&at("tree")), count(&at("outside"))), (0, 1));
}

#[test]
fn no_depth_is_too_deep_and_few_descriptors_are_held() {
    let temp = tempfile::tempdir().unwrap();
    drop(chain(temp.path(), 1500));
    let before = open_descriptors();
    let mut most = 0;
    let mut going = |progress: &WalkProgress| {
        if progress.entries.is_multiple_of(100) {
            most = most.max(open_descriptors());
        }
        true
    };
    let (measured, report) = Walker::new(&mut going).measure(directory(temp.path())).unwrap();
    assert_eq!((measured.entries, measured.depth), (1500, 1500));
    assert!(report.problems.is_empty());
    assert!(most < before + 50, "{most} descriptors, {before} before");
    let report = emptied(temp.path());
    assert_eq!(report.problems, [], "{report:?}");
    assert_eq!(count(temp.path()), 0);
}

#[test]
fn a_tree_that_is_deep_and_wide_at_every_level_is_walked_whole() {
    let temp = tempfile::tempdir().unwrap();
    let mut at = directory(temp.path());
    for _ in 0..200 {
        for name in ["a", "b", "m", "y", "z"] {
            mkdirat(&at, name, Mode::RWXU).unwrap();
        }
        at = openat(&at, "m", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    let (measured, report) = Walker::new(&mut always).measure(directory(temp.path())).unwrap();
    assert_eq!((measured.entries, report.problems), (1000, Vec::new()));
    assert_eq!(emptied(temp.path()).progress.changed, 1000);
    assert_eq!(count(temp.path()), 0);
}

#[test]
fn many_entries_in_one_directory_are_all_removed() {
    let temp = tempfile::tempdir().unwrap();
    for n in 0..600 {
        fs::write(temp.path().join(format!("file-{n}")), "").unwrap();
        fs::create_dir(temp.path().join(format!("directory-{n}"))).unwrap();
    }
    assert_eq!(emptied(temp.path()).progress.changed, 1200);
    assert_eq!(count(temp.path()), 0);
}

#[test]
fn a_walk_stops_between_two_entries_when_it_is_told_to() {
    let temp = tempfile::tempdir().unwrap();
    for n in 0..100 {
        fs::write(temp.path().join(n.to_string()), "").unwrap();
    }
    let report =
        Walker::new(&mut |progress: &WalkProgress| progress.changed < 40).empty(directory(temp.path()));
    let report = report.unwrap();
    assert!(report.is_stopped);
    assert_eq!((report.progress.changed, count(temp.path())), (40, 60));
}

#[test]
fn a_mount_in_a_tree_is_named_and_left_alone() {
    if !may_mount("a_mount_in_a_tree_is_named_and_left_alone") {
        return;
    }
    for by_steps in [false, true] {
        let temp = Bed::new();
        let at = |path: &str| temp.path().join(path);
        write(&at("volume/inner/file"), "precious");
        write(&at("volume/single"), "precious");
        write(&at("tree/a/mine"), "x");
        write(&at("tree/a/single"), "x");
        fs::create_dir_all(at("tree/a/b/bound")).unwrap();
        fs::create_dir_all(at("tree/t")).unwrap();
        // The same device, and the same tree within itself.
        bind(&at("volume"), &at("tree/a/b/bound"));
        bind(&at("volume/single"), &at("tree/a/single"));
        tmpfs(&at("tree/t"));
        write(&at("tree/t/file"), "precious");
        let mut going = always;
        let mut walker = Walker::new(&mut going);
        if by_steps {
            walker = walker.by_steps();
        }
        let report = walker.give(directory(temp.path()), c"tree", AGENT);
        let mut mounts = report.mounts;
        mounts.sort();
        assert_eq!(mounts, ["tree/a/b/bound", "tree/a/single", "tree/t"].map(PathBuf::from));
        for (path, expected) in [
            ("volume/inner/file", 0),
            ("volume", 0),
            ("volume/single", 0),
            ("tree/t", 0),
            ("tree/t/file", 0),
            ("tree/a/b", AGENT.0),
            ("tree/a/mine", AGENT.0),
        ] {
            assert_eq!(owner(&at(path)), expected, "{path}");
        }
        let report = walker.empty(directory(&at("tree"))).unwrap();
        let mut mounts = report.mounts;
        mounts.sort();
        assert_eq!(mounts, ["a/b/bound", "a/single", "t"].map(PathBuf::from));
        assert_eq!(fs::read_to_string(at("volume/inner/file")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(at("tree/t/file")).unwrap(), "precious");
        assert!(!at("tree/a/mine").exists());
        // Beside the mounts everything goes, also where those keep directories.
        assert_eq!((count(&at("tree")), count(&at("tree/a")), count(&at("tree/a/b"))), (2, 2, 1));
    }
}

#[test]
fn a_file_system_that_a_user_answers_for_holds_up_no_walk() {
    if !may_mount("a_file_system_that_a_user_answers_for_holds_up_no_walk") {
        return;
    }
    let temp = Bed::new();
    write(&temp.path().join("tree/file"), "x");
    fs::create_dir(temp.path().join("tree/mute")).unwrap();
    for options in ["", ",allow_other"] {
        let Some(_answers) = mute(&temp.path().join("tree/mute"), AGENT.0, options) else {
            println!("not shown: no file system can be mounted that a program answers for");
            return;
        };
        assert_eq!(given(temp.path(), "tree").mounts, [PathBuf::from("tree/mute")]);
        let (measured, report) = Walker::new(&mut always).measure(directory(temp.path())).unwrap();
        assert_eq!((measured.entries, report.mounts), (2, vec![PathBuf::from("tree/mute")]));
        let report = emptied(temp.path());
        assert_eq!(report.mounts, [PathBuf::from("tree/mute")], "{:?}", report.problems);
        write(&temp.path().join("tree/file"), "x");
        rustix::mount::unmount(temp.path().join("tree/mute"), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_tree_is_given_away_but_nothing_that_may_be_somebody_elses() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("tree/a/file"), "x");
    write(&at("outside/secret"), "x");
    fs::hard_link(at("outside/secret"), at("tree/a/borrowed")).unwrap();
    link(at("outside"), &at("tree/link"), 0);
    let device = rustix::fs::FileType::CharacterDevice;
    let number = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, at("tree/null"), device, Mode::RWXU, number).unwrap();
    let report = given(temp.path(), "tree");
    let mut wrong: Vec<_> =
        report.problems.iter().map(|problem| (problem.path.clone(), problem.why)).collect();
    wrong.sort_by_key(|(path, _)| path.clone());
    let expected = [("tree/a/borrowed", Wrong::OtherNames), ("tree/null", Wrong::Device)];
    assert_eq!(wrong, expected.map(|(path, why)| (PathBuf::from(path), why)));
    for (path, uid) in [
        ("tree", AGENT.0),
        ("tree/a", AGENT.0),
        ("tree/a/file", AGENT.0),
        ("tree/a/borrowed", 0),
        ("tree/null", 0),
        ("tree/link", 0),
        ("outside", 0),
        ("outside/secret", 0),
    ] {
        assert_eq!(owner(&at(path)), uid, "{path}");
    }
    assert_eq!((report.progress.entries, report.progress.changed), (6, 3));
    let again = given(temp.path(), "tree");
    assert_eq!(again.progress.changed, 0);
    assert_eq!(given(temp.path(), "none"), WalkReport::default());
}

#[test]
fn its_owner_removes_also_what_its_owner_may_not_enter() {
    if !is_ordinary("its_owner_removes_also_what_its_owner_may_not_enter") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("tree/closed/inner/file"), "x");
    write(&at("tree/readonly/file"), "x");
    write(&at("kept"), "x");
    for (path, mode) in [("tree/closed", 0), ("tree/readonly", 0o500), ("tree", 0o500)] {
        fs::set_permissions(at(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let remove = |name: &str| {
        let report = Walker::new(&mut always).remove(directory(temp.path()), &c(name)).unwrap();
        assert_eq!(report.problems, [], "{name}");
    };
    remove("tree");
    assert!(!at("tree").exists() && at("kept").exists());
    remove("tree");
    remove("kept");
    assert!(!at("kept").exists());
}

#[test]
fn a_directory_that_is_moved_while_it_is_walked_leads_nowhere_else() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("tree")).unwrap();
    fs::create_dir_all(at("outside/inner")).unwrap();
    write(&at("outside/file"), "precious");
    write(&at("tree/zz-last"), "x");
    drop(chain(&at("tree"), 300));
    let (tree, outside) = (directory(&at("tree")), directory(&at("outside")));
    let middle = directory(&at(&format!("tree/{}", ["d"; 100].join("/"))));
    let mut is_moved = false;
    // In the middle of its way down, what it is in is taken out of the tree.
    let mut going = |progress: &WalkProgress| {
        if progress.entries == 200 && !is_moved {
            is_moved = true;
            renameat(&middle, "d", &outside, "moved").unwrap();
        }
        true
    };
    let report = Walker::new(&mut going).empty(&tree).unwrap();
    assert!(is_moved && report.problems.iter().any(|problem| problem.why == Wrong::Moved), "{report:?}");
    assert_eq!(count(&at("tree")), 0);
    assert!(at("outside/file").exists() && at("outside/inner").exists());
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile_is_not_entered() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("outside/file"), "precious");
    for n in 0..50 {
        write(&at(&format!("tree/{n}/file")), "x");
    }
    let (top, tree) = (directory(temp.path()), directory(&at("tree")));
    let mut round = 0;
    // Each time that an entry is about to be looked at, all the others have become links.
    let mut going = |_: &WalkProgress| {
        let name = (round % 50).to_string();
        if round < 200 {
            round += 1;
            let _ = renameat(&tree, &*name, &top, format!("aside-{round}"));
            let _ = unlinkat(&tree, &*name, AtFlags::empty());
            symlink(at("outside"), at("tree").join(&name)).unwrap();
        }
        true
    };
    let report = Walker::new(&mut going).empty(&tree).unwrap();
    assert!(!report.is_stopped);
    assert_eq!((count(&at("tree")), count(&at("outside"))), (0, 1));
}

#[test]
fn a_problem_far_below_is_reported_with_its_path() {
    let temp = tempfile::tempdir().unwrap();
    if !is_root() {
        return;
    }
    let bottom = chain(temp.path(), 60);
    fs::write(temp.path().join("secret"), "").unwrap();
    rustix::fs::linkat(CWD, temp.path().join("secret"), &bottom, "borrowed", AtFlags::empty()).unwrap();
    let report = given(temp.path(), "d");
    let [problem] = &report.problems[..] else { panic!("{report:?}") };
    let text = problem.to_string();
    assert!(text.starts_with("`d/d/d/d/") && text.ends_with("d/borrowed`: it has other names"), "{text}");
    assert!(text.contains("/…/"), "{text}");
}

#[test]
fn the_top_must_be_readable() {
    let temp = tempfile::tempdir().unwrap();
    let file = fs::File::create(temp.path().join("file")).unwrap();
    assert!(file.as_raw_fd() > 0);
    assert_eq!(Walker::new(&mut always).empty(&file).unwrap_err(), Errno::NOTDIR);
    assert_eq!(
        Walker::new(&mut always).remove(directory(temp.path()), c"none").unwrap(),
        WalkReport::default()
    );
}

/// Something in a tree.
#[derive(Debug, Clone)]
enum Node {
    File,
    Link(u8),
    HardLink,
    Directory(Vec<Node>),
    Chain(u16),
    Mount(Vec<Node>),
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let leaf = prop_oneof![
        3 => Just(Node::File),
        2 => (0..4u8).prop_map(Node::Link),
        1 => Just(Node::HardLink),
        1 => (1..90u16).prop_map(Node::Chain),
    ];
    let node = leaf.prop_recursive(4, 40, 5, |inner| {
        let inside = prop::collection::vec(inner, 0..5);
        prop_oneof![4 => inside.clone().prop_map(Node::Directory), 1 => inside.prop_map(Node::Mount)]
    });
    prop::collection::vec(node, 0..6)
}

/// Makes a tree; returns how many mounts are in it, those within others not among them.
fn grow(nodes: &[Node], at: &Path, outside: &Path, is_foreign: bool) -> usize {
    let mut mounts = 0;
    for (number, node) in nodes.iter().enumerate() {
        let path = at.join(format!("n{number}"));
        match node {
            Node::File => fs::write(path, "x").unwrap(),
            Node::Link(0) => symlink(outside, path).unwrap(),
            Node::Link(1) => symlink("..", path).unwrap(),
            Node::Link(2) => symlink("/proc/self/root", path).unwrap(),
            Node::Link(_) => symlink(outside.join("file"), path).unwrap(),
            Node::HardLink => fs::hard_link(outside.join("file"), path).unwrap_or_default(),
            Node::Chain(depth) => {
                fs::create_dir(&path).unwrap();
                drop(chain(&path, usize::from(*depth)));
            }
            Node::Directory(inner) => {
                fs::create_dir(&path).unwrap();
                mounts += grow(inner, &path, outside, is_foreign);
            }
            Node::Mount(inner) => {
                fs::create_dir(&path).unwrap();
                if number % 2 == 0 {
                    bind(outside, &path);
                } else {
                    tmpfs(&path);
                    grow(inner, &path, outside, true);
                }
                mounts += usize::from(!is_foreign);
            }
        }
    }
    mounts
}

/// Tells everything of a tree that is on other mounts, by paths that the tests trust.
fn foreign(path: &Path, device: Option<u64>, found: &mut Vec<(PathBuf, u32)>) {
    let mounted = gatevisor_paths::look(directory(path)).unwrap().mount;
    for entry in fs::read_dir(path).unwrap().flatten() {
        let path = entry.path();
        if mounted != device {
            found.push((path.clone(), owner(&path)));
        }
        if fs::symlink_metadata(&path).unwrap().is_dir() && path.as_os_str().len() < 200 {
            foreign(&path, device, found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_a_random_tree_everything_on_its_mount_is_reached_and_nothing_else(nodes in nodes()) {
        if !may_mount("in_a_random_tree_everything_on_its_mount_is_reached_and_nothing_else") {
            return Ok(());
        }
        let temp = Bed::new();
        let (tree, outside) = (temp.path().join("tree"), temp.path().join("outside"));
        fs::create_dir(&tree).unwrap();
        write(&outside.join("file"), "precious");
        let mounts = grow(&nodes, &tree, &outside, false);
        let own = gatevisor_paths::look(directory(&tree)).unwrap().mount;
        let mut before = Vec::new();
        foreign(&tree, own, &mut before);
        let report = given(temp.path(), "tree");
        prop_assert_eq!(report.mounts.len(), mounts.min(20));
        prop_assert!(report.problems.iter().all(|problem| problem.why == Wrong::OtherNames));
        prop_assert_eq!(owner(&tree), AGENT.0);
        prop_assert_eq!((owner(&outside), owner(&outside.join("file"))), (0, 0));
        prop_assert_eq!(given(temp.path(), "tree").progress.changed, 0);
        let report = emptied(&tree);
        prop_assert_eq!(report.mounts.len(), mounts.min(20));
        prop_assert_eq!(report.problems, Vec::new());
        let mut after = Vec::new();
        foreign(&tree, own, &mut after);
        before.sort();
        after.sort();
        prop_assert_eq!(&after, &before);
        prop_assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
        if mounts == 0 {
            prop_assert_eq!(count(&tree), 0);
        }
    }
}

#[test]
fn a_tree_of_somebody_elses_is_walked_as_far_as_it_may_be() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    write(&temp.path().join("tree/a/file"), "x");
    give(&temp.path().join("tree/a"), AGENT.0);
    assert_eq!(given(temp.path(), "tree").progress.changed, 2);
}
