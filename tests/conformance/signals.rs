//! The end of a scandir's supervisor: commands, signals, and the scripts in `.s6-svscan`.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::bed::{Bed, Pairing, cases};
use crate::support::processes::Held;
use crate::support::service::Service;
use crate::support::{script, waiting};

/// Writes how it was called to the file `told` of the scandir, which is where it runs.
const TELLS: &str = "echo \"$0 $# $*\" >> told";

fn told(bed: &Bed) -> PathBuf {
    bed.scandir().join("told")
}

fn until_told(bed: &Bed, lines: usize) -> Vec<String> {
    waiting::until(&bed.scandir(), "what a script tells", || {
        let text = fs::read_to_string(told(bed)).unwrap_or_default();
        let found: Vec<String> = text.lines().map(str::to_owned).collect();
        (found.len() >= lines && text.ends_with('\n')).then_some(found)
    })
}

/// Starts the supervisor, and returns when it is ready for signals. (s6-svscan opens its FIFO
/// before that.)
fn ready_for_signals(pairing: Pairing) -> Bed {
    let bed = pairing.started();
    bed.service("first").stays().place().receive("su");
    bed
}

fn up(bed: &Bed) -> Service {
    let mut service = bed.service("web").stays().place();
    service.receive("su");
    service
}

cases! {
    fn t_i_and_q_end_everything(pairing) {
        for option in ["-t", "-i", "-q"] {
            let mut bed = pairing.started();
            let mut service = up(&bed);
            let mut down = bed.service("down").stays().down().place();
            down.receive("s");
            bed.svscanctl(option);
            service.receive("dDx");
            down.receive("x");
            assert_eq!(bed.ended(), Some(0), "{option}");
        }
    }

    fn term_int_and_quit_end_everything(pairing) {
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
            let mut bed = pairing.started();
            let mut service = up(&bed);
            bed.signal(signal);
            service.receive("dDx");
            assert_eq!(bed.ended(), Some(0), "{signal:?}");
        }
    }

    fn the_end_waits_for_finish_scripts(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").stays().finish("echo $1 > told").place();
        service.receive("su");
        bed.signal(Signal::TERM);
        service.receive("dDx");
        assert_eq!(bed.ended(), Some(0));
        assert_eq!(service.until_lines("told", 1), ["256"]);
    }

    fn q_ends_loggers_without_waiting_for_the_end_of_their_pipe(pairing) {
        let mut bed = pairing.started();
        let mut service = bed.service("web").stays().log("exec sleep 3600").place();
        service.receive("su");
        service.logger().receive("su");
        bed.svscanctl("-q");
        service.receive("dDx");
        service.logger().receive("dDx");
        assert_eq!(bed.ended(), Some(0));
    }

    fn b_leaves_the_services_running(pairing) {
        let mut bed = pairing.started();
        let mut service = up(&bed);
        let held = Held::of(service.pid()).unwrap();
        bed.svscanctl("-b");
        Held::of(bed.pid()).unwrap().until_gone("the supervisor");
        assert!(!held.is_gone());
        assert_eq!(service.further_events(), "");
        for left in bed.processes().into_iter().filter_map(Held::of) {
            left.kill();
        }
        assert_eq!(bed.ended(), Some(0));
    }

    fn hup_rescans_and_lets_go_of_what_is_gone(pairing) {
        let bed = pairing.started();
        let mut old = up(&bed);
        old.hide();
        bed.signal(Signal::HUP);
        old.receive("dDx");
    }

    fn alrm_rescans(pairing) {
        let bed = ready_for_signals(pairing);
        let path = bed.scandir().join("web");
        fs::create_dir(&path).unwrap();
        script(&path.join("run"), ": > ran; exec sleep 3600");
        bed.signal(Signal::ALARM);
        waiting::until(&path, "its start", || path.join("ran").exists().then_some(()));
    }

    fn signals_without_a_script_change_nothing(pairing) {
        let bed = pairing.started();
        let mut service = up(&bed);
        for signal in [Signal::USR1, Signal::USR2, Signal::POWER, Signal::WINCH] {
            bed.signal(signal);
        }
        let mut other = bed.service("other").stays().place();
        other.receive("su");
        assert_eq!(service.further_events(), "");
    }

    fn a_script_is_run_instead_of_what_its_signal_does(pairing) {
        let bed = pairing.started();
        let mut service = up(&bed);
        let signals = [
            ("SIGTERM", Signal::TERM),
            ("SIGINT", Signal::INT),
            ("SIGQUIT", Signal::QUIT),
            ("SIGHUP", Signal::HUP),
            ("SIGUSR1", Signal::USR1),
            ("SIGUSR2", Signal::USR2),
            ("SIGPWR", Signal::POWER),
            ("SIGWINCH", Signal::WINCH),
        ];
        for (n, (name, signal)) in signals.into_iter().enumerate() {
            let path = bed.scandir().join(".s6-svscan").join(name);
            script(&path, TELLS);
            bed.signal(signal);
            assert_eq!(until_told(&bed, n + 1)[n], format!(".s6-svscan/{name} 0 "));
            fs::remove_file(path).unwrap();
        }
        assert_eq!(service.further_events(), "");
        assert!(service.status().is_up());
    }

    fn a_script_is_not_waited_for(pairing) {
        let bed = ready_for_signals(pairing);
        let path = bed.scandir().join(".s6-svscan/SIGUSR1");
        script(&path, "echo waits >> told; exec sleep 3600");
        bed.signal(Signal::USR1);
        until_told(&bed, 1);
        let mut service = up(&bed);
        bed.svc(&service, "-d");
        service.receive("dD");
    }

    fn a_script_that_cannot_be_executed_changes_nothing(pairing) {
        let bed = ready_for_signals(pairing);
        fs::write(bed.scandir().join(".s6-svscan/SIGUSR1"), "no program").unwrap();
        bed.signal(Signal::USR1);
        let mut service = up(&bed);
        assert_eq!(service.further_events(), "");
    }

    fn a_script_can_end_everything_by_a_command(pairing) {
        let mut bed = pairing.started();
        let mut service = up(&bed);
        script(&bed.scandir().join(".s6-svscan/SIGTERM"), "exec s6-svscanctl -t .");
        bed.signal(Signal::TERM);
        service.receive("dDx");
        assert_eq!(bed.ended(), Some(0));
    }

    fn finish_is_executed_at_the_end_in_place_of_the_supervisor(pairing) {
        let mut bed = pairing.started();
        let mut service = up(&bed);
        let path = bed.scandir().join(".s6-svscan/finish");
        script(&path, &format!("{TELLS}; echo $$ $PWD >> told; exit 42"));
        let pid = bed.pid();
        bed.svscanctl("-t");
        service.receive("dDx");
        // The scripts record their calls before the end, so the exit code that counts is that of
        // `finish`.
        let lines = until_told(&bed, 2);
        assert_eq!(lines, [".s6-svscan/finish 0 ".to_owned(), format!("{pid} {}", bed.scandir().display())]);
        assert_eq!(bed.ended(), Some(42));
    }

    fn finish_is_executed_after_an_abort_too(pairing) {
        let mut bed = pairing.started();
        script(&bed.scandir().join(".s6-svscan/finish"), TELLS);
        bed.svscanctl("-b");
        assert_eq!(bed.ended(), Some(0));
        assert_eq!(until_told(&bed, 1), [".s6-svscan/finish 0 "]);
    }

    fn a_finish_that_cannot_be_executed_makes_way_for_crash(pairing) {
        let mut bed = pairing.started();
        let finish = bed.scandir().join(".s6-svscan/finish");
        fs::create_dir(&finish).unwrap();
        script(&bed.scandir().join(".s6-svscan/crash"), &format!("{TELLS}; exit 43"));
        bed.svscanctl("-t");
        assert_eq!(bed.ended(), Some(43));
        assert_eq!(until_told(&bed, 1), [".s6-svscan/crash 0 "]);
    }

    fn abrt_ends_the_supervisor_alone(pairing) {
        let mut bed = pairing.started();
        let service = up(&bed);
        let held = Held::of(service.pid()).unwrap();
        bed.signal(Signal::ABORT);
        Held::of(bed.pid()).unwrap().until_gone("the supervisor");
        assert!(!held.is_gone());
        for left in bed.processes().into_iter().filter_map(Held::of) {
            left.kill();
        }
        assert_eq!(bed.ended(), Some(0));
    }
}
