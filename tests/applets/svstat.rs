//! `s6-svstat`, `s6-svok` and `s6-svdt` on what supervisors write.

use std::fs;
use std::path::{Path, PathBuf};

use gatevisor_wire::{Pid, status::Status, tai::Tai64n, wait::WaitStatus};
use tempfile::tempdir;

use crate::both::{Fake, Supervisor, agree, our_code, ours, theirs, words};
use crate::support::World;

const FIELDS: &str = "up,wantedup,normallyup,ready,paused,pid,exitcode,signal,signum,updownsince,readysince";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/golden")
}

fn agree_in_every_form(dir: &Path) {
    for options in ["", "-n", "-uwNrpes", "-u", "-w -N", "-r", "-p", "-e", "-s", "-o up,", "-u -o pid -n"] {
        agree("s6-svstat", &words(options, dir));
    }
    agree("s6-svstat", &words(&format!("-o {FIELDS}"), dir));
    for field in ["-t", "-o updownfor", "-o readyfor"] {
        let seconds = |ran: &str| -> u64 { ran.trim_end().parse().unwrap() };
        let arguments = words(field, dir);
        let first = seconds(&theirs("s6-svstat", &arguments).stdout);
        let between = seconds(&ours("s6-svstat", &arguments).0.stdout);
        let last = seconds(&theirs("s6-svstat", &arguments).stdout);
        assert!((first..=last).contains(&between), "{field}: {between} is not in {first}..={last}");
    }
}

#[test]
fn every_golden_status_is_told_as_s6_tells_it() {
    let root = tempdir().unwrap();
    let mut count = 0;
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "status") {
            let fake = Fake::service(root.path().join(path.file_stem().unwrap()));
            fake.publish(&fs::read(&path).unwrap());
            agree_in_every_form(&fake.dir);
            fs::write(fake.dir.join("down"), "").unwrap();
            agree_in_every_form(&fake.dir);
            count += 1;
        }
    }
    assert!(count >= 9, "there are {count} golden files");
}

#[test]
fn every_mixture_of_flags_and_ends_is_told_as_s6_tells_it() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    for flags in 0..16u8 {
        for pid in [0, 4711] {
            for raw in [0, 0x0300, 0xff00, 9, 0x8b, 29, 34, 64] {
                let [paused, finishing, want_up, ready] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
                let status = Status {
                    changed: Tai64n::from_unix(1_700_000_000, 999_999_999),
                    ready_at: Tai64n::from_unix(1_700_000_100, 1),
                    pid: Pid::new(pid),
                    last: WaitStatus::from_raw(raw),
                    paused,
                    finishing,
                    want_up,
                    ready,
                };
                fake.publish(&status.encode());
                agree("s6-svstat", &words(&format!("-o {FIELDS}"), &fake.dir));
                if status.never_started() {
                    // Newer versions report this; s6 2.11 cannot.
                    let (ran, _) = ours("s6-svstat", &words("", &fake.dir));
                    assert_eq!((ran.stdout.as_str(), ran.code), ("down (not started yet) \n", Some(0)));
                } else {
                    agree("s6-svstat", &words("", &fake.dir));
                }
            }
        }
    }
}

#[test]
fn the_process_group_is_that_of_the_process() {
    let root = tempdir().unwrap();
    for (state, pgid) in [("up", "15085\n"), ("finishing", "-1\n"), ("down-exit-3", "-1\n")] {
        let fake = Fake::service(root.path().join(state));
        fake.publish(&fs::read(golden().join(format!("{state}.status"))).unwrap());
        for option in ["-g", "-o pgid"] {
            assert_eq!(ours("s6-svstat", &words(option, &fake.dir)).0.stdout, pgid, "{state}");
        }
    }
}

#[test]
fn wrong_command_lines_are_refused_as_s6_refuses_them() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    fake.publish(&fs::read(golden().join("up.status")).unwrap());
    for options in ["-x", "-o bogus", "-o up,,pid", "-o ,", "-o", "-uwNrpestuwNrpestu", "-uwNrpestuwNrpes"] {
        agree("s6-svstat", &words(options, &fake.dir));
    }
    for name in ["s6-svstat", "s6-svok", "s6-svdt", "s6-svc", "s6-svwait", "s6-svscanctl", "s6-setuidgid"] {
        assert_eq!(agree(name, &[]).code, Some(100), "{name}");
        let (_, said) = ours(name, &[""; 0]);
        assert!(said.starts_with(&format!("{name}: usage: {name} [")) || said.contains("usage: "), "{said}");
    }
}

