//! The checks by tables: a home in which all is well, one thing wrong with it, and what is found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use gatevisor_client::status_view::StateName;
use gatevisor_doctor::facts::*;
use gatevisor_doctor::{Finding, examine};
use gatevisor_gateways::agent::ServedFrom;
use gatevisor_gateways::declared::{DriftPolicy, KeptDeclaration, KeptProfile};
use gatevisor_gateways::desired::Desired;
use gatevisor_gateways::inspect::{ServedReport, ServiceReport, ServiceState};
use gatevisor_gateways::live::{LiveReport, LiveState};
use gatevisor_gateways::manager::Observed;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::policy::{ENDING_SURVIVORS, PublishedPolicy, RestartPhase};
use gatevisor_wire::tally::Death;
use insta::assert_snapshot;

use common::{disk, moment, profile, service, well};

fn env(pairs: &[(&str, &str)]) -> EnvironmentFile {
    let values = pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret((*value).into()))).collect();
    EnvironmentFile {
        path: "/h/.env".into(),
        mode: 0o600,
        is_reachable: true,
        problem: None,
        has_mark: false,
        values,
    }
}

fn line(finding: &Finding) -> String {
    let profile = finding.profile.as_ref().map_or("-", ProfileName::as_str);
    let fix = finding.fix.as_deref().unwrap_or("-");
    let (check, severity) = (finding.check.word(), finding.severity.word());
    format!("{check} {severity} {profile}: {}: {} => {fix}", finding.what, finding.why)
}

/// Returns what is found when this is wrong with a home in which all was well, a line each.
fn found(wrong: impl FnOnce(&mut Facts)) -> String {
    let mut facts = well();
    wrong(&mut facts);
    examine(&facts).iter().map(line).collect::<Vec<_>>().join("\n")
}

/// As `found`, but of each finding only the check, the severity and the gateway.
fn short(wrong: impl FnOnce(&mut Facts)) -> String {
    let lines = found(wrong);
    lines.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect::<Vec<_>>().join(", ")
}

#[test]
fn where_all_is_well_nothing_is_found() {
    assert_eq!(found(|_| {}), "");
}

#[test]
fn a_home_without_a_supervisor_is_found() {
    let absent = |presence: Presence| move |facts: &mut Facts| facts.supervision.presence = presence;
    assert_snapshot!(found(absent(Presence::Unsupervised)), @"supervisor error -: no supervisor runs on the scandir `/s`: one gateway is desired running, and nobody starts it => gatevisor up");
    assert_snapshot!(found(absent(Presence::NoScandir)), @"supervisor error -: there is no scandir `/s`, so nobody supervises: one gateway is desired running, and nobody starts it => gatevisor up");
    assert_snapshot!(found(absent(Presence::Unknown("Permission denied".to_owned()))), @"supervisor warning -: whether anybody supervises `/s` cannot be told as uid 7: Permission denied; ask as root or as the user who owns it => -");
    // Nothing is desired, so nothing is missing. A container without a supervisor is always broken.
    let at_rest = |facts: &mut Facts| {
        facts.profiles[0].desired_state = Ok(None);
        facts.supervision.presence = Presence::Unsupervised;
    };
    assert_eq!(short(at_rest), "supervisor warning -");
    let container = |facts: &mut Facts| {
        at_rest(facts);
        facts.supervision.is_container = true;
        facts.supervision.marker = Some("/.dockerenv");
        facts.supervision.first = Some("bash".to_owned());
    };
    assert_snapshot!(found(container), @"supervisor error -: no supervisor runs on the scandir `/s`: no gateway runs or can be started; `/.dockerenv` says that this is a container, and its process 1 is `bash`: start it with the entry point of its image, `/init`, and without --entrypoint => gatevisor up");
}

#[test]
fn a_supervisor_that_is_not_ours_or_not_process_1_is_found() {
    assert_snapshot!(found(|f| f.supervision.program = Some("s6-svscan".to_owned())), @"supervisor note -: `s6-svscan` supervises `/s`, not Gatevisor: everything works, but a gateway that keeps dying is started each second, and nobody says why a slot is refused or a start fails => -");
    let beside = |facts: &mut Facts| {
        facts.supervision.is_container = true;
        facts.supervision.pid = Some(9);
        facts.supervision.first = Some("tini".to_owned());
    };
    assert_snapshot!(found(beside), @"supervisor warning -: process 1 of this container is `tini`, not the supervisor (process 9): gateways are supervised, but the agent's own command line looks for the supervisor at process 1; start the container without --init, --pid and --entrypoint => -");
    assert_eq!(short(|f| f.supervision.pid = Some(9)), "", "without a container any process will do");
    let without = |facts: &mut Facts| {
        facts.supervision.without_gateways = true;
        facts.services.clear();
    };
    assert_eq!(short(without), "supervisor note -", "and no slot is missed");
    assert_eq!(short(|facts| facts.supervision.victims = Victims::Anybody), "supervisor warning -");
}

#[test]
fn a_supervisor_that_does_nothing_and_gateways_that_nobody_watches_are_found() {
    assert_snapshot!(found(|f| f.supervision.stopped = Some(1)), @"supervisor error -: the supervisor (process 1) is stopped by a signal: until it goes on, nothing is started or stopped, and nobody learns of a death => kill -CONT 1");
    let unwatched = |facts: &mut Facts| {
        facts.supervision.unwatched = Some("the watcher of gateways has been silent for 40 s".to_owned());
    };
    assert_snapshot!(found(unwatched), @"supervisor warning -: nobody watches whether the gateways work: the watcher of gateways has been silent for 40 s; until one reports again, no gateway that does not work is found or ended, and new profiles may be missed => -");
    let in_container = |facts: &mut Facts| {
        unwatched(facts);
        facts.supervision.is_container = true;
    };
    assert!(found(in_container).ends_with("=> gatevisor s6 s6-svc -ku /s/profile-watcher"));
    let elsewhere = |facts: &mut Facts| {
        unwatched(facts);
        facts.supervision.without_gateways = true;
        facts.services.clear();
    };
    assert_eq!(short(elsewhere), "supervisor note -", "there is nothing to watch");
}

