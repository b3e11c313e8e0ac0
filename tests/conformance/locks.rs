//! At most one supervisor for each scandir and each service. What already exists is left unchanged.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::bed::{Ran, cases, state};
use crate::support::need_root;
use crate::support::waiting;

cases! {
    fn a_second_supervisor_of_a_scandir_says_so_and_exits_with_100(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        for words in [&["s6-svscan"][..], &[env!("CARGO_BIN_EXE_gatevisor"), "supervise"]] {
            let ran: Ran = Command::new(words[0]).args(&words[1..]).arg(bed.scandir()).output().unwrap().into();
            assert_eq!(ran.code, Some(100), "{ran:?}");
            assert!(ran.err.contains("already run"), "{ran:?}");
        }
        assert_eq!(service.further_events(), "");
    }

    fn a_second_supervisor_of_a_service_says_so_and_exits_with_100(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        let ran: Ran = Command::new("s6-supervise").arg(service.dir.path()).output().unwrap().into();
        assert_eq!(ran.code, Some(100), "{ran:?}");
        assert!(ran.err.contains("another instance of s6-supervise is already running"), "{ran:?}");
        assert_eq!((state(&service).as_str(), service.further_events().as_str()), ("up, wanted", ""));
    }

    fn a_skeleton_with_other_owners_and_modes_is_left_as_it_is(pairing) {
        need_root();
        let bed = pairing.started();
        let mut service = bed
            .service("web")
            .stays()
            .prepare(|dir| {
                let supervise = dir.join("supervise");
                fs::create_dir(&supervise).unwrap();
                let control = supervise.join("control");
                mknodat(CWD, &control, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
                for (path, mode) in [(&supervise, 0o755), (&control, 0o660), (&dir.join("event"), 0o3733)] {
                    chown(path, Some(10_000), Some(10_000)).unwrap();
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                }
            })
            .place();
        service.receive("su");
        for (entry, mode) in [("supervise", 0o755), ("supervise/control", 0o660), ("event", 0o3733)] {
            let found = fs::metadata(service.path(entry)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (10_000, 10_000, mode), "{entry}");
        }
        bed.svc(&service, "-d");
        service.receive("dD");
    }

    fn what_an_earlier_supervisor_left_is_taken_over(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        assert_eq!(bed.stop(), Some(0));
        service.receive("dDx");
        bed.start();
        service.receive("su");
        assert_eq!(state(&service), "up, wanted");
    }

    fn a_control_that_is_no_fifo_keeps_a_service_from_being_supervised(pairing) {
        let bed = pairing.started();
        let control = |dir: &std::path::Path| {
            fs::create_dir(dir.join("supervise")).unwrap();
            fs::write(dir.join("supervise/control"), "precious").unwrap();
        };
        let mut service = bed.service("web").stays().prepare(control).place();
        bed.until_said("supervise/control");
        assert_eq!(fs::read(service.path("supervise/control")).unwrap(), b"precious");
        assert_eq!(service.further_events(), "");
        // s6-svscan tries again every second, and each try holds the lock that s6-svok looks at for
        // an instant.
        waiting::polled("the word that nothing is supervised", || {
            (bed.tool("s6-svok", "", service.dir.path()).code != Some(0)).then_some(())
        });
    }

    fn stale_listeners_are_removed_and_other_entries_of_event_are_left(pairing) {
        let bed = pairing.started();
        let stale = format!("event/ftrig1:@{}:abcdef", "4".repeat(24));
        let mut service = bed
            .service("web")
            .stays()
            .prepare(|dir| {
                mknodat(CWD, dir.join(&stale), FileType::Fifo, Mode::from_raw_mode(0o622), 0).unwrap();
                fs::write(dir.join("event/other"), "").unwrap();
            })
            .place();
        service.receive("su");
        assert!(!service.path(&stale).exists());
        assert!(service.path("event/other").exists());
    }

    #[skip(with_our_supervisor, "whoever may write to a service directory runs code as its owner: one that others may write to is not supervised")]
    fn a_directory_that_others_may_write_to_is_supervised(pairing) {
        let bed = pairing.started();
        let open = |dir: &std::path::Path| fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
        let mut service = bed.service("web").stays().prepare(open).place();
        service.receive("su");
    }
}
