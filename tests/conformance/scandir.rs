//! Entries of a scandir: those that are there, those that come and those that go.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::bed::{cases, state};
use crate::support::service::STAY;
use crate::support::{script, waiting};

cases! {
    fn what_is_there_at_the_start_is_supervised(pairing) {
        let mut bed = pairing.bed();
        let mut one = bed.service("one").stays().place();
        let mut two = bed.service("two").stays().down().place();
        bed.start();
        one.receive("su");
        two.receive("s");
    }

    fn what_comes_later_is_supervised_after_a_rescan(pairing) {
        let bed = pairing.started();
        for name in ["one", "two"] {
            let mut service = bed.service(name).stays().place();
            service.receive("su");
        }
        let mut three = bed.service("three").stays().place();
        bed.svscanctl("-a");
        three.receive("su");
    }

    fn entries_that_begin_with_a_dot_are_passed_over(pairing) {
        let bed = pairing.started();
        let dotted = bed.scandir().join(".hidden");
        fs::create_dir(&dotted).unwrap();
        script(&dotted.join("run"), STAY);
        let mut other = bed.service("other").stays().place();
        bed.svscanctl("-a");
        other.receive("su");
        assert!(!dotted.join("supervise").exists());
    }

    fn files_are_passed_over(pairing) {
        let bed = pairing.started();
        fs::write(bed.scandir().join("aaa"), "no service").unwrap();
        let mut other = bed.service("other").stays().place();
        other.receive("su");
    }

    fn a_directory_without_run_is_supervised_and_not_started(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").place();
        service.receive("s");
        bed.until_said("run");
        assert_eq!(state(&service), "down, wanted, ready");
        service.rewrite_run(STAY);
        bed.svc(&service, "-u");
        service.receive("u");
    }

    fn a_name_of_251_bytes_is_supervised(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("n".repeat(251)).stays().place();
        service.receive("su");
    }

    #[skip(with_our_supervisor, "s6 2.11 supervises names of up to 255 bytes; newer ones pass over more than 251, and so do we")]
    fn a_name_of_252_bytes_is_supervised(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("n".repeat(252)).stays().place();
        service.receive("su");
    }

    fn names_with_odd_characters_are_supervised(pairing) {
        let bed = pairing.started();
        for name in ["with space", "über", "a\nb", "-dash", "%s", "@"] {
            let mut service = bed.service(name).run("echo \"$1\" > told; exec sleep 3600").place();
            service.receive("su");
            let told = service.until_file("told", "its name", |text| text.ends_with('\n'));
            assert_eq!(told, format!("{name}\n"));
        }
    }

    fn a_symbolic_link_to_a_directory_is_a_slot(pairing) {
        let bed = pairing.started();
        let target = bed.root().join("elsewhere");
        let mut service = bed.service("web").stays().place_after(|dir| {
            fs::rename(dir, &target).unwrap();
            symlink(&target, dir).unwrap();
        });
        service.receive("su");
        bed.svc(&service, "-d");
        service.receive("dD");
        fs::remove_file(service.dir.path()).unwrap();
        bed.svscanctl("-an");
        service.receive("x");
    }

    fn a_symbolic_link_to_nothing_is_passed_over_until_it_leads_somewhere(pairing) {
        let bed = pairing.started();
        symlink("../elsewhere", bed.scandir().join("aaa")).unwrap();
        let mut other = bed.service("other").stays().place();
        other.receive("su");
        let target = bed.root().join("elsewhere");
        fs::create_dir(&target).unwrap();
        script(&target.join("run"), ": > ran; exec sleep 3600");
        bed.svscanctl("-a");
        crate::support::waiting::until(&target, "its start", || target.join("ran").exists().then_some(()));
    }

    #[skip(with_our_supervisor, "a slot whose directory is gone is let go at once: nothing can be done with it any more, and under s6 it leaks until somebody asks for -n")]
    fn a_slot_that_vanishes_is_supervised_until_somebody_asks_for_n(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        let hidden = service.hide();
        bed.svscanctl("-a");
        let mut other = bed.service("other").stays().place();
        other.receive("su");
        assert_eq!(service.further_events(), "");
        let _ = hidden;
        bed.svscanctl("-an");
        service.receive("dDx");
    }

    fn an_ends_the_supervision_of_what_is_gone_and_of_nothing_else(pairing) {
        let bed = pairing.started();
        let mut web = bed.service("web").stays().place();
        let mut other = bed.service("other").stays().place();
        web.receive("su");
        other.receive("su");
        let pid = other.pid();
        web.hide();
        bed.svscanctl("-an");
        web.receive("dDx");
        assert_eq!((other.pid(), other.further_events().as_str()), (pid, ""));
    }

    fn an_with_everything_still_there_changes_nothing(pairing) {
        let bed = pairing.started();
        let mut web = bed.service("web").stays().place();
        let mut down = bed.service("down").stays().down().place();
        web.receive("su");
        down.receive("s");
        let pid = web.pid();
        bed.svscanctl("-an");
        let mut other = bed.service("other").stays().place();
        other.receive("su");
        assert_eq!((web.pid(), web.further_events().as_str(), down.further_events().as_str()), (pid, "", ""));
    }

    fn a_slot_that_comes_back_after_its_end_is_supervised_anew(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        let hidden = service.hide();
        bed.svscanctl("-an");
        service.receive("dDx");
        fs::rename(hidden, service.dir.path()).unwrap();
        bed.svscanctl("-a");
        service.receive("su");
        assert_eq!(state(&service), "up, wanted");
    }

    fn another_slot_under_the_name_of_one_that_is_gone_is_supervised(pairing) {
        let bed = pairing.started();
        let mut old = bed.service("web").run("echo old > who; exec sleep 3600").place();
        old.receive("su");
        old.hide();
        let mut new = bed.service("web").run("echo new > who; exec sleep 3600").place();
        bed.svscanctl("-an");
        old.receive("dDx");
        new.receive("su");
        assert_eq!(new.until_lines("who", 1), ["new"]);
        bed.svc(&new, "-d");
        new.receive("dD");
    }

    fn capital_n_ends_the_loggers_of_what_is_gone_at_once(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().log("exec sleep 3600").place();
        service.receive("su");
        service.logger().receive("su");
        service.hide();
        bed.svscanctl("-aN");
        service.receive("dDx");
        service.logger().receive("dDx");
    }

    fn h_rescans_and_lets_go_of_what_is_gone(pairing) {
        let bed = pairing.started();
        let mut old = bed.service("old").stays().place();
        old.receive("su");
        old.hide();
        let mut new = bed.service("new").stays().place();
        bed.svscanctl("-h");
        old.receive("dDx");
        new.receive("su");
    }

    fn z_and_unknown_bytes_change_nothing(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place();
        service.receive("su");
        bed.svscanctl("-z");
        let mut control = fs::OpenOptions::new().write(true).open(bed.scandir().join(".s6-svscan/control")).unwrap();
        std::io::Write::write_all(&mut control, b"\0 ~G").unwrap();
        let mut other = bed.service("other").stays().place();
        other.receive("su");
        assert_eq!(service.further_events(), "");
    }

    fn an_entry_that_a_supervisor_makes_has_the_modes_of_s6(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").stays().place_without_subscriber();
        let status = service.path("supervise/status");
        waiting::until(service.dir.path(), "supervise", || service.path("supervise").exists().then_some(()));
        let control = service.path("supervise/control");
        waiting::until(&service.path("supervise"), "the status and the FIFO", || {
            (status.exists() && control.exists()).then_some(())
        });
        let mode = |entry: &str| fs::metadata(service.path(entry)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode("event"), 0o3730);
        assert_eq!(mode("supervise"), 0o700);
        assert_eq!(mode("supervise/control"), 0o600);
        for entry in ["lock", "status", "death_tally"] {
            assert_eq!(mode(&format!("supervise/{entry}")), 0o644, "{entry}");
        }
        assert_eq!(service.further_events(), "");
    }

    fn the_supervisors_own_files_have_the_modes_of_s6(pairing) {
        let bed = pairing.bed();
        fs::remove_dir(bed.scandir().join(".s6-svscan")).unwrap();
        let mut service = bed.service("web").stays().place();
        let mut supervisor = bed.command().spawn().unwrap();
        service.receive("su");
        let mode = |entry: &str| fs::metadata(bed.scandir().join(entry)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(".s6-svscan"), 0o700);
        assert_eq!(mode(".s6-svscan/control"), 0o600);
        assert_eq!(mode(".s6-svscan/lock"), 0o600);
        bed.svscanctl("-t");
        service.receive("dDx");
        assert!(supervisor.wait().unwrap().success());
    }
}
