//! One sequence of steps, lived under both supervisors.
//!
//! *Lives here:* how a step is performed, and what is compared. *Does not live here:* what must
//! follow a step ([`super::model`]), and where sequences come from.

use std::fs;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use gatevisor_client::ScanDir;
use gatevisor_wire::scan::ScanCommand::{NukeGone, Rescan};

use super::model::Model;
use crate::bed::{Bed, Maker, Pairing, until_state};
use crate::support::processes::Held;
use crate::support::service::Service;

/// Both supervisors, each on a scandir of its own.
pub struct Both([Bed; 2]);

impl Both {
    pub fn started() -> Self {
        Self([Maker::S6, Maker::Ours].map(|supervisor| Pairing { supervisor, tools: Maker::S6 }.started()))
    }

    /// Ends everything without checks, because an orderly end cannot be expected after a failure.
    pub fn abandon(self) {
        for bed in self.0 {
            for held in bed.processes().into_iter().filter_map(Held::of) {
                held.kill();
            }
            let _ = fs::remove_dir_all(bed.root());
            std::mem::forget(bed);
        }
    }
}

fn place(bed: &Bed, name: &str, finish: &str) -> Service {
    let run = "echo run \"$*\" >> ran
        while read word < go; do
            case $word in ready) echo >&3 ;; *) exit \"${word#exit-}\" ;; esac
        done";
    let tells = "echo finish \"$1 $2 $3\" >> ran";
    let mut builder = bed.service(name).run(run).gate("go").gate("end").file("notification-fd", "3\n").down();
    builder = builder.file("timeout-finish", "0\n");
    builder = match finish {
        "plain" => builder,
        "told" => builder.finish(tells),
        _ => builder.finish(&format!("{tells}\n[ -p end ] && read code < end; exit $code")),
    };
    let mut service = builder.place();
    service.receive("s");
    service
}

fn scan(bed: &Bed, nuke: bool) {
    let commands = if nuke { &[Rescan, NukeGone][..] } else { &[Rescan] };
    ScanDir::new(bed.scandir()).send(commands).unwrap();
}

/// Performs one step, as `model` has already done.
fn perform(bed: &Bed, service: &mut Service, step: &str, events: &str, model: &Model<'_>) {
    match step {
        "ready" | "exit-0" | "exit-3" | "exit-255" => service.pass("go", step),
        "finish-0" | "finish-1" | "finish-125" => service.pass("end", &step["finish-".len()..]),
        "rescan" => scan(bed, false),
        "vanish" => {
            let hidden = service.hide();
            scan(bed, true);
            let (before, after) = events.split_at(events.find('x').unwrap() + 1);
            service.receive(before);
            fs::rename(hidden, service.dir.path()).unwrap();
            scan(bed, false);
            service.receive(after);
        }
        "down-signal" => {
            let name = if model.down_signal == 10 { "USR1\n" } else { "TERM\n" };
            fs::write(service.path("down-signal"), name).unwrap();
        }
        // The status is written anew for each request, even for one that changes nothing.
        "u" | "d" | "o" | "O" | "U" | "D" | "Q" => {
            service.send_and_see(step);
        }
        byte => service.send(byte),
    }
    if step != "vanish" {
        service.receive(events);
    }
    until_state(service, &model.state());
    if model.ran > 0 {
        // A process that is killed before it has recorded its start would leave out a line.
        service.until_lines("ran", model.ran);
    }
}

/// What a service leaves that can be compared when nothing more happens.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    further_events: String,
    ran: String,
    tally: Vec<(u8, u8)>,
    down_file: bool,
}

fn remains(service: &mut Service) -> Remains {
    let tally = fs::read(service.path("supervise/death_tally")).unwrap();
    Remains {
        further_events: service.further_events(),
        ran: fs::read_to_string(service.path("ran")).unwrap_or_default(),
        tally: tally.chunks(14).map(|death| (death[12], death[13])).collect(),
        down_file: service.path("down").exists(),
    }
}

/// Ends a service, whatever it does, and removes its directory.
fn remove(bed: &Bed, service: &mut Service) {
    let end = service.path("end");
    let hidden = service.hide();
    service.pass("end", "0");
    fs::remove_file(hidden.join(end.file_name().unwrap())).unwrap();
    scan(bed, true);
    service.receive_until('x');
    fs::remove_dir_all(hidden).unwrap();
}

/// Runs a sequence on one supervisor. Panics if it differs from the model.
fn live_on(bed: &Bed, name: &str, sequence: &[String]) -> (Service, Remains) {
    let (finish, steps) = sequence.split_first().expect("a sequence names its finish script");
    let mut service = place(bed, name, finish);
    let mut model = Model::new(finish);
    for step in steps {
        // In a shrunk sequence, a step may make no sense any more.
        let Some(events) = model.step(step) else { continue };
        perform(bed, &mut service, step, &events, &model);
    }
    let remains = remains(&mut service);
    (service, remains)
}

/// Runs a sequence on both at the same time. Panics if they differ from the model or from each
/// other.
pub fn live(both: &Both, sequence: &[String]) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("life{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let [s6, ours] = &both.0;
    thread::scope(|scope| {
        let thread_of_s6 = scope.spawn(|| live_on(s6, &name, sequence));
        let (mut ours_afterwards, left_by_us) = live_on(ours, &name, sequence);
        let (mut theirs_afterwards, left_by_s6) =
            thread_of_s6.join().unwrap_or_else(|panic| resume_unwind(panic));
        assert_eq!(left_by_s6, left_by_us, "what is left of s6's and of ours");
        remove(s6, &mut theirs_afterwards);
        remove(ours, &mut ours_afterwards);
    });
}
