//! Profiles that a file declares: what a boot makes of it, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{World, agent, interpreter, name};
use gatevisor_gateways::declared::{KeptDeclaration, VARIABLE};
use gatevisor_gateways::desired::{self, Desired, DesiredState, Provenance, Recorded};
use gatevisor_gateways::reconcile::{ReconcileSettings, reconcile};
use jiff::{Timestamp, Zoned};

const STATE: &str = "gateway_state.json";

/// A home without a supervisor, and a file that declares its profiles.
struct Declared {
    world: World,
    file: PathBuf,
}

impl Declared {
    fn new() -> Self {
        let more = "[container]\nwrapper = \"wrapper.sh\"\nno-gateways-command = \"dashboard\"\n";
        let world = World::new(agent(&["sleep", "1000"], more));
        let file = world.dir.path().join("profiles.toml");
        Self { world, file }
    }

    fn declare(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
        fs::set_permissions(&self.file, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn settings<'a>(
        &'a self,
        interpreter: &'a std::path::Path,
        variable: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> ReconcileSettings<'a> {
        ReconcileSettings {
            agent: self.world.manager.agent(),
            home: self.world.manager.home(),
            scandir: self.world.manager.scandir(),
            interpreter,
            container_argv: &[],
            earlier: None,
            elsewhere: false,
            variable,
            now: "2026-07-20T12:00:00+02:00[Europe/Berlin]".parse::<Zoned>().unwrap(),
        }
    }

    /// Boots, and returns the lines about what is declared.
    fn boot(&self) -> Vec<String> {
        let named = |name: &str| (name == VARIABLE).then(|| self.file.clone().into_os_string());
        reconcile(&self.settings(&interpreter(), &named), false).unwrap().declared
    }

    fn recorded(&self, profile: &str) -> Option<Recorded> {
        desired::read(&self.world.manager.home().profile_dir(&name(profile)), STATE).unwrap()
    }

    fn desired(&self, profile: &str) -> Option<String> {
        self.recorded(profile)?.desired_state
    }

    /// Records what somebody wants here.
    fn want(&self, profile: &str, desired: Desired) {
        let by = Provenance::here("a test");
        let state = DesiredState { desired, by, reason: None, at: Timestamp::now() };
        let directory = self.world.manager.home().profile_dir(&name(profile));
        drop(desired::record_now(&directory, STATE, state, true).unwrap());
    }

    fn plant(&self, profile: &str) {
        let path = self.world.manager.home().profile_dir(&name(profile));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("agent.conf"), "").unwrap();
    }

    fn kept(&self) -> Option<KeptDeclaration> {
        KeptDeclaration::read(self.world.manager.home().root())
    }

    fn exists(&self, profile: &str) -> bool {
        self.world.manager.home().profile_dir(&name(profile)).exists()
    }
}

fn one(name: &str, desired: &str, drift: &str) -> String {
    format!("[[profile]]\nname = \"{name}\"\ndesired = \"{desired}\"\ndrift = \"{drift}\"\n")
}

#[test]
fn what_was_recorded_and_could_not_be_carried_out_is_tried_again_once() {
    let home = Declared::new();
    home.declare(&one("coder", "running", "revert"));
    assert_eq!(home.boot().len(), 1);
    let path = home.world.manager.home().root().join(".gatevisor-profiles");
    let mut kept = home.kept().unwrap();
    kept.profiles[0].problem = Some("no space left".to_owned());
    fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
    let said = home.boot();
    assert!(said.len() == 1 && said[0].contains("the gateway of coder shall be running"), "{said:?}");
    assert_eq!(home.kept().unwrap().profiles[0].problem, None);
    assert_eq!(home.boot(), [""; 0]);
}

#[test]
fn nothing_is_carried_out_where_there_can_be_no_slots_so_that_the_next_boot_says_it() {
    let home = Declared::new();
    home.declare(&one("coder", "running", "revert"));
    let scandir = home.world.manager.scandir().to_owned();
    let _ = fs::remove_dir_all(&scandir);
    fs::write(&scandir, "").unwrap();
    let named = |name: &str| (name == VARIABLE).then(|| home.file.clone().into_os_string());
    assert!(reconcile(&home.settings(&interpreter(), &named), false).is_err());
    assert!(!home.exists("coder"));
    fs::remove_file(&scandir).unwrap();
    let said = home.boot();
    assert!(said.len() == 1 && said[0].contains("coder is made"), "{said:?}");
}