#[test]
fn a_gateway_that_runs_and_has_not_said_by_its_start_deadline_that_it_is_ready_is_found() {
    let starting = |seconds: i64| {
        move |facts: &mut Facts| {
            let started = |observed: &mut Observed| {
                observed.executed = true;
                let status = observed.status.as_mut().unwrap();
                *status = gatevisor_wire::status::Status {
                    pid: gatevisor_wire::Pid::new(70),
                    want_up: true,
                    changed: moment(seconds),
                    ..*status
                };
            };
            facts.services = vec![service("gateway-coder", StateName::Starting, started)];
        }
    };
    assert_eq!(found(starting(120)), "");
    assert_snapshot!(found(starting(121)), @"crash warning coder: the gateway of coder has not said in 121 s that it is ready: its command runs, and nothing has said that it is ready => gatevisor logs -n 50 coder");
}

#[test]
fn a_lock_of_the_home_that_another_container_holds_is_found() {
    let lock = || PathBuf::from("/h/.gatevisor.lock");
    let stands = |elsewhere, standing: Standing| {
        move |facts: &mut Facts| {
            facts.supervision.elsewhere = elsewhere;
            facts.supervision.standing = standing;
        }
    };
    let none = |facts: &mut Facts| {
        stands(true, Standing::NeverHeld { file: lock() })(facts);
        facts.services.clear();
    };
    assert_eq!(short(none), "supervisor note -");
    let waiting = |facts: &mut Facts| {
        stands(true, Standing::NeverHeld { file: lock() })(facts);
        facts.services = vec![service("gateway-coder", StateName::Down, |_| {})];
    };
    assert_snapshot!(found(waiting), @"supervisor note -: the gateways of this home run in another container: this container does not hold `/h/.gatevisor.lock`, so it runs no gateways of this home: the container or the `gatevisor up` that holds it does; `/s/profile-watcher` takes over when that one is gone => -");
    let lost = stands(true, Standing::Replaced { file: lock() });
    assert_snapshot!(found(lost), @"supervisor error -: gateways run here although this container does not hold the lock of the home: `/h/.gatevisor.lock` was replaced by another file, which this container does not hold: the container that holds it runs the gateways of this home; `/s/profile-watcher` should have stopped them, and is down or does not work => gatevisor s6 s6-svc -ku /s/profile-watcher");
    let missing = |facts: &mut Facts| {
        stands(false, Standing::Missing { file: lock() })(facts);
        facts.services = vec![service("gateway-coder", StateName::Down, |_| {})];
        facts.profiles[0].desired_state = Ok(Some("stopped".to_owned()));
    };
    assert_snapshot!(found(missing), @"supervisor warning -: no gateway can be started here: `/h/.gatevisor.lock`, which this container held, is gone, so any container may run the gateways of this home next; the service `profile-watcher` makes and locks it again, if it is up; `/s/profile-watcher` is down or does not work => gatevisor s6 s6-svc -ku /s/profile-watcher");
    let alone = |facts: &mut Facts| {
        stands(true, Standing::Replaced { file: lock() })(facts);
        facts.supervision.keeper = None;
    };
    assert_snapshot!(found(alone), @"supervisor error -: gateways run here although this container does not hold the lock of the home: `/h/.gatevisor.lock` was replaced by another file, which this container does not hold: the container that holds it runs the gateways of this home; no service of this container keeps or waits for it => -");
}

#[test]
fn a_home_that_is_missing_or_closed_is_found() {
    let home = |state: HomeState| move |facts: &mut Facts| facts.home.state = state;
    let refused = |is_read_only| Refused { why: "no".to_owned(), is_read_only };
    assert_snapshot!(found(home(HomeState::Missing)), @"home error -: there is no home `/h`: every profile, desired state and log is below it => mkdir -p -- /h");
    assert_snapshot!(found(home(HomeState::NotADirectory)), @"home error -: the home `/h` is no directory: something else has its name => mv -n -- /h /h.aside");
    assert_snapshot!(found(home(HomeState::Unwritable(refused(false)))), @"home error -: uid 7 cannot write to the home `/h`: no => chmod u+rwx -- /h");
    assert_snapshot!(found(home(HomeState::Unwritable(refused(true)))), @"home error -: uid 7 cannot write to the home `/h`: no => -");
    let others = |facts: &mut Facts| {
        facts.uid = 9;
        facts.profiles[0].refused = Some(refused(false));
    };
    assert_snapshot!(found(others), @"home error coder: uid 9 cannot write to the home of profile coder: no => gatevisor s6 s6-setuidgid 7:8 gatevisor doctor");
    assert_eq!(short(|f| f.misnamed = vec![("Bad".to_owned(), "upper case".to_owned())]), "home warning -");
    assert_eq!(short(|f| f.unread = vec![("/s".into(), "no".to_owned())]), "home error -");
    let many = found(|f| f.unread = vec![("/s".into(), "no".to_owned()); 10]);
    assert_eq!(many.lines().count(), 8, "{many}");
    assert!(many.contains("cannot tell what is in `/s`, and in 2 more places"), "{many}");
}

#[test]
fn a_directory_of_the_gateways_group_is_no_finding() {
    let shared = |facts: &mut Facts| {
        let path = "/h".into();
        facts.entries =
            vec![OwnedEntry { path, profile: None, owner: (0, 8), is_directory: true, is_shared: true }];
    };
    assert_eq!(short(shared), "");
}

