//! What is opened below a directory of somebody else's, by the kernel in one call and by steps
//! alike.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it cannot show"
)]

mod common;

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{Bed, bind, directory, give, is_root, link, may_mount, mute, tmpfs, write};
use gatevisor_paths::{Errno, Links, Mounts, RefusalReason, Resolver, look};
use rustix::fs::{Mode, OFlags};
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

const AGENT: u32 = 12_345;

/// Opens a path both ways, which must come to the same.
fn both(
    resolver: Resolver,
    below: &OwnedFd,
    path: &str,
    flags: OFlags,
) -> Result<u64, (String, RefusalReason)> {
    let [quick, slow] = [resolver, resolver.by_steps()].map(|resolver| {
        resolver.open(below, path, flags).map(|fd| look(fd).unwrap().inode).map_err(|error| {
            // Where nothing is, nobody looks for the component.
            let path = if error.is_missing() { Path::new(path) } else { &error.path };
            (path.display().to_string(), error.reason)
        })
    });
    assert_eq!(quick, slow, "{path}: openat2 and the steps differ");
    quick
}

fn opened(resolver: Resolver, below: &OwnedFd, path: &str) -> Result<u64, (String, RefusalReason)> {
    both(resolver, below, path, OFlags::RDONLY)
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn refused<T>(path: &str, reason: RefusalReason) -> Result<T, (String, RefusalReason)> {
    Err((path.to_owned(), reason))
}

#[test]
fn a_path_leads_below_its_directory_or_nowhere() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("home/a/b/file"), "x");
    write(&at("outside"), "x");
    let home = directory(&at("home"));
    let strict = |path: &str| opened(Resolver::STRICT, &home, path);
    assert_eq!(strict("a/b/file"), Ok(inode(&at("home/a/b/file"))));
    assert_eq!(strict("./a//./b"), Ok(inode(&at("home/a/b"))));
    assert_eq!(strict("."), Ok(inode(&at("home"))));
    for out in ["", "/", "/etc/passwd", "..", "a/../../outside", "a/.."] {
        assert_eq!(strict(out), refused(out, RefusalReason::Outside), "{out}");
    }
    let missing = RefusalReason::Errno(Errno::NOENT);
    assert_eq!(strict("a/none").map_err(|(_, reason)| reason), Err(missing));
    assert_eq!(strict("none/a").map_err(|(_, reason)| reason), Err(missing));
    assert_eq!(strict("a/b/file/more"), refused("a/b/file", RefusalReason::NotADirectory));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    assert_eq!(
        both(Resolver::STRICT, &home, "a/b/file", flags),
        refused("a/b/file", RefusalReason::NotADirectory)
    );
}

#[test]
fn no_link_is_followed_in_any_place_and_the_component_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("home/a/file"), "x");
    link("a", &at("home/link"), 0);
    link("file", &at("home/a/last"), 0);
    link("/", &at("home/a/root"), 0);
    let home = directory(&at("home"));
    let owner = fs::symlink_metadata(at("home/link")).unwrap().uid();
    let a_link = RefusalReason::Link(owner);
    for (path, component) in [
        ("link/file", "link"),
        ("link", "link"),
        ("a/last", "a/last"),
        ("a/root/etc/passwd", "a/root"),
        ("link/last", "link"),
    ] {
        assert_eq!(opened(Resolver::STRICT, &home, path), refused(component, a_link), "{path}");
    }
    let itself = OFlags::PATH | OFlags::NOFOLLOW;
    assert_eq!(both(Resolver::STRICT, &home, "a/last", itself), Ok(inode(&at("home/a/last"))));
    assert_eq!(both(Resolver::STRICT, &home, "link/last", itself), refused("link", a_link));
}

#[test]
fn a_link_of_proc_is_followed_by_nobody() {
    let proc = directory(Path::new("/proc"));
    let all = Resolver::READING.following(Links::All);
    for link in ["self/root", "self/cwd", "self/exe", "self/fd/0", "self/root/etc"] {
        let error = opened(all, &proc, &format!("{}/{}", std::process::id(), &link[5..])).unwrap_err();
        assert_eq!(error.1, RefusalReason::MagicLink, "{link}");
    }
    assert_eq!(opened(all, &proc, "self/root"), refused("self", RefusalReason::MagicLink));
    // Nor where a link leads there.
    let temp = tempfile::tempdir().unwrap();
    link(format!("/proc/{}/root/etc", std::process::id()), &temp.path().join("slot"), 0);
    let error = opened(all, &directory(temp.path()), "slot").unwrap_err();
    assert_eq!(error, (format!("/proc/{}/root", std::process::id()), RefusalReason::MagicLink));
}