#[test]
fn a_service_that_is_not_supervised_has_no_state() {
    let root = tempdir().unwrap();
    let never = root.path().join("never");
    fs::create_dir(&never).unwrap();
    assert_eq!(agree("s6-svstat", &words("", &never)).code, Some(1));
    assert_eq!(agree("s6-svok", &words("", &never)).code, Some(1));
    let (ran, said) = ours("s6-svstat", &words("", &never));
    assert_eq!(ran.stdout, "");
    assert!(said.starts_with("s6-svstat: fatal: ") && said.contains("not running"), "{said}");
    // s6 2.11 exits with 1 for a missing directory; newer versions, and ours, tell it from a
    // service that is not supervised.
    assert_eq!(our_code("s6-svstat", &words("", &root.path().join("none"))), 111);
    assert_eq!(agree("s6-svok", &words("", &root.path().join("none"))).code, Some(1));
    // A supervisor that has ended leaves its files.
    let fake = Fake::service(root.path().join("web"));
    fake.publish(&fs::read(golden().join("up.status")).unwrap());
    assert_eq!(agree("s6-svok", &words("", &fake.dir)).code, Some(0));
    let Fake { dir, control, lock } = fake;
    drop((control, lock));
    assert_eq!(agree("s6-svstat", &words("", &dir)).code, Some(1));
    assert_eq!(agree("s6-svok", &words("", &dir)).code, Some(1));
}

#[test]
fn a_status_that_is_none_is_an_error_line() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    for bytes in [&b""[..], b"short", &[0xff; 35], &[7; 4096]] {
        fake.publish(bytes);
        let (ran, said) = ours("s6-svstat", &words("", &fake.dir));
        assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(111)), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn deaths_are_listed_as_s6_lists_them() {
    let root = tempdir().unwrap();
    let dir = root.path().join("web");
    fs::create_dir_all(dir.join("supervise")).unwrap();
    let tally = dir.join("supervise/death_tally");
    assert_eq!(agree("s6-svdt", &words("", &dir)).stdout, "", "no tally is no deaths");
    fs::copy(golden().join("several.death_tally"), &tally).unwrap();
    for options in ["", "-S", "-s", "-n 2", "-n 0", "-n 5000", "-s -n3", "-n x", "-x", "-sS", "-Ss"] {
        agree("s6-svdt", &words(options, &dir));
    }
    let mut odd = fs::read(&tally).unwrap();
    for death in odd.as_chunks_mut::<14>().0 {
        let [.., code, signal] = death;
        (*code, *signal) = (128 + 34, 34);
    }
    fs::write(&tally, odd).unwrap();
    agree("s6-svdt", &words("", &dir));
    agree("s6-svdt", &words("-s", &dir));
    assert_eq!(agree("s6-svdt", &words("", &root.path().join("none"))).code, Some(111));
}

/// Takes a service through its states under a supervisor, and compares the tools in each.
fn agree_through_a_life(world: &World, supervisor: impl FnOnce(&World) -> Supervisor, begins_paused: bool) {
    let mut service = world
        .service("web")
        .run("trap '' TERM; echo >&3; read line < go")
        .finish("read line < stay")
        .file("notification-fd", "3\n")
        .file("timeout-finish", "0\n")
        .gate("go")
        .gate("stay")
        .down()
        .place();
    let mut exits = world.service("exits").run("exit 3").down().place();
    let supervisor = supervisor(world);
    service.receive("s");
    exits.receive("s");
    let dir = service.dir.path().to_owned();
    if !begins_paused {
        agree_in_every_form(&dir);
    }
    service.send("u");
    service.receive("uU");
    agree_in_every_form(&dir);
    service.send_and_see("p");
    agree_in_every_form(&dir);
    service.send_and_see("c");
    service.send_and_see("O");
    agree_in_every_form(&dir);
    service.send_and_see("u");
    service.send("k");
    service.receive("d");
    agree_in_every_form(&dir);
    service.send_and_see("d");
    service.pass("stay", "go");
    service.receive("D");
    agree_in_every_form(&dir);
    exits.send("o");
    exits.receive("udD");
    agree_in_every_form(exits.dir.path());
    agree("s6-svdt", &words("", exits.dir.path()));
    agree("s6-svok", &words("", &dir));
    drop(supervisor);
    agree("s6-svok", &words("", &dir));
    agree("s6-svstat", &words("", &dir));
}

#[test]
fn a_life_under_a_genuine_s6_svscan_is_told_as_s6_tells_it() {
    agree_through_a_life(&World::new(), Supervisor::genuine, false);
}

#[test]
fn a_life_under_our_s6_svscan_is_told_as_s6_tells_it() {
    agree_through_a_life(&World::new(), Supervisor::ours, true);
}
