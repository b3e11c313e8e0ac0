//! `gatevisor applets`, and calls under an applet's name.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::both::{Fake, Ran, run};
use crate::support::executable;

fn gatevisor(arguments: &[&str], dir: Option<&Path>) -> (Ran, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
    command.args(arguments).args(dir);
    run(command)
}

fn names() -> Vec<String> {
    let (ran, _) = gatevisor(&["applets", "list"], None);
    assert_eq!(ran.code, Some(0));
    ran.stdout.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn every_name_in_the_list_gets_a_link_that_works() {
    let root = tempdir().unwrap();
    let fake = Fake::service(root.path().join("web"));
    for (relative, dir) in [(None, "absolute"), (Some("--relative"), "relative")] {
        let dir = root.path().join(dir);
        let arguments: Vec<&str> = ["applets", "install"].into_iter().chain(relative).collect();
        let (ran, said) = gatevisor(&arguments, Some(&dir));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{said}");
        assert!(said.starts_with("gatevisor: 13 of 13 links made in `"), "{said}");
        assert!(gatevisor(&arguments, Some(&dir)).1.starts_with("gatevisor: 0 of 13 links made"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), names().len());
        for name in names() {
            let target = fs::read_link(dir.join(&name)).unwrap();
            assert_eq!(target.is_relative(), relative.is_some(), "{name}");
            let same = fs::canonicalize(dir.join(&name)).unwrap();
            assert_eq!(same, fs::canonicalize(env!("CARGO_BIN_EXE_gatevisor")).unwrap());
        }
        let mut svok = Command::new(dir.join("s6-svok"));
        svok.arg(&fake.dir);
        assert_eq!(run(svok).0.code, Some(0));
        let mut svok = Command::new("sh");
        svok.args(["-c", "PATH=\"$0:$PATH\"; s6-svok \"$1\"; s6-svok /none; echo $?"])
            .arg(&dir)
            .arg(&fake.dir);
        assert_eq!(run(svok).0.stdout, "1\n");
    }
}

#[test]
fn a_link_is_an_interpreter() {
    let root = tempdir().unwrap();
    let command = root.path().join("command");
    assert_eq!(gatevisor(&["applets", "install"], Some(&command)).0.code, Some(0));
    let environment = root.path().join("environment");
    fs::create_dir(&environment).unwrap();
    fs::write(environment.join("PATH"), "/usr/bin:/bin\n").unwrap();
    fs::write(environment.join("WORD"), "hello\n").unwrap();
    let script = root.path().join("script");
    executable(&script, &format!("#!{}/with-contenv sh\necho \"$WORD $1 $CALLERS\"\n", command.display()));
    let mut run_it = Command::new(&script);
    run_it.arg("there").env("CALLERS", "x").env("GATEVISOR_CONTENV_DIR", &environment);
    assert_eq!(run(run_it).0.stdout, "hello there \n");
}

#[test]
fn what_is_in_the_way_is_replaced_only_with_force() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("s6-svc"), "precious").unwrap();
    let (ran, said) = gatevisor(&["applets", "install"], Some(root.path()));
    assert_eq!(ran.code, Some(1));
    assert!(said.contains("s6-svc` is there already and is not ours; --force replaces it"), "{said}");
    assert_eq!(gatevisor(&["applets", "install", "--force"], Some(root.path())).0.code, Some(0));
    assert!(root.path().join("s6-svc").is_symlink());
    assert_eq!(gatevisor(&["applets", "install"], Some(Path::new("/proc/none"))).0.code, Some(111));
}

#[test]
fn a_name_that_is_no_applet_is_a_usage_error() {
    let (ran, said) = gatevisor(&["s6", "s6-logger", "-b"], None);
    assert_eq!(ran.code, Some(100));
    assert!(said.contains("there is no applet `s6-logger`; `gatevisor applets list` lists them"), "{said}");
    assert_eq!(gatevisor(&["s6"], None).0.code, Some(100));
    assert_eq!(gatevisor(&["s6", "--help"], None).0.code, Some(0));
}