#[test]
fn links_of_roots_are_followed_step_by_step_where_a_caller_allows_them() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    write(&at("elsewhere/file"), "x");
    write(&at("scandir/own/file"), "x");
    link(at("elsewhere"), &at("scandir/roots"), 0);
    link("../elsewhere", &at("scandir/up"), 0);
    link("roots", &at("scandir/chain"), 0);
    link(at("elsewhere"), &at("scandir/theirs"), AGENT);
    link("theirs", &at("scandir/through"), 0);
    link("loop", &at("scandir/loop"), 0);
    fs::hard_link(at("scandir/roots"), at("scandir/twice")).unwrap();
    fs::hard_link(at("scandir/loop"), at("scandir/loop2")).unwrap();
    fs::remove_file(at("scandir/loop2")).unwrap();
    let scandir = directory(&at("scandir"));
    let resolver = Resolver::STRICT.following(Links::Roots);
    let there = inode(&at("elsewhere/file"));
    for path in ["up/file", "own/file"] {
        opened(resolver, &scandir, path).unwrap();
    }
    fs::remove_file(at("scandir/twice")).unwrap();
    for path in ["roots/file", "chain/file", "up/file"] {
        let found = opened(resolver.crossing(Mounts::Operators), &scandir, path);
        assert_eq!(found, Ok(there), "{path}");
    }
    let theirs = at("scandir/theirs").display().to_string();
    for path in ["theirs/file", "through/file"] {
        assert_eq!(
            opened(resolver, &scandir, path),
            refused("theirs", RefusalReason::Link(AGENT)),
            "{path} {theirs}"
        );
    }
    assert_eq!(opened(resolver, &scandir, "loop"), refused("loop", RefusalReason::TooManyLinks));
    fs::hard_link(at("scandir/roots"), at("scandir/twice")).unwrap();
    assert_eq!(opened(resolver, &scandir, "twice/file"), refused("twice", RefusalReason::Link(0)));
}

#[test]
fn a_link_of_somebody_elses_leads_to_what_is_theirs_through_what_is_theirs() {
    if !is_root() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    for (name, owner) in [("roots", 0), ("theirs", AGENT), ("others", 54_321)] {
        fs::create_dir(at(name)).unwrap();
        give(&at(name), owner);
    }
    link("theirs", &at("good"), AGENT);
    link("roots", &at("planted"), AGENT);
    link("good", &at("chained"), AGENT);
    link("good", &at("mixed"), 54_321);
    link("good", &at("from-root"), 0);
    link("others", &at("to-others"), AGENT);
    let scandir = directory(temp.path());
    let resolver = Resolver::READING.following(Links::RootsOrOwnersOfTarget);
    for path in ["good", "chained", "from-root"] {
        assert_eq!(opened(resolver, &scandir, path), Ok(inode(&at("theirs"))), "{path}");
    }
    assert_eq!(opened(resolver, &scandir, "planted"), refused("roots", RefusalReason::Link(AGENT)));
    assert_eq!(opened(resolver, &scandir, "mixed"), refused("good", RefusalReason::Link(AGENT)));
    assert_eq!(opened(resolver, &scandir, "to-others"), refused("others", RefusalReason::Link(AGENT)));
}

