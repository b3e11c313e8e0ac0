//! A home in which all is well, for tables of what is found when one thing is wrong with it.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use gatevisor_client::status_view::StateName;
use gatevisor_doctor::Caller;
use gatevisor_doctor::facts::*;
use gatevisor_gateways::agent::{AgentDefinition, DoctorDefinition, PortDefinition};
use gatevisor_gateways::inspect::ServiceReport;
use gatevisor_gateways::manager::Observed;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_slot::home_lock::Standing;
use gatevisor_wire::Pid;
use gatevisor_wire::fail_code::FailCode;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::wait::WaitStatus;

/// The shortest valid definition.
const SMALL: &str = r#"
name = "my-agent"
[profile]
marker = "agent.conf"
[gateway]
command-default = ["serve"]
command-named = ["serve", "{profile}"]
state-file = "state.json"
log-directory = "${MY_AGENT_HOME}/logs/{profile}"
boot-log = "logs/boot.log"
"#;

const NOW: i64 = 1_795_000_000;

pub fn moment(seconds_ago: i64) -> Tai64n {
    Tai64n::from_unix(NOW - seconds_ago, 0)
}

pub fn profile(name: &str) -> ProfileFact {
    let name: ProfileName = name.parse().unwrap();
    let home =
        if name.is_root() { PathBuf::from("/h") } else { PathBuf::from(format!("/h/profiles/{name}")) };
    let log =
        LogDirectory { path: format!("/h/logs/{name}").into(), is_open: Some(true), is_directory: true };
    ProfileFact {
        desired_state: Ok(None),
        state_file: home.join("state.json"),
        refused: None,
        environment: Vec::new(),
        environment_path: Some(home.join(".env")),
        log: Some(log),
        name,
        home,
    }
}

/// Returns what is seen of a service in this state.
pub fn service(name: &str, state: StateName, change: impl FnOnce(&mut Observed)) -> ServiceFact {
    let is_up = matches!(state, StateName::Up | StateName::Ready);
    let status = Status {
        changed: moment(100),
        ready_at: moment(100),
        pid: is_up.then(|| Pid::new(70).unwrap()),
        last: WaitStatus::from_raw(0),
        paused: false,
        finishing: false,
        want_up: is_up,
        ready: is_up,
    };
    let mut observed = Observed {
        service: name.to_owned(),
        profile: ProfileName::of_service(name.as_bytes()),
        state,
        status: Some(status),
        executed: is_up,
        policy: None,
        normally_up: Some(true),
        deaths: Vec::new(),
        start_error: None,
        not_ready: None,
        delay: None,
        problem: None,
        fail_codes: vec![FailCode::at_once(78)],
        restart_codes: vec![75],
    };
    change(&mut observed);
    let agent: AgentDefinition = SMALL.parse().unwrap();
    let report = ServiceReport::new(&agent, &observed, None, None, moment(0));
    ServiceFact {
        path: PathBuf::from("/s").join(name),
        observed,
        report,
        refusal: None,
        start_deadline_s: 120,
    }
}

/// Returns a home with one profile, whose gateway runs, in which all is well.
pub fn well() -> Facts {
    let port = |variable: &str, default, when: &[&str]| PortDefinition {
        variable: variable.to_owned(),
        default,
        step: 1,
        when: when.iter().map(|&word| word.to_owned()).collect(),
    };
    let mut coder = profile("coder");
    coder.desired_state = Ok(Some("running".to_owned()));
    Facts {
        caller: Caller { words: vec!["gatevisor".into()] },
        definition: DoctorDefinition {
            exclusive: vec!["TOKEN".to_owned(), "OTHER_TOKEN".to_owned()],
            ports: vec![port("PORT", Some(80), &["HTTP", "KEY"]), port("HOOK_PORT", None, &[])],
            pid_files: vec!["gateway.pid".to_owned()],
        },
        now: moment(0),
        stable_s: 30,
        start_window_ms: 1000,
        operator_is_root: false,
        uid: 7,
        supervision: Supervision {
            lost: None,
            scandir: "/s".into(),
            presence: Presence::Supervised,
            program: Some("gatevisor".to_owned()),
            pid: Some(1),
            stopped: None,
            unwatched: None,
            is_container: false,
            marker: None,
            victims: Victims::Gateways,
            first: Some("gatevisor".to_owned()),
            without_gateways: false,
            elsewhere: false,
            standing: Standing::Held,
            keeper: Some("/s/profile-watcher".into()),
        },
        home: HomeFact { path: "/h".into(), state: HomeState::Writable, owner: (7, 8) },
        profiles: vec![coder],
        misnamed: Vec::new(),
        declared: None,
        services: vec![service("gateway-coder", StateName::Ready, |_| {})],
        unread: Vec::new(),
        entries: Vec::new(),
        disks: vec![disk(1000, 500)],
        locks: Vec::new(),
        pid_files: Vec::new(),
        left: Vec::new(),
    }
}

/// Returns a disk of this many megabytes, of which `left` are free for root and for users.
pub fn disk(all: u64, left: u64) -> Disk {
    let (files, files_left) = (all * 1000, left * 1000);
    Disk { path: "/h".into(), bytes: all << 20, bytes_left: left << 20, files, files_left, is_full: false }
}
