//! `install`, `uninstall` and `service`: what they say without asking systemd. What they do with a
//! real one is in `scripts/deploy-test.sh`, part `install`.

use crate::home::Home;
use crate::support::is_root;

#[test]
fn a_dry_run_prints_the_unit_and_changes_nothing() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    let configuration = home.beside("config");
    home.set("XDG_CONFIG_HOME", configuration.clone());
    let before = home.listing();
    let (line, target) = if is_root() {
        ("install --dry-run", "WantedBy=multi-user.target")
    } else {
        ("install --user --dry-run", "WantedBy=default.target")
    };
    let unit = home.says(line).ok();
    assert_eq!(home.listing(), before);
    assert!(!configuration.exists());
    assert!(unit.starts_with("# Made by `gatevisor install`"), "{unit}");
    for line in ["Type=notify", "WatchdogSec=60", "KillMode=mixed", target] {
        assert!(unit.lines().any(|known| known == line), "{line}: {unit}");
    }
    let stop = unit.lines().find(|line| line.starts_with("ExecStop=-")).unwrap();
    assert!(stop.ends_with("down --drain=30s"), "{stop}");
    let start = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    let named = format!("--home \"{}\" --agent \"", home.path().display());
    assert!(start.contains(&named) && start.ends_with("up --quiet --grace 60"), "{start}");
}

#[test]
fn a_profile_has_no_unit_of_its_own_and_it_is_said_what_to_do_instead() {
    let home = Home::with_script("exec sleep 1000", &[]);
    home.plant("coder");
    for verb in ["install", "uninstall", "service status"] {
        let said = home.says(&format!("-p coder {verb}")).refused(100);
        assert!(said.contains("no profile has one of its own; `gatevisor start NAME`"), "{said}");
    }
}

#[test]
fn a_home_that_does_not_exist_gets_no_unit_and_is_not_made() {
    let home = Home::missing();
    let said = home.says("install --dry-run").refused(1);
    assert!(said.contains("there is no home"), "{said}");
    assert!(!home.path().exists());
}

#[test]
fn the_systems_units_are_roots_and_roots_are_the_systems() {
    let home = Home::with_script("exec sleep 1000", &[]);
    let (line, words) = if is_root() {
        ("install --user --dry-run", "root's own service manager is the system's")
    } else {
        ("install --system --dry-run", "only root changes the system's units")
    };
    let said = home.says(line).refused(100);
    assert!(said.contains(words), "{said}");
}

/// Asking changes nothing, so everybody may ask for the unit of the system. Where no systemd runs,
/// that is what is said.
#[test]
fn asking_for_the_systems_unit_needs_no_root() {
    let home = Home::with_script("exec sleep 1000", &[]);
    let said = home.says("service status --system");
    let booted = std::path::Path::new("/run/systemd/system").is_dir();
    if booted {
        assert!(!said.refused(1).contains("only root changes"));
    } else {
        assert!(said.refused(111).contains("systemd does not run this machine"));
    }
}
