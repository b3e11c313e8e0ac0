//! Reconciliation on disk: what a boot finds, and what it leaves for the supervisor.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{World, agent, entries, interpreter};
use gatevisor_gateways::manager::{WaitFor, WaitOutcome, WaitUntil};
use gatevisor_gateways::reconcile::{
    ProfileAction, ReconcileError, ReconcileReport, ReconcileSettings, reconcile,
};
use gatevisor_gateways::{AgentDefinition, ServiceManager};
use insta::assert_snapshot;
use jiff::Zoned;

fn test_agent() -> AgentDefinition {
    agent(
        &["sleep", "1000"],
        "multiplex-variable = \"MULTIPLEX\"\n[container]\nwrapper = \"wrapper.sh\"\nno-gateways-command = \"dashboard\"\n\
         former-gateway-command = [\"gateway\", \"run\"]\ndecline-flag = \"--no\"\ndecline-variable = \"DECLINE\"\n\
         migrated-from = \"old\"\n",
    )
}

struct Boot<'a> {
    world: &'a World,
    argv: Vec<String>,
    set: Vec<(&'static str, &'static str)>,
}

impl<'a> Boot<'a> {
    fn of(world: &'a World) -> Self {
        Self { world, argv: Vec::new(), set: Vec::new() }
    }

    fn run(&self, dry_run: bool) -> Result<ReconcileReport, ReconcileError> {
        let variable =
            |name: &str| self.set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        let settings = ReconcileSettings {
            agent: self.world.manager.agent(),
            home: self.world.manager.home(),
            scandir: self.world.manager.scandir(),
            interpreter: &interpreter(),
            container_argv: &self.argv,
            earlier: None,
            elsewhere: false,
            variable: &variable,
            now: "2026-07-20T12:00:00+02:00[Europe/Berlin]".parse::<Zoned>().unwrap(),
        };
        reconcile(&settings, dry_run)
    }

    fn lines(&self) -> String {
        self.run(false).unwrap().lines().join("\n")
    }
}

fn profile(world: &World, name: &str, state: &[u8]) {
    let path = world.manager.home().profiles_dir().join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("agent.conf"), "").unwrap();
    if !state.is_empty() {
        fs::write(path.join("gateway_state.json"), state).unwrap();
    }
}

fn down(world: &World, name: &str) -> bool {
    world.manager.scandir().join(format!("gateway-{name}/down")).exists()
}