#[test]
fn what_belongs_to_another_is_given_back_as_a_tree() {
    let entry = |path: &str, uid: u32, is_directory: bool| OwnedEntry {
        path: path.into(),
        profile: path.contains("coder").then(|| "coder".parse().unwrap()),
        owner: (uid, uid),
        is_directory,
        is_shared: false,
    };
    let strangers = |facts: &mut Facts| {
        facts.entries = vec![
            entry("/h", 7, true),
            entry("/h/profiles/coder", 0, true),
            entry("/h/profiles/coder/state.json", 0, false),
            entry("/h/profiles/writer/.e nv", 0, false),
        ];
    };
    assert_snapshot!(found(strangers), @r"
        owner error coder: `/h/profiles/coder` belongs to uid 0: gateways run as uid 7, which can neither replace it nor, perhaps, read it => gatevisor give-back 7:8 /h/profiles/coder
        owner error -: `/h/profiles/writer/.e nv` belongs to uid 0: gateways run as uid 7, which can neither replace it nor, perhaps, read it => gatevisor give-back 7:8 '/h/profiles/writer/.e nv'
        ");
}

#[test]
fn secrets_that_others_may_read_are_found() {
    let mode = |mode: u32, is_reachable: bool| {
        move |facts: &mut Facts| {
            facts.profiles[0].environment = vec![EnvironmentFile { mode, is_reachable, ..env(&[]) }];
        }
    };
    assert_snapshot!(found(mode(0o644, true)), @"secret error coder: `/h/.env` of profile coder is open to others (mode 0644): it holds secrets, and everybody on this machine can get at them => chmod 600 -- /h/.env");
    assert_eq!(short(mode(0o644, false)), "secret warning coder");
    assert_eq!(short(mode(0o640, true)), "secret warning coder");
    assert_eq!(short(mode(0o602, true)), "secret error coder");
    assert_eq!(short(mode(0o400, true)), "");
    let problem = |is_something_else: bool| {
        move |facts: &mut Facts| {
            let problem = Some(("it is a FIFO, not a file".to_owned(), is_something_else));
            facts.profiles[0].environment = vec![EnvironmentFile { mode: 0o666, problem, ..env(&[]) }];
        }
    };
    assert_snapshot!(found(problem(true)), @"secret error coder: `/h/.env` of profile coder cannot be read: it is a FIFO, not a file; its gateway does not get its keys, ports and tokens => mv -n -- /h/.env /h/.env.aside");
    assert_eq!(short(problem(false)), "secret error coder, secret error coder");
    let strange = |facts: &mut Facts| {
        problem(true)(facts);
        facts.uid = 9;
    };
    assert_eq!(short(strange), "");
}

#[test]
fn a_profile_is_found_that_two_gateways_serve_or_whose_gateway_is_unknown() {
    let with = |change: fn(&mut ServiceReport)| {
        move |facts: &mut Facts| {
            let mut fact = service("gateway-coder", StateName::Up, |_| {});
            (fact.report.up, fact.report.pid) = (Some(true), Some(7));
            change(&mut fact.report);
            facts.services = vec![fact];
        }
    };
    let served = |report: &mut ServiceReport| {
        let by = "default".parse().unwrap();
        report.served = Some(ServedReport { by, pid: 9, platforms: Vec::new() });
        report.served_from = ServedFrom::Server;
    };
    assert_snapshot!(found(with(served)), @"topology error coder: two gateways serve coder: its own (pid 7), and that of default (pid 9): each message goes to only one of them => gatevisor gateway stop coder && gatevisor gateway start coder");
    // A restart of its own gateway would leave the other one as it is.
    let own = |report: &mut ServiceReport| {
        let by = "default".parse().unwrap();
        report.served = Some(ServedReport { by, pid: 9, platforms: Vec::new() });
        report.served_from = ServedFrom::Own;
    };
    assert!(found(with(own)).ends_with(" => gatevisor gateway restart default"));
    let unknown =
        |report: &mut ServiceReport| report.topology_problem = Some("`/h/x` is not YAML".to_owned());
    assert_snapshot!(found(with(unknown)), @"topology warning coder: it is not known which gateway should serve coder: `/h/x` is not YAML; what was known last counts, if anything was => -");
    let default = |facts: &mut Facts| {
        let mut fact = service("gateway-default", StateName::Down, |_| {});
        unknown(&mut fact.report);
        facts.services = vec![fact];
    };
    assert!(found(default).contains(
        "topology warning default: it is not known whether the gateway of default should serve other profiles: `/h/x` is not YAML; "
    ));
}

#[test]
fn a_gateway_is_found_that_says_itself_that_something_is_wrong_whether_or_not_it_is_ready() {
    for state in [StateName::Ready, StateName::Starting] {
        let degraded = |facts: &mut Facts| {
            let mut fact = service("gateway-coder", state.clone(), |_| {});
            fact.report.state = ServiceState::Degraded;
            fact.report.reason = Some("failing: telegram".to_owned());
            fact.report.updownfor = Some(1000);
            facts.services = vec![fact];
        };
        let said = "the gateway of coder works, and says itself that something is wrong: failing: telegram";
        let expected = format!("crash warning coder: {said} => gatevisor logs -n 50 coder");
        assert_eq!(found(degraded), expected, "{state:?}");
    }
}

#[test]
fn a_profile_is_found_that_nobody_serves_although_it_shall_run() {
    let unserved = |server: u64| {
        move |facts: &mut Facts| {
            let mut default = service("gateway-default", StateName::Ready, |_| {});
            default.report.updownfor = Some(server);
            let mut coder = service("gateway-coder", StateName::Down, |_| {});
            coder.report.served_from = ServedFrom::Server;
            coder.report.reason = Some("default serves it, and does not list it yet".to_owned());
            facts.services = vec![default, coder];
        }
    };
    assert_snapshot!(found(unserved(100)), @"topology error coder: nobody serves coder although it is desired running: default serves it, and does not list it yet => gatevisor gateway start coder");
    assert_eq!(found(unserved(5)), "", "it has just been started");
}

#[test]
fn a_state_file_without_a_desired_state_is_found() {
    let broken =
        |facts: &mut Facts| facts.profiles[0].desired_state = Err("state.json is not JSON: …".to_owned());
    assert_snapshot!(found(broken), @"desired-state warning coder: what is desired of the gateway of coder cannot be read: state.json is not JSON: …; at the next boot it stays down => gatevisor gateway start coder");
    let down = |facts: &mut Facts| {
        broken(facts);
        facts.services = vec![service("gateway-coder", StateName::Down, |_| {})];
    };
    assert!(found(down).ends_with("=> gatevisor gateway stop coder"));
}

#[test]
fn slots_without_profiles_and_profiles_without_slots_are_found() {
    assert_snapshot!(found(|f| f.services.clear()), @"slot error coder: profile coder has no slot: its gateway is desired running, and the supervisor knows nothing of it => gatevisor gateway start coder");
    let unrequested = |facts: &mut Facts| {
        facts.services.clear();
        facts.profiles[0].desired_state = Ok(None);
    };
    assert_eq!(short(unrequested), "slot warning coder");
    let orphan = |state: StateName| {
        move |facts: &mut Facts| facts.services.push(service("gateway-gone", state, |_| {}))
    };
    assert_snapshot!(found(orphan(StateName::Ready)), @"slot error gone: slot gateway-gone belongs to no profile: there is no profile gone; it was removed or renamed by another program => gatevisor gateway unregister gone");
    assert_eq!(short(orphan(StateName::Down)), "slot warning gone");
    assert_eq!(short(orphan(StateName::NotSupervised)), "slot error gone, slot warning gone");
    // The root profile may have none, by definition, and other services never have one.
    assert_eq!(short(|f| f.services.push(service("gateway-default", StateName::Down, |_| {}))), "");
    assert_eq!(short(|f| f.services.push(service("dashboard", StateName::Up, |_| {}))), "");
}

#[test]
fn slots_that_nobody_supervises_are_found() {
    let refused = |name: &'static str, reason: Option<&'static str>| {
        move |facts: &mut Facts| {
            let mut service = service(name, StateName::NotSupervised, |_| {});
            service.refusal = reason.map(str::to_owned);
            facts.services = vec![service];
            facts.profiles[0].desired_state = Ok(None);
            if name != "gateway-coder" {
                facts.profiles.clear();
            }
        }
    };
    assert_snapshot!(found(refused("gateway-coder", Some("it is a file"))), @"slot error coder: the supervisor refuses slot gateway-coder: it is a file => gatevisor gateway unregister coder && gatevisor gateway register coder");
    assert_snapshot!(found(refused("other", Some("others than its owner may write to it (mode 0777)"))), @"slot error -: the supervisor refuses service other: others than its owner may write to it (mode 0777) => chmod go-w -- /s/other && gatevisor s6 s6-svscanctl -a /s");
    assert_snapshot!(found(refused("other", Some("its lock is held"))), @"slot error -: the supervisor refuses service other: its lock is held => ls -ladn -- /s/other /s/other/*");
    assert_snapshot!(found(refused("other", None)), @"slot error -: nobody supervises other: it was put into the scandir, and nobody asked for a scan; or its supervisor has died => gatevisor s6 s6-svscanctl -a /s");
}

fn log(facts: &mut Facts) -> &mut LogDirectory {
    facts.profiles[0].log.as_mut().unwrap()
}

#[test]
fn a_log_whose_lines_are_not_kept_is_found() {
    let unkept = |change: fn(&mut Facts)| {
        move |facts: &mut Facts| {
            facts.services[0].report.log_problem = Some("cannot write `current`".to_owned());
            facts.services[0].report.log_problem_since = Some("then".to_owned());
            change(facts);
        }
    };
    assert_snapshot!(found(unkept(|_| {})), @"log error coder: what gateway-coder writes is not kept since then: cannot write `current`; once that is fixed, the next line ends it => ls -lan -- /h/logs/coder");
    let fix = |change: fn(&mut Facts)| {
        let found = found(unkept(change));
        found.split_once("=> ").unwrap().1.to_owned()
    };
    assert_eq!(fix(|f| log(f).is_directory = false), "mv -n -- /h/logs/coder /h/logs/coder.aside");
    assert_eq!(fix(|f| log(f).is_open = Some(false)), "chmod u+rwx -- /h/logs/coder");
    assert_eq!(fix(|f| log(f).is_open = None), "mkdir -p -- /h/logs/coder");
}

#[test]
fn a_start_that_the_watcher_calls_unresponsive_does_not_respond_whatever_its_probe_says() {
    let starting = |said: &'static str, held: Option<&'static str>| {
        short(move |facts| {
            let mut service = service("gateway-coder", StateName::Starting, |o| {
                o.not_ready = Some("no answer".to_owned());
            });
            service.report.port_held = held.map(str::to_owned);
            service.report.live = Some(LiveReport {
                state: LiveState::all().find(|state| state.word() == said).unwrap(),
                since: None,
                evidence: None,
                misses: 0,
                reason: Some("http: no answer".to_owned()),
                policy: "warn",
                status: None,
                start_deadline_ms: 1,
            });
            facts.services = vec![service];
        })
    };
    for held in [None, Some("port 1 is held by process 9")] {
        assert_eq!(starting("starting", held), "crash warning coder", "{held:?}");
        assert_eq!(starting("unresponsive", held), "crash error coder", "{held:?}");
    }
}

/// Makes its last change of state a recent one.
fn just_now(observed: &mut Observed) {
    observed.status.as_mut().unwrap().changed = moment(5);
}

fn failed(observed: &mut Observed, times: u32) {
    just_now(observed);
    observed.policy =
        Some(PublishedPolicy { phase: RestartPhase::Backoff, failures: times, ..PublishedPolicy::default() });
}

fn died(observed: &mut Observed, code: u8, seconds_ago: [i64; 3]) {
    just_now(observed);
    observed.deaths = seconds_ago.map(|ago| Death { at: moment(ago), exit_code: code, signal: 0 }).to_vec();
}

#[test]
fn a_failed_start_is_found_also_while_what_its_process_left_is_being_ended() {
    let ending = |ran_ms: u64, is_asked_for: bool| {
        move |facts: &mut Facts| {
            let waiting = StateName::Waiting { reason: Some(ENDING_SURVIVORS.to_owned()) };
            let mut policy = PublishedPolicy {
                phase: RestartPhase::Clearing,
                failures: 1,
                ran_ms: Some(ran_ms),
                ..PublishedPolicy::default()
            };
            policy.asked.push(is_asked_for);
            facts.services = vec![service("gateway-coder", waiting, |observed| {
                died(observed, 3, [9, 5, 3]);
                observed.policy = Some(policy);
            })];
        }
    };
    assert_snapshot!(found(ending(200, false)), @"crash error coder: the gateway of coder cannot be started: what its last process may have left behind is being ended first; it ended 0.2 s after its start: exit 0; fix that first => gatevisor gateway start coder");
    assert_snapshot!(found(ending(5000, false)), @"crash warning coder: the gateway of coder has died and is started again shortly: the last time with exit 3 => gatevisor logs -n 50 coder");
    assert_eq!(found(ending(200, true)), "");
}

#[test]
fn gateways_that_do_not_stay_up_are_found() {
    let state = |state: StateName, change: fn(&mut Observed)| {
        move |facts: &mut Facts| facts.services = vec![service("gateway-coder", state, change)]
    };
    let for_good = StateName::Failed { reason: Some("exit 78".to_owned()) };
    assert_snapshot!(found(state(for_good, |_| {})), @"crash error coder: the gateway of coder failed for good, and is not started again: exit 78; fix that first (`gatevisor logs coder` shows its last words) => gatevisor gateway start coder");
    let unstartable =
        StateName::FailedToStart { reason: Some("executing x".to_owned()), until_unix_ms: None };
    assert_snapshot!(found(state(unstartable, |_| {})), @"crash error coder: the gateway of coder cannot be started: executing x; fix that first => gatevisor gateway start coder");
    let backing_off = || StateName::BackingOff { until_unix_ms: None };
    assert_snapshot!(found(state(backing_off(), |o| died(o, 1, [9, 5, 3]))), @"crash warning coder: the gateway of coder has died and is started again shortly: the last time with exit 1 => gatevisor logs -n 50 coder");
    assert_snapshot!(found(state(backing_off(), |o| failed(o, 5))), @"crash error coder: the gateway of coder keeps dying: 5 times in a row: exit 0; it is started again with growing pauses => gatevisor logs -n 50 coder");
    assert_eq!(short(state(StateName::Ready, |o| failed(o, 3))), "crash error coder");
    assert_eq!(short(state(StateName::Ready, |o| failed(o, 2))), "");
    let for_long = |o: &mut Observed| {
        failed(o, 9);
        o.status.as_mut().unwrap().changed = moment(31);
    };
    assert_eq!(short(state(StateName::Ready, for_long)), "", "it has lived long enough to be forgiven");
    // Our supervisor counts failures and forgets them. Under s6, only the list of deaths tells.
    assert_eq!(short(state(StateName::Ready, |o| died(o, 1, [9, 5, 3]))), "");
    let under_s6 = |code: u8, seconds_ago: [i64; 3]| {
        short(move |facts| {
            facts.supervision.program = Some("s6-svscan".to_owned());
            facts.services = vec![service("gateway-coder", StateName::Up, |o| died(o, code, seconds_ago))];
        })
    };
    assert_eq!(under_s6(1, [59, 30, 3]), "crash error coder, supervisor note -");
    assert_eq!(under_s6(1, [61, 30, 3]), "supervisor note -");
    assert_eq!(under_s6(75, [59, 30, 3]), "supervisor note -", "requested restarts are no failures");
    assert_snapshot!(found(state(StateName::Down, |_| {})), @"crash warning coder: the gateway of coder is down although it is desired running: its supervisor was told otherwise, and nothing records by whom => gatevisor gateway start coder");
    let never_ran = |o: &mut Observed| {
        o.normally_up = Some(false);
        o.status.as_mut().unwrap().paused = true;
    };
    assert_snapshot!(found(state(StateName::Down, never_ran)), @"crash warning coder: the gateway of coder is down although it is desired running: a `down` file keeps it down, and nobody has told its supervisor to start it => gatevisor gateway start coder");
    assert_snapshot!(found(state(StateName::Paused, |_| {})), @"crash warning coder: the gateway of coder is paused: somebody sent it SIGSTOP through its supervisor => gatevisor s6 s6-svc -c /s/gateway-coder");
    assert_eq!(short(state(StateName::Finishing, |_| {})), "");
    let other = |facts: &mut Facts| {
        facts.services.push(service("dashboard", StateName::Failed { reason: None }, |_| {}));
    };
    assert_snapshot!(found(other), @"crash error -: service dashboard failed for good, and is not started again: nobody says why; fix that first => gatevisor s6 s6-svc -u /s/dashboard");
}

/// Returns a home of two profiles with these variables, the first of which runs.
fn two(first: &'static [(&str, &str)], second: &'static [(&str, &str)]) -> impl FnOnce(&mut Facts) {
    move |facts| {
        let mut writer = profile("writer");
        facts.services.push(service("gateway-writer", StateName::Down, |_| {}));
        facts.profiles[0].environment = vec![env(first)];
        writer.environment = vec![EnvironmentFile { path: "/h/profiles/writer/.env".into(), ..env(second) }];
        facts.profiles.push(writer);
    }
}

#[test]
fn a_port_that_two_profiles_have_is_found_and_not_shown() {
    let same = || two(&[("HTTP", "1"), ("PORT", "4711")], &[("KEY", "k"), ("PORT", " 4711 ")]);
    assert_snapshot!(found(same()), @r#"port warning writer: profiles coder and writer listen on the same port: PORT and PORT: only one of them can have it => (printf '\n%s\n' PORT=80 >> /h/profiles/writer/.env)"#);
    assert!(!found(same()).contains("4711"));
    assert_snapshot!(found(two(&[("HTTP", "1")], &[("HTTP", "yes")])), @r#"port warning writer: profiles coder and writer listen on the same port: PORT and PORT: only one of them can have it; where the variable is not set, it is the agent's default => (printf '\n%s\n' PORT=81 >> /h/profiles/writer/.env)"#);
    for (first, second, expected) in [
        (&[("HTTP", "1")][..], &[("HTTP", "No")][..], ""),
        (&[("PORT", "4711")], &[("PORT", "4711")], ""),
        (&[("HTTP", "1")], &[("HTTP", "1"), ("PORT", "81")], ""),
        (&[("HTTP", "1")], &[("HTTP", "1"), ("PORT", "none")], ""),
        (&[("HTTP", "1")], &[("HTTP", "1"), ("PORT", "81"), ("PORT", "80")], "port warning writer"),
        (&[("HTTP", "1")], &[("HOOK_PORT", "80")], "port warning writer"),
        (&[("HTTP", "1"), ("HOOK_PORT", "80")], &[], "port error coder"),
    ] {
        assert_eq!(short(two(first, second)), expected, "{first:?} {second:?}");
    }
}

#[test]
fn variables_that_a_user_may_not_read_are_neither_a_shared_port_nor_a_shared_token() {
    let hidden = |uid: u32| {
        move |facts: &mut Facts| {
            two(&[("TOKEN", "a")], &[("TOKEN", "a")])(facts);
            facts.definition.ports[0].when.clear();
            let problem = Some(("Permission denied".to_owned(), false));
            let path = "/h/profiles/writer/.env.own".into();
            facts.profiles[1].environment.push(EnvironmentFile { path, problem, ..env(&[]) });
            facts.uid = uid;
        }
    };
    let owners = short(hidden(7));
    assert!(owners.contains("port warning writer") && owners.contains("token warning writer"), "{owners}");
    assert_eq!(short(hidden(9)), "");
}

#[test]
fn where_the_scandir_may_not_be_read_no_profile_is_said_to_have_no_slot() {
    let hidden = |facts: &mut Facts| {
        facts.services.clear();
        facts.unread.push(("/s".into(), "Permission denied".to_owned()));
    };
    assert_eq!(short(hidden), "home error -");
}

#[test]
fn a_token_that_two_profiles_have_is_found_and_not_shown() {
    let same = || two(&[("TOKEN", "s3cret")], &[("TOKEN", "s3cret")]);
    assert_snapshot!(found(same()), @"token warning writer: profiles coder and writer have the same TOKEN: only one of them can be who it stands for: messages go to one or the other, or the second does not start => sed -i -E '/^[[:space:]]*(export[[:space:]]+)?TOKEN[[:space:]]*=/d' /h/profiles/writer/.env");
    assert!(!found(same()).contains("s3cret"));
    let both = |facts: &mut Facts| {
        same()(facts);
        facts.profiles[1].desired_state = Ok(Some("running".to_owned()));
    };
    assert!(short(both).contains("token error writer"));
    assert!(found(both).contains(".env && gatevisor gateway restart writer"), "{}", found(both));
    for (first, second, expected) in [
        (&[("TOKEN", "")][..], &[("TOKEN", "")][..], ""),
        (&[("TOKEN", "a")], &[("OTHER_TOKEN", "a")], ""),
        (&[("TOKEN", "a")], &[("TOKEN", "b")], ""),
        (&[("NAME", "a")], &[("NAME", "a")], ""),
        (&[("TOKEN", "a")], &[("TOKEN", "b"), ("TOKEN", "a")], "token warning writer"),
        (&[("TOKEN", "a")], &[("TOKEN", "a"), ("TOKEN", "")], ""),
    ] {
        assert_eq!(short(two(first, second)), expected, "{first:?} {second:?}");
    }
    let long = found(two(&[("TOKEN", "a\nb")], &[("TOKEN", "a\nb")]));
    assert!(long.ends_with("=> \"${EDITOR:-vi}\" /h/profiles/writer/.env"), "{long}");
}

#[test]
fn facts_show_no_secret_to_whoever_prints_them() {
    let mut facts = well();
    two(&[("TOKEN", "s3cret")], &[("TOKEN", "s3cret")])(&mut facts);
    assert!(!format!("{facts:?}").contains("s3cret"));
}

#[test]
fn disks_that_are_full_or_nearly_full_are_found() {
    let disks = |all: u64, left: u64| move |facts: &mut Facts| facts.disks = vec![disk(all, left)];
    assert_snapshot!(found(disks(100, 0)), @"
    disk error -: the disk of `/h` is full: 0 of 102400 kB are left; a desired state that does not fit is refused, and lines are kept back => du -xak -- /h | sort -n | tail -n 20
    disk error -: the disk of `/h` has no inodes left: 0 of 100000 are left, and each new file needs one => du -x --inodes -- /h | sort -n | tail -n 20
    ");
    assert_snapshot!(found(disks(100, 4)), @"
    disk warning -: the disk of `/h` is nearly full: 4096 of 102400 kB are left; a desired state that does not fit is refused, and lines are kept back => du -xak -- /h | sort -n | tail -n 20
    disk warning -: the disk of `/h` has hardly any inodes left: 4000 of 100000 are left, and each new file needs one => du -x --inodes -- /h | sort -n | tail -n 20
    ");
    assert_eq!(short(disks(100, 6)), "");
    assert_eq!(short(disks(1_000_000, 30_000)), "", "a small part of much is much");
    assert_eq!(short(disks(1, 1)), "", "a small disk that is free is free");
    assert_eq!(
        short(|f| f.disks[0].is_full = true),
        "disk error -",
        "nothing could be written, whatever it says"
    );
    assert_eq!(short(|f| f.disks = vec![Disk { files: 0, files_left: 0, ..disk(9, 9) }]), "");
}

#[test]
fn locks_that_the_wrong_process_holds_are_found() {
    let lock = |kind: LockKind, holder: Option<(&'static str, bool)>| {
        move |facts: &mut Facts| {
            let holder = holder.map(|(name, is_logger)| Holder {
                pid: 9,
                name: name.to_owned(),
                uid: Some(7),
                is_logger,
            });
            let profile = (kind != LockKind::Home).then(|| "coder".parse().unwrap());
            facts.locks = vec![HeldLock { path: "/h/lock".into(), profile, kind, holder }];
        }
    };
    assert_snapshot!(found(lock(LockKind::DesiredState, Some(("flock", false)))), @"lock error coder: `/h/lock` is held by process 9 (`flock`): no desired state can be recorded as long as it is; none of our commands holds it that long => kill 9");
    assert_snapshot!(found(lock(LockKind::DesiredState, None)), @"lock error coder: `/h/lock` is held by a process that cannot be seen from here, such as one of another container: no desired state can be recorded as long as it is; none of our commands holds it that long => rm -- /h/lock");
    assert_snapshot!(found(lock(LockKind::Log, Some(("cat", false)))), @"lock error coder: `/h/lock` is held by process 9 (`cat`), which is no log daemon: what the gateway writes is not kept as long as it is => kill 9");
    assert_eq!(short(lock(LockKind::Log, Some(("gatevisor", true)))), "");
    assert_eq!(short(lock(LockKind::Log, None)), "lock warning coder");
    let left_behind = |facts: &mut Facts| {
        lock(LockKind::Log, Some(("gatevisor", true)))(facts);
        facts.supervision.presence = Presence::Unsupervised;
    };
    assert_eq!(short(left_behind), "supervisor error -, lock warning coder");
    assert_snapshot!(found(lock(LockKind::Home, Some(("flock", false)))), @"lock warning -: `/h/lock` is held by process 9 (`flock`): whoever holds it runs the gateways of this home; two supervisors would run each gateway twice => kill 9");
    assert_eq!(short(lock(LockKind::Home, Some(("gatevisor", false)))), "");
    assert_eq!(short(lock(LockKind::Home, None)), "lock warning -");
    for (holder, by) in [
        (Some(("gatevisor", false)), "process 9 (`gatevisor`) holds `/h/lock`"),
        (None, "a process that cannot be seen from here, such as one of another container holds `/h/lock`"),
    ] {
        let here = |facts: &mut Facts| {
            lock(LockKind::Home, holder)(facts);
            facts.supervision.presence = Presence::Unsupervised;
        };
        assert_eq!(short(here), "supervisor note -", "nothing is to be started here");
        assert!(found(here).contains(by) && !found(here).contains("=> gatevisor up"), "{}", found(here));
    }
    let elsewhere = |facts: &mut Facts| {
        lock(LockKind::Home, None)(facts);
        facts.supervision.elsewhere = true;
    };
    assert_eq!(short(elsewhere), "");
}

#[test]
fn what_root_is_told_to_paste_is_done_as_the_owner_of_the_home() {
    let told = |wrong: &dyn Fn(&mut Facts)| {
        let mut facts = well();
        facts.operator_is_root = true;
        wrong(&mut facts);
        examine(&facts).into_iter().filter_map(|finding| finding.fix).collect::<Vec<_>>().join("; ")
    };
    let exposed = |facts: &mut Facts| {
        facts.profiles[0].environment = vec![EnvironmentFile { mode: 0o666, ..env(&[]) }];
    };
    assert_snapshot!(told(&exposed), @"gatevisor as-owner 7:8 sh -c 'chmod 600 -- /h/.env'");
    let unsupervised = |facts: &mut Facts| facts.supervision.presence = Presence::Unsupervised;
    assert_snapshot!(told(&unsupervised), @"gatevisor up");
}

#[test]
fn no_fix_ends_a_process_that_is_not_known_to_be_a_gateway_of_the_owner() {
    let told = |pid: i32, uid: Option<u32>, is_dated: bool| {
        let wrong = |facts: &mut Facts| {
            let name = "python3".to_owned();
            let found =
                NamedProcess { name, uid, is_dated, is_the_same: true, session: Some(pid), unit: None };
            let profile = facts.profiles[0].name.clone();
            facts.pid_files =
                vec![PidFile { path: "/h/gateway.pid".into(), profile, pid, found: Some(found) }];
            let holder = Holder { pid, name: "flock".to_owned(), uid, is_logger: false };
            let profile = Some(facts.profiles[0].name.clone());
            facts.locks = vec![HeldLock {
                path: "/h/lock".into(),
                profile,
                kind: LockKind::DesiredState,
                holder: Some(holder),
            }];
        };
        let mut facts = well();
        wrong(&mut facts);
        examine(&facts).into_iter().filter_map(|finding| finding.fix).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(told(9, Some(7), true), "kill 9; kill 9");
    let shown = "ps -o user,pid,lstart,args -p";
    assert_eq!(
        told(9, Some(7), false),
        format!("kill 9; {shown} 9"),
        "the kernel names the holder of a lock"
    );
    for (pid, uid) in [(1, Some(7)), (9, Some(0)), (9, Some(8)), (9, None)] {
        assert_eq!(told(pid, uid, true), format!("{shown} {pid}; {shown} {pid}"));
    }
}

#[test]
fn a_gateway_that_a_unit_of_systemd_runs_is_neither_ended_nor_run_a_second_time() {
    let by_unit = |facts: &mut Facts| {
        let found = NamedProcess {
            name: "python3".to_owned(),
            uid: Some(7),
            is_dated: true,
            is_the_same: true,
            session: Some(9),
            unit: Some("hermes-gateway-coder.service".to_owned()),
        };
        let profile = "coder".parse().unwrap();
        facts.pid_files =
            vec![PidFile { path: "/h/gateway.pid".into(), profile, pid: 9, found: Some(found) }];
        facts.services.clear();
        facts.supervision.presence = Presence::Unsupervised;
    };
    assert_snapshot!(found(by_unit), @r"
    supervisor warning -: no supervisor runs on the scandir `/s`: units of systemd run gateways without a supervisor: `hermes-gateway-coder.service` runs the gateway of coder; leave it so, or have one unit supervise the home; `gatevisor up` would run these gateways twice => gatevisor install --take-over
    pid-file warning coder: a gateway of coder runs as process 9 (`python3`) in the unit `hermes-gateway-coder.service` of systemd: that unit starts it again whenever it ends, and Gatevisor does not supervise it => gatevisor install --take-over
    ");
}

#[test]
fn a_container_that_boots_has_no_supervisor_yet() {
    let boots = |facts: &mut Facts| {
        facts.supervision.presence = Presence::Booting;
        facts.services.clear();
    };
    assert_snapshot!(found(boots), @"supervisor note -: no supervisor runs on the scandir `/s` yet: this container is still booting, and its supervisor comes at the end of that; ask again in a moment => -");
}

#[test]
fn files_that_name_the_wrong_process_are_found() {
    let file = |pid: i32, found: Option<(bool, i32)>| {
        move |facts: &mut Facts| {
            let found = found.map(|(is_the_same, session)| NamedProcess {
                name: "python3".to_owned(),
                uid: Some(7),
                is_dated: true,
                is_the_same,
                session: Some(session),
                unit: None,
            });
            let profile = "coder".parse().unwrap();
            facts.pid_files = vec![PidFile { path: "/h/gateway.pid".into(), profile, pid, found }];
        }
    };
    assert_snapshot!(found(file(9, None)), @"pid-file warning coder: `/h/gateway.pid` names process 9, which is gone: the gateway of coder was killed, and could not remove it => rm -- /h/gateway.pid");
    assert_snapshot!(found(file(9, Some((false, 9)))), @"pid-file warning coder: `/h/gateway.pid` names process 9, which is another program now (`python3`): the gateway of coder was killed, and could not remove it => rm -- /h/gateway.pid");
    assert_snapshot!(found(file(9, Some((true, 9)))), @"pid-file warning coder: a gateway of coder runs as process 9 (`python3`) beside its slot: `/h/gateway.pid` names it; somebody started it by hand, and nobody supervises it => kill 9");
    assert_eq!(short(file(70, Some((true, 70)))), "", "it is the gateway");
    assert_eq!(short(file(71, Some((true, 70)))), "", "it is a child of the gateway");
    let new = |facts: &mut Facts| {
        file(9, None)(facts);
        facts.services[0].report.updownfor = Some(3);
    };
    assert_eq!(short(new), "", "a gateway that has just begun has not written it yet");
}

#[test]
fn what_is_declared_and_is_not_so_is_found_unless_it_is_reverted_anyway() {
    use Desired::{Running, Stopped};
    use DriftPolicy::{Report, Revert};
    let declared = |name: &str, desired, drift, change: fn(&mut KeptDeclaration)| {
        let profile = KeptProfile {
            name: name.to_owned(),
            desired,
            drift,
            env_file: None,
            applied: Some(desired),
            drifts: false,
            problem: None,
        };
        let set_by = Some("AgentHome h generation 3".to_owned());
        let mut kept =
            KeptDeclaration { file: "/p.toml".into(), problem: None, set_by, profiles: vec![profile] };
        change(&mut kept);
        move |facts: &mut Facts| facts.declared = Some(kept)
    };
    assert_eq!(found(declared("coder", Running, Report, |_| {})), "");
    assert_eq!(found(declared("coder", Stopped, Revert, |_| {})), "");
    assert_snapshot!(found(declared("coder", Stopped, Report, |_| {})), @"declared note coder: running is desired of the gateway of coder, which is declared stopped: AgentHome h generation 3 declares it, somebody wants it otherwise here, and drift is kept => gatevisor gateway stop coder");
    assert_snapshot!(found(declared("gone", Running, Report, |_| {})), @"declared note gone: the profile gone is declared, and does not exist: AgentHome h generation 3 declares it, somebody has removed it here, and drift is kept => gatevisor profile create gone");
    let why = |kept: &mut KeptDeclaration| kept.profiles[0].problem = Some("no space".to_owned());
    assert_snapshot!(found(declared("coder", Running, Revert, why)), @"declared error coder: coder is not as the profiles file declares it (running): no space => -");
    let bad = |kept: &mut KeptDeclaration| kept.problem = Some("line 1: no".to_owned());
    assert_snapshot!(found(declared("coder", Running, Revert, bad)), @"declared error -: the profiles file does not count, and the last good one does: line 1: no => -");
}
