//! The small files of a service directory: what valid and invalid ones do.

use std::fs;

use gatevisor_wire::policy::RestartPhase;

use crate::support::World;

#[test]
fn as_many_deaths_are_remembered_as_the_slot_says_and_the_newest_ones() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("n=$(cat lives); n=$((n + 1)); echo $n > lives; [ $n -lt 8 ] || exec sleep 3600; exit $n")
        .file("lives", "0\n")
        .file("max-death-tally", "3\n")
        .data("backoff-max", 1)
        .place();
    service.receive("su");
    for _ in 0..7 {
        service.receive("dDu");
    }
    let deaths = service.dir.deaths();
    let codes: Vec<_> = deaths.iter().map(|death| death.exit_code).collect();
    assert_eq!(codes, [5, 6, 7]);
    assert!(deaths.windows(2).all(|pair| pair[0].at <= pair[1].at), "{deaths:?}");
    assert_eq!(fs::metadata(service.path("supervise/death_tally")).unwrap().len(), 3 * 14);
}

#[test]
fn no_death_is_remembered_where_the_slot_says_0() {
    let world = World::started();
    let mut service = world.service("web").stays().file("max-death-tally", "0\n").place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    assert!(service.dir.deaths().is_empty());
}

#[test]
fn the_tally_is_emptied_when_supervision_begins() {
    let mut world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    assert_eq!(service.dir.deaths().len(), 1);
    assert!(world.stop().success());
    assert_eq!(service.dir.deaths().len(), 2);
    world.start();
    service.receive("dDxsu");
    assert!(service.dir.deaths().is_empty());
}

#[test]
fn a_tally_that_makes_no_sense_is_begun_anew() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    fs::write(service.path("supervise/death_tally"), "nonsense of an odd length").unwrap();
    service.send("k");
    service.receive("dDu");
    assert_eq!(service.dir.deaths().len(), 1);
}

#[test]
fn a_death_by_signal_is_remembered_as_128_more_than_the_signal() {
    let world = World::started();
    let mut service = world.service("web").stays().place();
    service.receive("su");
    service.send("t");
    service.receive("dDu");
    let death = service.dir.deaths()[0];
    assert_eq!((death.exit_code, death.signal), (143, 15));
}

#[test]
fn invalid_small_files_are_complained_about_and_count_as_missing() {
    let world = World::started();
    let names = [
        "notification-fd",
        "timeout-kill",
        "timeout-finish",
        "max-death-tally",
        "down-signal",
        "reload-signal",
    ];
    for (n, content) in ["", "soon\n", "-5\n", "12 monkeys\n", "99999999999\n", "\0\0\0", &"9".repeat(5000)]
        .iter()
        .enumerate()
    {
        let mut builder = world
            .service(format!("s{n}"))
            .run("trap 'echo hup > hup' HUP; : > ready; sleep 3600 & while :; do wait; done")
            .finish("exit 0");
        for name in names {
            builder = builder.file(name, content);
        }
        for name in
            ["backoff-first", "backoff-max", "stable-after", "give-up-after", "restart-codes", "fail-codes"]
        {
            builder = builder.file(&format!("data/{name}"), content);
        }
        let mut service = builder.place();
        service.receive("su");
        service.until_file("ready", "the trap", |_| true);
        service.send("l");
        service.until_file("hup", "the default reload signal", |_| true);
        service.send("k");
        service.receive("dDu");
        assert_eq!(service.dir.deaths().len(), 1);
        service.send("d");
        service.receive("dD");
        assert_eq!(
            (service.status().last.signal(), service.policy().phase),
            (Some(15), RestartPhase::Running),
            "{content:?}"
        );
        let said = world.said();
        for name in names {
            assert!(said.contains(&format!("s{n}: invalid `{name}`")), "`{name}` with {content:?}: {said}");
        }
    }
}

#[test]
fn small_files_that_are_no_files_count_as_missing() {
    let world = World::started();
    let mut builder = world.service("web").stays();
    for name in ["timeout-kill", "max-death-tally", "notification-fd", "down-signal"] {
        builder = builder.prepare(|dir| fs::create_dir(dir.join(name)).unwrap());
    }
    let mut service = builder
        // Nothing ever writes to this FIFO, so reading it would block without end.
        .gate("timeout-finish")
        .finish("exit 0")
        .prepare(|dir| std::os::unix::fs::symlink("/etc/passwd", dir.join("reload-signal")).unwrap())
        .file("data", "a file, not a directory")
        .place();
    service.receive("su");
    service.send("k");
    service.receive("dDu");
    service.send("l");
    service.receive("dDu");
    service.send("d");
    service.receive("dD");
    assert_eq!(service.status().last.signal(), Some(15));
}

#[test]
fn more_exit_codes_than_a_slot_may_name_are_ignored_whole() {
    let world = World::started();
    for (n, codes) in
        ["101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117", &"1 ".repeat(17)]
            .into_iter()
            .enumerate()
    {
        let mut service = world
            .service(format!("s{n}"))
            .run("read code < go; exit $code")
            .gate("go")
            .file("data/fail-codes", codes)
            .place();
        service.receive("su");
        // The first code, and the beginning of a code that was cut off.
        service.pass("go", "101");
        service.receive("dDu");
        service.pass("go", "1");
        service.receive("dDu");
        assert!(world.said().contains(&format!("s{n}: invalid `data/fail-codes`")), "{}", world.said());
        service.pass("go", "78");
        service.receive("dOD");
    }
}

#[test]
fn an_exit_code_with_a_number_of_times_is_final_when_it_has_come_so_often_in_a_row() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("read code < go; exit $code")
        .gate("go")
        .file("data/fail-codes", "0 78*3\n")
        .file("data/backoff-first", "1\n")
        .place();
    service.receive("su");
    for _ in 0..2 {
        service.pass("go", "78");
        service.receive("dDu");
    }
    service.pass("go", "78");
    service.receive("dOD");
    assert_eq!(service.policy().phase, RestartPhase::Failed);
    // Whoever asks for a start begins anew.
    service.send("u");
    service.receive("u");
    service.pass("go", "78");
    service.receive("dDu");
    service.pass("go", "0");
    service.receive("dOD");
}

#[test]
fn exit_codes_of_the_slot_replace_the_usual_ones() {
    let world = World::started();
    let mut service = world
        .service("web")
        .run("read code < go; exit $code")
        .gate("go")
        .file("data/fail-codes", "3 4\n")
        .file("data/restart-codes", "5\n")
        .place();
    service.receive("su");
    for (code, phase) in
        [("5", RestartPhase::Running), ("4", RestartPhase::Failed), ("3", RestartPhase::Failed)]
    {
        service.pass("go", code);
        if phase == RestartPhase::Failed {
            service.receive("dOD");
            assert_eq!(service.policy().phase, phase, "{code}");
            service.send("u");
            service.receive("u");
        } else {
            service.receive("dDu");
            assert_eq!(service.policy().failures, 0, "{code}");
        }
    }
    // The default codes are ordinary failures now.
    for (code, failures) in [("78", 1), ("75", 2)] {
        service.pass("go", code);
        service.receive("dDu");
        assert_eq!(service.policy().failures, failures, "{code}");
    }
}
