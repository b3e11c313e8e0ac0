//! Profiles that a file outside of the home declares, while `gatevisor up` runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_gateways::declared::VARIABLE;
use serde_json::Value;

use crate::explain::{SLEEPER, explained};
use crate::home::Home;
use crate::support::{set_wait_limit, waiting};

/// A directory as kubelet mounts a `ConfigMap`: the file is a link through `..data`, and each
/// version is a directory of its own.
struct ConfigMap {
    directory: PathBuf,
    versions: u32,
}

impl ConfigMap {
    fn new(directory: PathBuf) -> Self {
        fs::create_dir(&directory).unwrap();
        symlink("..data/profiles.toml", directory.join("profiles.toml")).unwrap();
        Self { directory, versions: 0 }
    }

    fn file(&self) -> PathBuf {
        self.directory.join("profiles.toml")
    }

    /// Writes a version as kubelet does: beside the old one, then one rename of the link, and then
    /// the old one goes.
    fn write(&mut self, text: &str) {
        self.versions += 1;
        let name = |number: u32| format!("..2026_11_30_{number}");
        let version = self.directory.join(name(self.versions));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("profiles.toml"), text).unwrap();
        fs::set_permissions(version.join("profiles.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        symlink(name(self.versions), self.directory.join("..data_tmp")).unwrap();
        fs::rename(self.directory.join("..data_tmp"), self.directory.join("..data")).unwrap();
        let _ = fs::remove_dir_all(self.directory.join(name(self.versions - 1)));
    }
}

fn declares(generation: u32, profiles: &[(&str, &str)], drift: &str) -> String {
    let one =
        |(name, desired): &(&str, &str)| format!("[[profile]]\nname = \"{name}\"\ndesired = \"{desired}\"\n");
    let profiles: String = profiles.iter().map(one).collect();
    format!("set-by = \"AgentHome coders generation {generation}\"\ndrift = \"{drift}\"\n{profiles}")
}

fn home_of(config: &Path) -> Home {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.set(VARIABLE, config);
    home
}

fn until_declared(home: &Home, profile: &str, what: &str, expected: impl Fn(&Value) -> bool) -> Value {
    waiting::polled(what, || {
        home.slot(profile).path().exists().then(|| home.report(profile)).filter(|report| expected(report))
    })
}

#[test]
fn a_config_map_that_changes_makes_starts_and_stops_and_what_differs_here_is_shown_and_then_reverted() {
    let outside = tempfile::tempdir().unwrap();
    let mut config = ConfigMap::new(outside.path().join("config"));
    config.write(&declares(1, &[("coder", "running")], "report"));
    let mut home = home_of(&config.file());
    home.up_quietly();
    let report = home.until_state("coder", "up");
    assert_eq!(report["declared"]["set_by"], "AgentHome coders generation 1", "{report:#}");
    assert_eq!(report["declared"]["drifts"], false, "{report:#}");
    assert_eq!(home.report("default")["declared"], Value::Null);

    config.write(&declares(2, &[("coder", "running"), ("writer", "running")], "report"));
    until_declared(&home, "writer", "the new profile", |report| report["state"] == "up");
    config.write(&declares(3, &[("coder", "running"), ("writer", "stopped")], "report"));
    until_declared(&home, "writer", "its stop", |report| report["state"] == "down");

    home.says("gateway stop coder --reason lunch").ok();
    let report = home.report("coder");
    assert_eq!(report["declared"]["drifts"], true, "{report:#}");
    assert!(home.says("status").ok().contains("declared running by AgentHome coders generation 3"));
    let causes = explained(&home)["causes"].clone();
    let words: Vec<&Value> = causes.as_array().unwrap().iter().map(|cause| &cause["cause"]).collect();
    assert_eq!(words, ["stopped-on-purpose", "drift"], "{causes:#}");
    let found = home.run(["doctor", "--json"]).out;
    assert!(found.contains("\"check\":\"declared\""), "{found}");

    config.write(&declares(4, &[("coder", "running")], "revert"));
    let before = until_declared(&home, "coder", "the revert", |report| {
        report["state"] == "up" && report["declared"]["drifts"] == false
    });
    home.says("gateway stop coder");
    let report = until_declared(&home, "coder", "the second revert", |report| {
        report["state"] == "up" && report["desired_state"] == "running" && report["pid"] != before["pid"]
    });
    assert_eq!(report["desired_by"]["command"], "profiles file", "{report:#}");
    assert_eq!(home.report("writer")["declared"], Value::Null, "it is not named any more, and stays");
}

#[test]
fn a_bad_file_is_said_by_doctor_and_the_gateways_run_on() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("profiles.toml");
    fs::write(&file, declares(1, &[("coder", "running")], "revert")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut home = home_of(&file);
    home.up_quietly();
    home.until_state("coder", "up");
    let pid = home.pid("coder");
    fs::write(&file, "profile = 3").unwrap();
    let said = waiting::polled("that doctor says so", || {
        let said = home.run(["doctor"]).out;
        said.contains("the profiles file does not count").then_some(said)
    });
    assert!(said.contains("line 1: invalid type"), "{said}");
    assert_eq!(home.pid("coder"), pid);
}

#[test]
fn a_declared_profile_that_is_deleted_or_loses_its_slot_is_made_again_with_its_gateway() {
    set_wait_limit(Duration::from_mins(2));
    let outside = tempfile::tempdir().unwrap();
    let mut config = ConfigMap::new(outside.path().join("config"));
    config.write(&declares(1, &[("coder", "running")], "revert"));
    let mut home = home_of(&config.file());
    home.up_quietly();
    home.until_state("coder", "up");
    let runs = |home: &Home, before: i32| {
        until_declared(home, "coder", "another process", |report| {
            report["state"] == "up" && report["pid"] != before && report["desired_state"] == "running"
        })
    };
    // The profile is made again while its files are still removed.
    let profile = home.profile_dir("coder");
    (0..2000).for_each(|number| fs::write(profile.join(format!("{number}.txt")), "").unwrap());
    let before = home.pid("coder");
    home.says("profile delete coder --yes").ok();
    let report = runs(&home, before);
    assert_eq!(report["declared"]["problem"], Value::Null, "{report:#}");
    assert!(!profile.join("0.txt").exists());

    let before = home.pid("coder");
    home.says("gateway unregister coder").ok();
    runs(&home, before);
}