#[test]
fn a_boot_makes_what_is_declared_and_leaves_the_rest_alone() {
    let home = Declared::new();
    home.plant("other");
    home.want("other", Desired::Running);
    let profiles = [one("coder", "running", "revert"), one("writer", "stopped", "revert")].concat();
    home.declare(&format!("set-by = \"AgentHome coders generation 3\"\n{profiles}"));
    let said = home.boot();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("coder is made") && said[0].contains("AgentHome coders generation 3"),
        "{said:?}"
    );
    let desired = ["coder", "writer", "other"].map(|name| home.desired(name).unwrap());
    assert_eq!(desired, ["running", "stopped", "running"]);
    let origin = home.recorded("coder").unwrap().origin;
    assert_eq!(origin.desired_by.unwrap().command, "profiles file");
    assert_eq!(origin.desired_reason.as_deref(), Some("set by AgentHome coders generation 3"));
    let slot = |name: &str| home.world.manager.scandir().join(format!("gateway-{name}/down")).exists();
    assert_eq!(["coder", "writer", "other"].map(slot), [false, true, false], "who has a `down` file");
    let before = fs::read(home.world.manager.home().profile_dir(&name("coder")).join(STATE)).unwrap();
    assert_eq!(home.boot(), [""; 0], "everything is as declared");
    let after = fs::read(home.world.manager.home().profile_dir(&name("coder")).join(STATE)).unwrap();
    assert_eq!(before, after);
}

#[test]
fn what_somebody_wants_otherwise_here_is_reverted_or_kept_as_the_file_says() {
    let home = Declared::new();
    home.declare(&[one("kept", "running", "report"), one("strict", "running", "revert")].concat());
    home.boot();
    home.want("kept", Desired::Stopped);
    home.want("strict", Desired::Stopped);
    let said = home.boot().join("\n");
    assert!(said.contains("kept is not running here, which is kept"), "{said}");
    assert!(said.contains("strict shall be running"), "{said}");
    assert_eq!(["kept", "strict"].map(|name| home.desired(name).unwrap()), ["stopped", "running"]);
    let drifts = |home: &Declared| home.kept().unwrap().of(&name("kept")).unwrap().drifts;
    assert!(drifts(&home));
    // What is declared anew is carried out, whatever somebody wants here.
    home.declare(&one("kept", "stopped", "report"));
    home.boot();
    assert!(!drifts(&home));
    home.declare(&one("kept", "running", "report"));
    home.boot();
    assert_eq!(home.desired("kept").unwrap(), "running");
    assert_eq!(home.desired("strict").unwrap(), "running", "it is not named any more, so nothing changes");
}

#[test]
fn a_profile_that_was_deleted_here_is_made_again_unless_drift_is_kept() {
    let home = Declared::new();
    home.declare(&[one("kept", "running", "report"), one("strict", "running", "revert")].concat());
    home.boot();
    for name in ["kept", "strict"] {
        fs::remove_dir_all(home.world.manager.home().profiles_dir().join(name)).unwrap();
    }
    home.boot();
    assert_eq!(["kept", "strict"].map(|name| home.exists(name)), [false, true]);
}

#[test]
fn a_bad_file_changes_nothing_and_says_why_and_the_last_good_one_holds() {
    let home = Declared::new();
    let said = home.boot().join("\n");
    assert!(said.contains("does not exist"), "{said}");
    home.declare(&one("coder", "running", "revert"));
    assert!(home.boot().join("\n").contains("counts again"));
    home.want("coder", Desired::Stopped);
    home.declare("[[profile]]\nname = \"coder\"");
    let said = home.boot().join("\n");
    assert!(said.contains("missing field `desired`") && said.contains("the last good one does"), "{said}");
    assert_eq!(home.desired("coder").unwrap(), "running", "the last good one holds");
    assert!(home.kept().unwrap().problem.unwrap().contains("missing field"));
    fs::set_permissions(&home.file, fs::Permissions::from_mode(0o666)).unwrap();
    let said = home.boot().join("\n");
    assert!(said.contains("others than its owner may write it"), "{said}");
}

#[test]
fn a_profile_that_cannot_be_made_stops_no_other_and_its_variables_are_there_from_the_first_moment() {
    let home = Declared::new();
    let missing = "env-file = \"/nonexistent/a.env\"\n";
    home.declare(&[&one("bad", "running", "revert"), missing, &*one("good", "running", "revert")].concat());
    let said = home.boot().join("\n");
    assert!(said.contains("bad is not as declared") && said.contains("/nonexistent/a.env"), "{said}");
    assert_eq!(["bad", "good"].map(|name| home.exists(name)), [false, true]);
    assert!(home.kept().unwrap().of(&name("bad")).unwrap().problem.is_some());
}

#[test]
fn nothing_is_done_in_a_dry_run_elsewhere_or_without_gateways_and_no_variable_forgets_it() {
    let home = Declared::new();
    home.declare(&one("coder", "running", "revert"));
    let (interpreter, none) = (interpreter(), |_: &str| None);
    let named = |name: &str| (name == VARIABLE).then(|| home.file.clone().into_os_string());
    let settings = |elsewhere, argv| ReconcileSettings {
        elsewhere,
        container_argv: argv,
        ..home.settings(&interpreter, &named)
    };
    reconcile(&settings(false, &[]), true).unwrap();
    reconcile(&settings(true, &[]), false).unwrap();
    reconcile(&settings(false, &["dashboard".to_owned()]), false).unwrap();
    assert!(!home.exists("coder"));
    assert_eq!(home.kept(), None);
    home.boot();
    assert!(home.exists("coder") && home.kept().is_some());
    reconcile(&home.settings(&interpreter, &none), false).unwrap();
    assert_eq!(home.kept(), None);
    assert!(home.exists("coder"), "a profile stays");
}