#[test]
fn an_empty_home_gets_the_root_profiles_slot_and_a_boot_log() {
    let world = World::new(test_agent());
    assert_snapshot!(Boot::of(&world).lines(), @"reconcile: profile=default prior_state=None action=registered");
    assert!(down(&world, "default"));
    let slot = world.manager.scandir().join("gateway-default");
    assert_snapshot!(entries(&slot).join(" "), @"data down event finish log run timeout-kill type");
    assert_eq!(fs::metadata(slot.join("run")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(slot.join("event")).unwrap().permissions().mode() & 0o7777, 0o3730);
    assert_eq!(fs::read_to_string(slot.join("type")).unwrap(), "longrun\n");
    let log = world.manager.home().root().join("logs/boot.log");
    assert_snapshot!(fs::read_to_string(log).unwrap(), @"2026-07-20T12:00:00+0200 profile=default prior_state=None action=registered");
}

#[test]
fn one_boot_brings_back_what_was_running_and_skips_what_is_broken() {
    let world = World::new(test_agent());
    profile(&world, "alpha", b"[]");
    profile(&world, "beta", br#"{"desired_state":"running","gateway_state":"startup_failed"}"#);
    profile(&world, "binary", b"\xff\xfe");
    profile(&world, "delta", br#"{"desired_state":"stopped","gateway_state":"running"}"#);
    profile(&world, "gamma", br#"{"gateway_state":"draining"}"#);
    profile(&world, "garbled", b"{");
    profile(&world, "huge", &vec![b' '; 10 << 20]);
    profile(&world, "new", b"");
    profile(&world, "Bad Name", b"");
    profile(&world, "default", b"");
    fs::create_dir_all(world.manager.home().profiles_dir().join("folder/gateway_state.json")).unwrap();
    fs::write(world.manager.home().profiles_dir().join("folder/agent.conf"), "").unwrap();
    fs::create_dir_all(world.manager.home().profiles_dir().join("no-marker")).unwrap();
    fs::write(world.manager.home().root().join("gateway_state.json"), "[]").unwrap();
    let dry = Boot::of(&world).run(true).unwrap();
    assert!(world.entries().is_empty() && !world.manager.home().root().join("logs").exists());
    let report = Boot::of(&world).run(false).unwrap();
    assert_eq!(dry.actions, report.actions);
    assert_snapshot!(report.lines().join("\n"), @r#"
        reconcile: profile=default prior_state=None action=registered reason=gateway_state.json holds a list where an object is expected
        reconcile: profile=Bad Name prior_state=None action=skipped reason=profile name `Bad Name` has the upper-case letter `B`; write `b`
        reconcile: profile=alpha prior_state=None action=skipped reason=gateway_state.json holds a list where an object is expected
        reconcile: profile=beta prior_state=running action=started
        reconcile: profile=binary prior_state=None action=skipped reason=gateway_state.json is not UTF-8
        reconcile: profile=profiles/default/ prior_state=None action=skipped reason=the name `default` means the home itself; rename the directory
        reconcile: profile=delta prior_state=stopped action=registered
        reconcile: profile=folder prior_state=None action=skipped reason=gateway_state.json: it is a directory, not a file
        reconcile: profile=gamma prior_state=running action=started
        reconcile: profile=garbled prior_state=None action=registered reason=gateway_state.json is not JSON: EOF while parsing an object at line 1 column 1
        reconcile: profile=huge prior_state=None action=skipped reason=gateway_state.json: it is longer than 1048576 bytes
        reconcile: profile=new prior_state=None action=registered
        "#);
    assert_snapshot!(world.entries().join(" "), @"gateway-beta gateway-default gateway-delta gateway-gamma gateway-garbled gateway-new");
    let started: Vec<bool> = ["beta", "gamma", "delta", "new", "garbled"].map(|n| !down(&world, n)).into();
    assert_eq!(started, [true, true, false, false, false]);
}

#[test]
fn stale_files_go_but_one_that_names_a_live_process_stays() {
    let world = World::new(test_agent());
    profile(&world, "coder", b"");
    profile(&world, "writer", b"");
    let stale = |name: &str| world.manager.home().profiles_dir().join(name).join("gateway.pid");
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let started: u64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let me = std::process::id();
    fs::write(stale("coder"), format!("{{\"pid\":{me},\"start_time\":{}}}", started + 1)).unwrap();
    fs::write(stale("writer"), format!("{{\"pid\":{me},\"start_time\":{started}}}")).unwrap();
    fs::write(world.manager.home().root().join("gateway.pid"), "12").unwrap();
    let lock = world.manager.home().root().join("gateway.lock");
    fs::write(&lock, "12").unwrap();
    assert_snapshot!(Boot::of(&world).lines(), @r#"
        reconcile: profile=default prior_state=None action=registered
        reconcile: profile=coder prior_state=None action=registered
        reconcile: profile=writer prior_state=None action=registered
        reconcile: warning: profile writer: `gateway.pid` names a process that is alive, so it stays
        "#);
    assert!(!stale("coder").exists() && stale("writer").exists() && lock.exists());
    assert!(!world.manager.home().root().join("gateway.pid").exists());
}

#[test]
fn a_gateway_that_runs_already_shall_run_after_each_start_unless_somebody_said_otherwise() {
    let world = World::new(test_agent());
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let started: u64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let pid_file = format!("{{\"pid\":{},\"start_time\":{started}}}", std::process::id());
    for (name, state, runs) in [
        ("alive", &br#"{"gateway_state":"running","pid":7}"#[..], true),
        ("dead", br#"{"gateway_state":"running"}"#, false),
        ("ending", br#"{"gateway_state":"stopped"}"#, true),
        ("drained", br#"{"gateway_state":"draining"}"#, true),
        ("unwanted", br#"{"gateway_state":"running","desired_state":"stopped"}"#, true),
    ] {
        profile(&world, name, state);
        if runs {
            fs::write(world.manager.home().profiles_dir().join(name).join("gateway.pid"), &pid_file).unwrap();
        }
    }
    Boot::of(&world).run(false).unwrap();
    let recorded = |name: &str| {
        let home = world.manager.home().profiles_dir().join(name);
        gatevisor_gateways::desired::read(&home, "gateway_state.json").unwrap().unwrap()
    };
    let alive = recorded("alive");
    assert_eq!(alive.desired_state.as_deref(), Some("running"));
    let origin = &alive.origin;
    assert_eq!(origin.desired_by.as_ref().unwrap().command, "up");
    assert_eq!(origin.desired_reason.as_deref(), Some("it ran already, as `gateway.pid` says"));
    let home = world.manager.home().profiles_dir().join("alive/gateway_state.json");
    assert!(fs::read_to_string(home).unwrap().contains("\"pid\":7"), "what the agent keeps there is kept");
    let others = ["dead", "ending", "drained", "unwanted"].map(|name| recorded(name).desired_state);
    assert_eq!(others, [None, None, None, Some("stopped".to_owned())]);
}

#[test]
fn what_a_killed_process_or_a_vanished_profile_left_is_swept() {
    let world = World::new(test_agent());
    profile(&world, "coder", b"");
    let scandir = world.manager.scandir().to_owned();
    for stale in
        [".gateway-coder.tmp", ".new-1", ".gone-2", "gateway-vanished", "dashboard", ".s6-svscan", ".mine"]
    {
        fs::create_dir_all(scandir.join(stale).join("log")).unwrap();
    }
    fs::create_dir_all(scandir.join("gateway-coder")).unwrap();
    fs::write(scandir.join("gateway-coder/old"), "").unwrap();
    fs::create_dir_all(world.manager.home().profiles_dir().join(".gone-3")).unwrap();
    let dry = Boot::of(&world).run(true).unwrap();
    let report = Boot::of(&world).run(false).unwrap();
    assert_eq!(dry.swept, report.swept);
    assert_eq!(report.swept, [".gateway-coder.tmp", ".gone-2", ".new-1", "gateway-vanished"]);
    assert_eq!(world.entries(), [".mine", "dashboard", "gateway-coder", "gateway-default"]);
    assert!(!scandir.join("gateway-coder/old").exists(), "an old slot must be replaced whole");
    assert_eq!(entries(&world.manager.home().profiles_dir()), ["coder"]);
}

#[test]
fn a_dashboard_container_gets_no_slot_and_no_boot_log() {
    let world = World::new(test_agent());
    let mut boot = Boot::of(&world);
    boot.argv = ["/init", "/x/wrapper.sh", "dashboard"].map(str::to_owned).into();
    assert_snapshot!(boot.lines(), @"reconcile: skipping: this is a dashboard container, which needs no profile gateways");
    assert!(world.entries().is_empty() && !world.manager.home().root().join("logs").exists());
}

#[test]
fn an_old_style_container_command_starts_the_root_profile_once_and_for_all() {
    let world = World::new(test_agent());
    let mut boot = Boot::of(&world);
    boot.argv = ["gateway", "run"].map(str::to_owned).into();
    let dry = boot.run(true).unwrap();
    assert!(!world.manager.home().root().join("gateway_state.json").exists());
    let report = boot.run(false).unwrap();
    assert_eq!(dry.actions, report.actions);
    assert_eq!(report.actions[0].action, ProfileAction::Started);
    assert!(!down(&world, "default"));
    let state = world.state(&common::name("default"));
    assert_eq!((&state["gateway_state"], &state["migrated_from"]), (&"running".into(), &"old".into()));
    assert_eq!(state["timestamp"], 1_784_541_600);
    boot.set = vec![("DECLINE", "Yes")];
    fs::remove_file(world.manager.home().root().join("gateway_state.json")).unwrap();
    assert_eq!(boot.run(false).unwrap().actions[0].action, ProfileAction::Registered);
}

#[test]
fn where_one_gateway_serves_all_profiles_the_slots_of_named_ones_stay_down() {
    let world = World::new(test_agent());
    profile(&world, "coder", br#"{"desired_state":"running"}"#);
    let mut boot = Boot::of(&world);
    boot.set = vec![("MULTIPLEX", "on")];
    assert_eq!(boot.run(false).unwrap().actions[1].action, ProfileAction::Registered);
    boot.set = vec![("MULTIPLEX", "0")];
    assert_eq!(boot.run(false).unwrap().actions[1].action, ProfileAction::Started);
}

#[test]
fn a_boot_log_that_has_grown_too_long_is_set_aside() {
    let world = World::new(test_agent());
    let logs = world.manager.home().root().join("logs");
    fs::create_dir_all(&logs).unwrap();
    fs::write(logs.join("boot.log"), vec![b'x'; 262_143]).unwrap();
    drop(Boot::of(&world).lines());
    assert_eq!(entries(&logs), ["boot.log"]);
    fs::write(logs.join("boot.log.1"), "older").unwrap();
    drop(Boot::of(&world).lines());
    assert_eq!(entries(&logs), ["boot.log", "boot.log.1"]);
    assert_eq!(fs::read_to_string(logs.join("boot.log")).unwrap().lines().count(), 1);
    assert!(fs::metadata(logs.join("boot.log.1")).unwrap().len() > 262_143);
}

#[test]
fn problems_beside_the_profiles_are_reported_and_stop_nothing() {
    let world = World::new(test_agent());
    fs::remove_dir(world.manager.home().profiles_dir()).unwrap();
    fs::write(world.manager.home().profiles_dir(), "a file").unwrap();
    fs::write(world.manager.home().root().join("logs"), "a file").unwrap();
    let lines = Boot::of(&world).lines();
    assert_snapshot!(lines.replace(&world.dir.path().display().to_string(), "DIR"), @r#"
        reconcile: profile=default prior_state=None action=registered
        reconcile: warning: cannot read the profiles in `DIR/home/profiles`: Not a directory
        reconcile: warning: cannot write the boot log `logs/boot.log`: File exists
        "#);
    assert!(down(&world, "default"));
}

#[test]
fn a_slot_that_cannot_be_made_is_a_skipped_profile() {
    let world = World::new(test_agent());
    let variable = |_: &str| None;
    let settings = ReconcileSettings {
        agent: world.manager.agent(),
        home: world.manager.home(),
        scandir: world.manager.scandir(),
        interpreter: Path::new("relative/gatevisor"),
        container_argv: &[],
        earlier: None,
        elsewhere: false,
        variable: &variable,
        now: Zoned::now(),
    };
    let report = reconcile(&settings, false).unwrap();
    assert_snapshot!(report.lines().join("\n"), @"reconcile: profile=default prior_state=None action=skipped reason=`run` of the slot cannot be written: the path of gatevisor, `relative/gatevisor`, is not absolute");
    assert!(world.entries().is_empty());
}

#[test]
fn while_a_supervisor_runs_only_a_dry_run_is_allowed() {
    let world = World::supervised(test_agent());
    let error = Boot::of(&world).run(false).unwrap_err();
    assert!(matches!(error, ReconcileError::Supervised { .. }));
    assert_eq!(Boot::of(&world).run(true).unwrap().actions.len(), 1);
    assert!(world.entries().is_empty());
}

#[test]
fn a_supervisor_takes_over_the_slots_that_a_boot_has_made() {
    let mut world = World::new(agent(&["sleep", "1000"], ""));
    profile(&world, "coder", br#"{"desired_state":"running"}"#);
    profile(&world, "writer", br#"{"desired_state":"stopped"}"#);
    drop(Boot::of(&world).lines());
    world.supervise();
    let coder = common::name("coder");
    // The supervisor listens before it has looked at every slot.
    let slot = world.manager.slot(&coder);
    gatevisor_client::Waiter::subscribe(&slot).unwrap().supervised(None).unwrap();
    let up = world.manager.wait(&coder, WaitUntil::Up, Some(common::WAIT_LIMIT)).unwrap();
    assert_eq!(up, WaitOutcome::Reached);
    assert!(down(&world, "writer"));
    drop(world.manager.stop(&coder, &common::request(WaitFor::Up)).unwrap());
    world.stop_supervisor();
    assert!(!Boot::of(&world).lines().contains("started"), "a stopped gateway must stay down");
}

#[test]
fn a_version_that_nobody_has_ever_known_is_not_said_to_be_known_last() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("agent");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let topology = format!(
        "[topology.version]\nprogram = \"{}\"\npackages = [\"package.json\"]\n\
         [[topology.rules]]\nversions = \">=9.0\"\nthen = \"server\"\n",
        program.display()
    );
    let world = World::new(agent(&["sleep", "1000"], &topology));
    let warnings = || Boot::of(&world).run(false).unwrap().warnings.join("\n");
    let unknown = warnings();
    assert!(unknown.contains("is unknown, and none was known before"), "{unknown}");
    let package = dir.path().join("package.json");
    fs::write(&package, "{\"version\": \"1.2.3\"}").unwrap();
    assert_eq!(warnings(), "");
    fs::remove_file(&package).unwrap();
    fs::write(&program, "another").unwrap();
    let recalled = warnings();
    assert!(recalled.contains("is unknown, so the one that was known last counts"), "{recalled}");
}
