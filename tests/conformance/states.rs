//! Each control byte in each state: which events follow, and what the status says when nothing more
//! happens.

use rustix::process::Signal;

use crate::bed::{Bed, cases, state, until_state};
use crate::support::processes::{self, Held};
use crate::support::service::Service;

/// The bytes that stand for signals, and have no effect without a process.
const SIGNALS: &str = "-abqhkti12pcyr";

/// A command, the events that follow, and the state in the end.
type Row = (&'static str, &'static str, &'static str);

/// Sends each command to a service of its own in the same state, and returns them all.
fn check(make: impl Fn(&str) -> Service, send: impl Fn(&Service, &str), rows: &[Row]) -> Vec<Service> {
    let mut services: Vec<Service> = (0..rows.len()).map(|n| make(&format!("web{n}"))).collect();
    for (service, (command, events, wanted)) in services.iter_mut().zip(rows) {
        send(service, command);
        service.receive(events);
        until_state(service, wanted);
        assert_eq!(service.further_events(), "", "after {command}");
    }
    services
}

fn never_started(bed: &Bed, name: &str) -> Service {
    let mut service = bed.service(name).stays().down().place();
    service.receive("s");
    service
}

fn up(bed: &Bed, name: &str) -> Service {
    let mut service = bed.service(name).stays().place();
    service.receive("su");
    service
}

fn ready(bed: &Bed, name: &str) -> Service {
    let run = "echo >&3; exec sleep 3600";
    let mut service = bed.service(name).run(run).file("notification-fd", "3\n").place();
    service.receive("suU");
    service
}

fn paused(bed: &Bed, name: &str) -> Service {
    let service = up(bed, name);
    assert_eq!(bed.svc_and_see(&service, "-p"), "up, paused, wanted");
    service
}

/// It waits at the gate `go`, and its finish script at the gate `end`.
fn gated(bed: &Bed, name: &str) -> Service {
    let mut service = bed
        .service(name)
        .run("read code < go; exit $code")
        .finish("[ -p end ] && read code < end; exit $code")
        .file("timeout-finish", "0\n")
        .gate("go")
        .gate("end")
        .place();
    service.receive("su");
    service
}

/// Its finish script waits at the gate `end`.
fn finishing(bed: &Bed, name: &str) -> Service {
    let mut service = gated(bed, name);
    service.pass("go", "3");
    service.receive("d");
    assert_eq!(state(&service), "finishing after 3, wanted");
    service
}

/// Lets its finish script end, and every later finish script.
fn release(bed: &Bed, service: &mut Service) {
    bed.svc(service, "-d");
    service.pass("end", "0");
    service.receive_until('D');
    std::fs::remove_file(service.path("end")).unwrap();
}

/// Its `run` cannot be executed, so it waits for ten seconds.
fn resting(bed: &Bed, name: &str) -> Service {
    let mut service = bed.service(name).file("run", "#!/bin/sh\nexec sleep 3600\n").place();
    service.receive("s");
    bed.until_said(name);
    assert_eq!(state(&service), "down, wanted, ready");
    service
}

cases! {
    fn commands_to_a_service_that_was_never_started(pairing) {
        let bed = pairing.started();
        check(|name| never_started(&bed, name), |service, command| bed.svc(service, command), &[
            ("-u", "u", "up, wanted"),
            ("-U", "u", "up, wanted"),
            ("-o", "u", "up"),
            ("-O", "", "down, ready"),
            ("-d", "", "down, ready"),
            ("-D", "", "down, ready"),
            ("-Q", "", "down, ready"),
        ]);
        let mut service = never_started(&bed, "signals");
        bed.svc(&service, SIGNALS);
        assert_eq!(bed.svc_and_see(&service, "-d"), "down, ready");
        assert_eq!(service.further_events(), "");
    }

    fn commands_to_a_service_that_is_up(pairing) {
        let bed = pairing.started();
        check(|name| up(&bed, name), |service, command| bed.svc(service, command), &[
            ("-u", "", "up, wanted"),
            ("-U", "", "up, wanted"),
            ("-o", "", "up"),
            ("-O", "", "up"),
            ("-Q", "", "up"),
            ("-d", "dD", "down after signal f, ready"),
            ("-D", "dD", "down after signal f, ready"),
            ("-p", "", "up, paused, wanted"),
            ("-c", "", "up, wanted"),
            ("-y", "", "up, wanted"),
            ("-Ox", "", "up"),
            ("-Ok", "dD", "down after signal 9, ready"),
            ("-Ot", "dD", "down after signal f, ready"),
            ("-Oi", "dD", "down after signal 2, ready"),
            ("-Oa", "dD", "down after signal e, ready"),
            ("-Oh", "dD", "down after signal 1, ready"),
            ("-O1", "dD", "down after signal a, ready"),
            ("-O2", "dD", "down after signal c, ready"),
            ("-Or", "dD", "down after signal f, ready"),
        ]);
    }

    fn commands_to_a_service_that_is_ready(pairing) {
        let bed = pairing.started();
        check(|name| ready(&bed, name), |service, command| bed.svc(service, command), &[
            ("-u", "", "up, wanted, ready"),
            ("-o", "", "up, ready"),
            ("-O", "", "up, ready"),
            ("-d", "dD", "down after signal f, ready"),
            ("-p", "", "up, paused, wanted, ready"),
            ("-Op", "", "up, paused, ready"),
            ("-x", "", "up, wanted, ready"),
            ("-xD", "dDxs", "down, ready"),
        ]);
    }

    fn commands_to_a_service_that_is_paused(pairing) {
        let bed = pairing.started();
        check(|name| paused(&bed, name), |service, command| bed.svc(service, command), &[
            ("-u", "", "up, paused, wanted"),
            ("-o", "", "up, paused"),
            ("-O", "", "up, paused"),
            ("-c", "", "up, wanted"),
            ("-p", "", "up, paused, wanted"),
            ("-d", "dD", "down after signal f, ready"),
            ("-Ok", "dD", "down after signal 9, ready"),
            ("-Otc", "dD", "down after signal f, ready"),
        ]);
    }

    fn commands_while_the_finish_script_runs(pairing) {
        let bed = pairing.started();
        let mut services = check(|name| finishing(&bed, name), |service, command| bed.svc(service, command), &[
            ("-u", "", "finishing after 3, wanted"),
            ("-U", "", "finishing after 3, wanted"),
            ("-o", "", "finishing after 3"),
            ("-O", "", "finishing after 3"),
            ("-Q", "", "finishing after 3"),
            ("-d", "", "finishing after 3"),
            ("-D", "", "finishing after 3"),
            ("-du", "", "finishing after 3, wanted"),
            ("-ud", "", "finishing after 3"),
            ("-x", "", "finishing after 3, wanted"),
            (SIGNALS, "", "finishing after 3, wanted"),
        ]);
        for service in &mut services {
            release(&bed, service);
        }
    }

    fn what_was_wanted_while_the_finish_script_ran_is_obeyed_after_it(pairing) {
        let bed = pairing.started();
        for (n, (command, events, wanted)) in [
            ("-d", "D", "down after 3, ready"),
            ("-o", "D", "down after 3, ready"),
            ("-O", "D", "down after 3, ready"),
            ("-u", "Du", "up after 3, wanted"),
            ("-dx", "Dx", "down after 3, ready"),
        ].into_iter().enumerate() {
            let mut service = finishing(&bed, &format!("web{n}"));
            // A service that is supervised anew would have another status.
            let _ = std::fs::write(service.path("down"), "");
            bed.svc_and_see(&service, command);
            if command.contains('x') {
                bed.svc_and_see(&service, "-d");
            }
            service.pass("end", "0");
            if events == "Dx" {
                service.receive("Dxs");
                assert_eq!(state(&service), "down, ready");
                continue;
            }
            service.receive(events);
            assert_eq!(state(&service), wanted, "after {command}");
            if events == "Du" {
                bed.svc(&service, "-d");
                service.receive("d");
                service.pass("end", "0");
                service.receive("D");
            }
        }
    }

    #[skip(with_s6_as_supervisor, "s6-supervise looks for the dead first, and reads a command only then, however long it was there")]
    fn a_command_that_was_there_before_a_death_is_obeyed_before_it(pairing) {
        let bed = pairing.started();
        for (n, (gate, command, events, wanted)) in [
            ("end", "o", "D", "down after 3, ready"),
            ("end", "d", "D", "down after 3, ready"),
            ("go", "o", "dD", "down after 3, ready"),
            ("go", "O", "dD", "down after 3, ready"),
            // The signal is not sent to a dead process, and would not cause another death.
            ("go", "dk", "dD", "down after 3, ready"),
        ].into_iter().enumerate() {
            let mut service = gated(&bed, &format!("web{n}"));
            if gate == "end" {
                service.pass("go", "3");
                service.receive("d");
            } else {
                std::fs::remove_file(service.path("end")).unwrap();
            }
            let dying = Held::of(service.pid()).unwrap();
            let other = up(&bed, &format!("other{n}"));
            let other_dying = Held::of(other.pid()).unwrap();
            // Everything has happened before the supervisor looks, and it sees the other service's
            // death first.
            bed.signal(Signal::STOP);
            processes::until_state(bed.pid(), "T");
            other.send("O");
            processes::signal(other.pid(), Signal::KILL);
            other_dying.until_gone("the other service");
            service.send(command);
            service.pass(gate, "3");
            dying.until_gone(gate);
            bed.signal(Signal::CONT);
            service.receive(events);
            assert_eq!(state(&service), wanted, "after {command} at {gate}");
        }
    }

    fn commands_to_a_service_whose_run_cannot_be_executed(pairing) {
        let bed = pairing.started();
        check(|name| resting(&bed, name), |service, command| bed.svc(service, command), &[
            ("-d", "", "down, ready"),
            ("-D", "", "down, ready"),
            ("-O", "", "down, ready"),
            ("-Q", "", "down, ready"),
            ("-o", "", "down, ready"),
            ("-u", "", "down, wanted, ready"),
            (SIGNALS, "", "down, wanted, ready"),
            ("-x", "xs", "down, wanted, ready"),
        ]);
    }

    fn a_run_that_was_fixed_is_executed_at_once_when_it_is_asked_for(pairing) {
        let bed = pairing.started();
        for (command, wanted) in [("-u", "up, wanted"), ("-o", "up")] {
            let mut service = resting(&bed, &format!("web{command}"));
            service.rewrite_run("exec sleep 3600");
            bed.svc(&service, command);
            service.receive("u");
            assert_eq!(state(&service), wanted);
        }
    }

    fn commands_to_a_service_that_rests_after_its_death(pairing) {
        let bed = pairing.started();
        for command in ["-d", "-O"] {
            // If the machine is so slow that the second is over, the service is up again, and
            // another one is tried.
            let rested = (0..5).any(|n| {
                let mut service = up(&bed, &format!("web{command}{n}"));
                bed.svc(&service, "-k");
                service.receive("dD");
                let after = bed.svc_and_see(&service, command);
                service.further_events().is_empty() && after == "down after signal 9, ready"
            });
            assert!(rested, "{command}");
        }
    }

    fn commands_to_a_service_that_is_up_and_whose_supervision_ends_with_it(pairing) {
        let bed = pairing.started();
        let last = |name: &str| {
            let service = up(&bed, name);
            bed.svc(&service, "-x");
            assert_eq!(bed.svc_and_see(&service, "-c"), "up, wanted");
            service
        };
        check(last, |service, command| bed.svc(service, command), &[
            ("-u", "", "up, wanted"),
            ("-o", "", "up"),
            ("-O", "", "up"),
            ("-Ou", "", "up, wanted"),
            ("-x", "", "up, wanted"),
            ("-p", "", "up, paused, wanted"),
            ("-D", "dDxs", "down, ready"),
            ("-k", "dDxsu", "up, wanted"),
        ]);
    }

    fn commands_while_the_last_finish_script_runs(pairing) {
        let bed = pairing.started();
        let last = |name: &str| {
            let service = finishing(&bed, name);
            bed.svc(&service, "-x");
            service
        };
        let mut services = check(last, |service, command| bed.svc(service, command), &[
            ("-u", "", "finishing after 3, wanted"),
            ("-d", "", "finishing after 3"),
            ("-o", "", "finishing after 3"),
            ("-O", "", "finishing after 3"),
            ("-du", "", "finishing after 3, wanted"),
            (SIGNALS, "", "finishing after 3, wanted"),
        ]);
        for service in &mut services {
            release(&bed, service);
        }
    }
}