#[test]
fn a_mount_is_crossed_by_reading_only_and_a_bind_mount_is_one() {
    if !may_mount("a_mount_is_crossed_by_reading_only_and_a_bind_mount_is_one") {
        return;
    }
    let temp = Bed::new();
    let at = |path: &str| temp.path().join(path);
    write(&at("home/bound/inner/file"), "mine");
    write(&at("home/file"), "mine");
    fs::create_dir(at("home/tmpfs")).unwrap();
    write(&at("other/inner/file"), "another volume's");
    bind(&at("other"), &at("home/bound"));
    bind(&at("other/inner/file"), &at("home/file"));
    tmpfs(&at("home/tmpfs"));
    write(&at("home/tmpfs/file"), "x");
    let home = directory(&at("home"));
    for (path, component) in [
        ("bound", "bound"),
        ("bound/inner/file", "bound"),
        ("file", "file"),
        ("tmpfs", "tmpfs"),
        ("tmpfs/file", "tmpfs"),
    ] {
        assert_eq!(
            opened(Resolver::STRICT, &home, path),
            refused(component, RefusalReason::OtherMount),
            "{path}"
        );
        assert_eq!(opened(Resolver::READING, &home, path), Ok(inode(&at("home").join(path))), "{path}");
        assert_eq!(
            both(Resolver::STRICT, &home, path, OFlags::PATH),
            refused(component, RefusalReason::OtherMount)
        );
    }
    // Where the directory itself is a mount, that is no step.
    let bound = directory(&at("home/bound"));
    assert_eq!(opened(Resolver::STRICT, &bound, "inner/file"), Ok(inode(&at("other/inner/file"))));
}

#[test]
fn a_mount_that_nobody_led_to_by_a_link_is_crossed_only_behind_one() {
    if !may_mount("a_mount_that_nobody_led_to_by_a_link_is_crossed_only_behind_one") {
        return;
    }
    let bed = Bed::new();
    let at = |path: &str| bed.path().join(path);
    fs::create_dir_all(at("scandir/mounted")).unwrap();
    fs::create_dir(at("other")).unwrap();
    tmpfs(&at("scandir/mounted"));
    tmpfs(&at("other"));
    fs::create_dir(at("other/slot")).unwrap();
    link(at("other/slot").to_str().unwrap(), &at("scandir/led"), 0);
    let scandir = directory(&at("scandir"));
    let resolver = Resolver::READING.following(Links::RootsOrOwnersOfTarget).crossing(Mounts::BehindLinks);
    assert_eq!(opened(resolver, &scandir, "mounted"), refused("mounted", RefusalReason::OtherMount));
    assert_eq!(opened(resolver, &scandir, "led"), Ok(inode(&at("other/slot"))));
}

#[test]
fn a_file_system_that_a_user_answers_for_is_never_asked() {
    if !may_mount("a_file_system_that_a_user_answers_for_is_never_asked") {
        return;
    }
    let temp = Bed::new();
    for (name, options) in [("closed", ""), ("open", ",allow_other")] {
        let path = temp.path().join(name);
        fs::create_dir(&path).unwrap();
        let Some(answers) = mute(&path, AGENT, options) else {
            println!("not shown: no file system can be mounted that a program answers for");
            return;
        };
        let home = directory(temp.path());
        for below in [name.to_owned(), format!("{name}/slot/run")] {
            for resolver in [Resolver::STRICT, Resolver::READING, Resolver::READING.following(Links::All)] {
                assert_eq!(opened(resolver, &home, &below), refused(name, RefusalReason::OtherMount));
            }
        }
        // A link to it is no way either.
        link(&path, &temp.path().join(format!("to-{name}")), 0);
        let resolver = Resolver::READING.following(Links::Roots);
        let error = opened(resolver, &home, &format!("to-{name}/slot")).unwrap_err();
        assert_eq!(error.1, RefusalReason::OtherMount, "{error:?}");
        drop(answers);
    }
}

#[test]
fn a_mount_that_takes_the_place_of_another_is_judged_anew() {
    if !may_mount("a_mount_that_takes_the_place_of_another_is_judged_anew") {
        return;
    }
    let temp = Bed::new();
    let path = temp.path().join("volume");
    fs::create_dir(&path).unwrap();
    let home = directory(temp.path());
    for _ in 0..3 {
        tmpfs(&path);
        assert!(opened(Resolver::READING, &home, "volume").is_ok());
        rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
        // The kernel gives it the number that has become free.
        let Some(answers) = mute(&path, AGENT, "") else {
            println!("not shown: no file system can be mounted that a program answers for");
            return;
        };
        let found = opened(Resolver::READING, &home, "volume");
        assert_eq!(found, refused("volume", RefusalReason::OtherMount));
        rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH).unwrap();
        drop(answers);
    }
}

