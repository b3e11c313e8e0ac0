//! A profile's own variables: `profile create --env`, `--env-file` and `--port`, and `profile env`.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::Value;

use crate::home::Home;

fn env(home: &Home, profile: &str) -> String {
    fs::read_to_string(home.profile_dir(profile).join(".env")).unwrap()
}

#[test]
fn a_new_profile_has_its_variables_from_the_first_moment_on() {
    let mut home = Home::with_script("cat \"$2/.env\"; exec sleep 1000", &[]);
    home.up_quietly();
    fs::write(home.beside("keys"), "KEY='a b'\n# a comment\nLEVEL=info\n").unwrap();
    let file = home.beside("keys").display().to_string();
    let words = ["profile", "create", "coder", "--start", "--env-file", &file, "--env", "LEVEL=debug"];
    let ran = home.run(words);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!format!("{}{}", ran.out, ran.err).contains("a b"), "a value is printed: {ran:?}");
    let log = home.until_logged("coder", "LEVEL=debug\n");
    assert!(log.contains("KEY='a b'\n") && !log.contains("LEVEL=info"), "{log}");
    let found = fs::metadata(home.profile_dir("coder").join(".env")).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
    for (words, why) in [
        ("profile create writer --env 1A=b", "a name has"),
        ("profile create writer --env A", "there is no `=`"),
        ("profile create writer --env A=- --env B=-", "only one of them can be `-`"),
        ("profile create writer --env-file - --env B=-", "only one of them can be `-`"),
        ("profile env coder set A=- B=-", "only one of them can be `-`"),
        ("profile create writer --port 0", "--port takes a number"),
    ] {
        assert!(home.says(words).refused(100).contains(why), "{words}");
    }
    assert!(
        home.says("profile create writer --env-file /nonexistent")
            .refused(111)
            .contains("there is no such file")
    );
    assert!(!home.profile_dir("writer").exists(), "nothing is made where its variables make no sense");
}

#[test]
fn each_new_profile_can_have_a_port_that_no_other_has() {
    let home = Home::new();
    let creating: Vec<_> = (0..6)
        .map(|number| home.start(["profile", "create", &format!("p{number}"), "--port", "auto"]))
        .collect();
    for one in creating {
        let ran = one.ended(crate::support::WAIT_LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    let port = |number| home.says(&format!("profile env p{number} get PORT")).ok();
    let ports: std::collections::BTreeSet<String> = (0..6).map(port).collect();
    assert_eq!(ports.len(), 6, "{ports:?}");
    home.says("profile create fixed --port 9123").ok();
    assert!(env(&home, "fixed").contains("PORT=9123\n"));
}

#[test]
fn variables_are_set_and_removed_and_values_are_printed_only_if_somebody_asks() {
    let home = Home::new();
    home.says("profile create coder --env TOKEN=secret").ok();
    let seed = env(&home, "coder");
    assert!(seed.starts_with("# PORT=8700 is the default") && seed.ends_with("TOKEN=secret\n"), "{seed}");
    assert_eq!(home.says("profile env coder list").ok(), "TOKEN\n");
    let said = home.run(["profile", "env", "coder", "set", "LEVEL=it's", "TOKEN=other"]).ok();
    assert_eq!(said, "coder: 2 variables changed\n");
    assert_eq!(home.says("profile env coder list --values").ok(), "LEVEL=it's\nTOKEN=other\n");
    assert_eq!(home.says("profile env coder get TOKEN").ok(), "other\n");
    let object: Value = serde_json::from_str(&home.says("--json profile env coder get LEVEL").ok()).unwrap();
    assert_eq!(object["value"], "it's");
    home.says("profile env coder unset LEVEL NEVER").ok();
    assert_eq!(env(&home, "coder"), seed.replace("secret", "other"));
    assert!(home.says("profile env coder get LEVEL").refused(1).contains("has no variable `LEVEL`"));
    assert!(home.says("profile env nobody list").refused(1).contains("there is no profile `nobody`"));
    assert_eq!(home.says("profile env coder set A=1 2B=3").code, Some(100));
    assert_eq!(home.says("profile env coder list").ok(), "TOKEN\n", "all changes are made, or none");
    let found = fs::metadata(home.profile_dir("coder").join(".env")).unwrap();
    assert_eq!(found.mode() & 0o777, 0o600);
}

#[test]
fn a_link_in_the_place_of_the_file_is_not_followed_and_not_replaced() {
    let home = Home::new();
    home.plant("coder");
    fs::write(home.beside("precious"), "A=1\n").unwrap();
    symlink(home.beside("precious"), home.profile_dir("coder").join(".env")).unwrap();
    let said = home.says("profile env coder set A=2").refused(1);
    assert!(said.contains("is not a regular file"), "{said}");
    assert_eq!(fs::read_to_string(home.beside("precious")).unwrap(), "A=1\n");
}
