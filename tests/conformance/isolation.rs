//! Isolation of services: the lock that prevents a second instance, and a PID namespace of its own.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::bed::{Bed, cases, state, until_state};
use crate::support::processes::Held;
use crate::support::service::Service;

/// The file that is locked.
const LOCK: &str = "supervise/service-lock";
/// What both supervisors print about a start that has to wait.
const WAITS: &str = "another instance of the service is already running";

/// Places a service whose lock this process holds until the file is dropped.
fn barred(bed: &Bed, name: &str, run: &str) -> (Service, File) {
    let mut lock = None;
    let hold = |dir: &Path| {
        fs::create_dir(dir.join("supervise")).unwrap();
        let file = File::create(dir.join(LOCK)).unwrap();
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        lock = Some(file);
    };
    let service = bed.service(name).run(run).file("lock-fd", "7\n").prepare(hold).place();
    (service, lock.unwrap())
}

cases! {
    fn lock_fd_is_a_descriptor_that_the_service_holds(pairing) {
        let bed = pairing.started();
        let run = "readlink /proc/$$/fd/7 > told; exec sleep 3600";
        // s6 2.11.3.2 does not make the file itself.
        let mut service = bed.service("web").run(run).file("lock-fd", "7\n").file(LOCK, "").place();
        service.receive("su");
        assert!(service.until_lines("told", 1)[0].ends_with(LOCK));
        for events in ["dD", "u"] {
            bed.svc(&service, if events == "u" { "-u" } else { "-d" });
            service.receive(events);
        }
    }

    fn a_service_whose_lock_somebody_holds_is_down_until_it_is_let_go(pairing) {
        let bed = pairing.started();
        let (mut service, held) = barred(&bed, "web", "exec sleep 3600");
        service.receive("s");
        bed.until_said(WAITS);
        assert_eq!((state(&service).as_str(), service.further_events().as_str()), ("down, wanted, ready", ""));
        drop(held);
        service.receive("u");
        assert_eq!(state(&service), "up, wanted");
    }

    fn services_that_wait_for_their_lock_hold_up_no_other(pairing) {
        let bed = pairing.started();
        // More than our supervisor starts at a time.
        let mut waiting: Vec<_> = (0..40).map(|n| barred(&bed, &format!("barred{n}"), "exec sleep 3600")).collect();
        for (service, _) in &mut waiting {
            service.receive("s");
        }
        let mut other = bed.service("other").stays().place();
        other.receive("su");
        for (mut service, held) in waiting {
            assert_eq!(service.further_events(), "");
            drop(held);
            service.receive("u");
        }
    }

    fn something_in_the_lock_file_is_warned_of(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().file("lock-fd", "7\n").file(LOCK, "12\n").place();
        service.receive("su");
        assert!(bed.said().contains("lock"), "{}", bed.said());
    }

    fn lock_fd_and_notification_fd_may_not_be_the_same(pairing) {
        let bed = pairing.started();
        let both = bed.service("web").stays().file("lock-fd", "7\n").file("notification-fd", "7\n").file(LOCK, "");
        let mut service = both.place();
        service.receive("s");
        bed.until_said("notification-fd and lock-fd are the same");
        assert_eq!((state(&service).as_str(), service.further_events().as_str()), ("down, wanted, ready", ""));
    }

    fn an_invalid_lock_fd_counts_as_missing(pairing) {
        let bed = pairing.started();
        for (n, content) in ["seven\n", "", "-7\n", &"1".repeat(5000)].into_iter().enumerate() {
            let run = "(: >&7) 2> /dev/null || echo none > said; exec sleep 3600";
            let mut service = bed.service(format!("web{n}")).run(run).file("lock-fd", content).file(LOCK, "").place();
            service.receive("su");
            assert_eq!(service.until_lines("said", 1), ["none"], "{content:.9}");
        }
    }

    #[skip(with_s6_as_supervisor, "s6-supervise 2.11 never makes supervise/service-lock: it waits 60 s for somebody else to")]
    fn a_missing_lock_file_is_made(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().file("lock-fd", "7\n").place();
        service.receive("su");
        assert_eq!(fs::metadata(service.path(LOCK)).unwrap().len(), 0);
    }

    #[skip(with_s6_as_supervisor, "s6-supervise 2.11 only looks whether the lock is free, and its service then holds no lock: a record lock is not inherited through fork")]
    fn no_second_copy_is_started_beside_the_orphan_of_a_supervisor_that_was_killed(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").stays().file("lock-fd", "7\n").place();
        service.receive("su");
        let orphan = Held::of(service.pid()).unwrap();
        bed.kill();
        bed.start();
        service.receive("s");
        bed.until_said(WAITS);
        assert!(!orphan.is_gone());
        assert_eq!((state(&service).as_str(), service.further_events().as_str()), ("down, wanted, ready", ""));
        orphan.kill();
        service.receive("u");
    }

    #[skip(with_s6_as_supervisor, "s6-supervise 2.11 waits for its child and is deaf to every command while that waits for the lock")]
    fn commands_to_a_service_that_waits_for_its_lock(pairing) {
        let bed = pairing.started();
        let (mut service, held) = barred(&bed, "web", "exec sleep 3600");
        service.receive("s");
        bed.until_said(WAITS);
        bed.svc(&service, "-d");
        until_state(&service, "down, ready");
        bed.svc(&service, "-u");
        until_state(&service, "down, wanted, ready");
        bed.svc(&service, "-t");
        drop(held);
        service.receive("u");
        bed.svc(&service, "-d");
        service.receive("dD");
        assert_eq!(fs::read(service.path("supervise/death_tally")).unwrap().len(), 14);
    }

    #[skip(with_s6_as_supervisor, "s6-supervise 2.11 waits for its child and is deaf to every command while that waits for the lock")]
    fn a_service_that_waits_for_its_lock_does_not_hold_up_the_end(pairing) {
        let mut bed = pairing.started();
        let (mut one, _one) = barred(&bed, "one", "exec sleep 3600");
        let (mut two, _two) = barred(&bed, "two", "exec sleep 3600");
        one.receive("s");
        two.receive("s");
        bed.until_said("one: another instance");
        bed.until_said("two: another instance");
        one.hide();
        bed.svscanctl("-an");
        one.receive("x");
        assert_eq!(bed.stop(), Some(0));
        two.receive("x");
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 does not know flag-newpidns: it came later")]
    fn flag_newpidns_makes_a_service_the_first_of_a_pid_namespace(pairing) {
        let bed = pairing.started();
        // The first process of a namespace does not receive signals that it does not catch.
        let run = "trap 'exit 3' TERM; echo $$ > told; while :; do read word < gate; done";
        let mut service = bed.service("web").run(run).gate("gate").file("flag-newpidns", "").place();
        service.receive("s");
        let made = Command::new("unshare").args(["--pid", "--fork", "true"]).output().unwrap();
        if !made.status.success() {
            // Without the right to make a namespace, the service is not started at all.
            bed.until_said("making a PID namespace for ./run");
            assert_eq!((state(&service).as_str(), service.further_events().as_str()), ("down, wanted, ready", ""));
            return;
        }
        service.receive("u");
        assert_eq!(service.until_lines("told", 1), ["1"]);
        let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_ne!(namespace(service.pid()), namespace(bed.pid()));
        bed.svc(&service, "-d");
        service.receive("dD");
        assert_eq!(state(&service), "down after 3, ready");
    }
}