#[test]
fn a_file_is_made_where_the_path_leads_and_not_through_a_link() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().join(path);
    fs::create_dir_all(at("home/sub")).unwrap();
    link("../outside", &at("home/dangling"), 0);
    let home = directory(&at("home"));
    for (number, resolver) in [Resolver::STRICT, Resolver::STRICT.by_steps()].into_iter().enumerate() {
        let name = format!("sub/new-{number}");
        let make = |path: &str, flags| resolver.create(&home, path, flags, Mode::RUSR | Mode::WUSR).map(drop);
        make(&name, OFlags::WRONLY | OFlags::EXCL).unwrap();
        make(&name, OFlags::WRONLY).unwrap();
        assert_eq!(make(&name, OFlags::WRONLY | OFlags::EXCL).unwrap_err().errno(), Errno::EXIST);
        assert_eq!(fs::metadata(at("home").join(&name)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(make("dangling", OFlags::WRONLY).unwrap_err().errno(), Errno::LOOP);
        assert_eq!(make("none/file", OFlags::WRONLY).unwrap_err().errno(), Errno::NOENT);
    }
    assert!(!at("outside").exists());
}

#[test]
fn the_parent_of_what_is_made_or_removed_is_held_and_the_name_is_one_component() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("a/b")).unwrap();
    let home = directory(temp.path());
    let (parent, name) = Resolver::STRICT.parent(&home, "a/b/new").unwrap();
    assert_eq!((look(parent).unwrap().inode, name.to_str()), (inode(&temp.path().join("a/b")), Some("new")));
    let (parent, name) = Resolver::STRICT.parent(&home, "new").unwrap();
    assert_eq!((look(parent).unwrap().inode, name.to_str()), (inode(temp.path()), Some("new")));
    for wrong in ["", "..", "a/..", "/new", "."] {
        assert_eq!(
            Resolver::STRICT.parent(&home, wrong).unwrap_err().reason,
            RefusalReason::Outside,
            "{wrong}"
        );
    }
}

#[test]
fn neither_a_fifo_nor_a_device_holds_up_whoever_opens_it() {
    let temp = tempfile::tempdir().unwrap();
    let fifo = temp.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let home = directory(temp.path());
    assert_eq!(opened(Resolver::STRICT, &home, "fifo"), Ok(inode(&fifo)));
    let error = both(Resolver::STRICT, &home, "fifo", OFlags::WRONLY).unwrap_err();
    assert_eq!(error.1, RefusalReason::Errno(Errno::NXIO));
}

#[test]
fn errors_are_sentences_that_name_the_component() {
    let temp = tempfile::tempdir().unwrap();
    link("/etc", &temp.path().join("a"), AGENT);
    let home = directory(temp.path());
    let error = Resolver::STRICT.open(&home, "a/passwd", OFlags::RDONLY).unwrap_err();
    let owner = fs::symlink_metadata(temp.path().join("a")).unwrap().uid();
    assert_eq!(error.to_string(), format!("`a`: a symbolic link of uid {owner}"));
    let error = Resolver::STRICT.open(&home, "../x", OFlags::RDONLY).unwrap_err();
    assert_eq!(error.to_string(), "`../x`: a path that does not lead below its directory");
}

#[test]
fn what_permission_is_refused_for_is_kept_also_on_a_way_that_leads_up_again() {
    let temp = tempfile::tempdir().unwrap();
    let at = |path: &str| temp.path().canonicalize().unwrap().join(path);
    write(&at("home/closed/file"), "x");
    fs::create_dir(at("home/beside")).unwrap();
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(at("home/closed"), Permissions::from_mode(0o0)).unwrap();
    let was_root = is_root();
    if was_root {
        // This thread has the rights of nobody from now on.
        let nobody = Uid::from_raw(AGENT);
        set_thread_res_uid(nobody, nobody, Uid::ROOT).unwrap();
    }
    gatevisor_sys::refused::keep();
    for (path, place) in
        [("home/closed/file", "home/closed/file"), ("home/beside/../closed/other", "home/closed/other")]
    {
        let error = Resolver::READING.from_root(&at(path), OFlags::RDONLY).unwrap_err();
        assert_eq!(error.reason, RefusalReason::Errno(Errno::ACCESS), "{path}");
        assert_eq!(gatevisor_sys::refused::all(|kept| kept == at(place)).len(), 1, "{path}");
    }
    if was_root {
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
    }
    fs::set_permissions(at("home/closed"), Permissions::from_mode(0o700)).unwrap();
}
