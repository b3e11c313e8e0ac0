//! Names of profiles: which names are refused, with which message, and the longest name that is
//! accepted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use insta::assert_snapshot;

use crate::home::Home;

/// Bytes of the longest name.
const LONGEST: usize = 243;

/// Returns the message of `profile create` about a name.
#[track_caller]
fn refused(name: &[u8]) -> String {
    let home = Home::new();
    let before = home.listing();
    let arguments = ["profile", "create", "--"].map(OsStr::new).into_iter().chain([OsStr::from_bytes(name)]);
    let said = home.run(arguments).refused(100);
    assert_eq!(home.listing(), before, "something is left behind");
    said
}

/// Tries a name with each command that takes one. All must print the same message.
#[track_caller]
fn refused_by_all(name: &[u8]) {
    let home = Home::new();
    let before = home.listing();
    let name = OsStr::from_bytes(name);
    let words = |line: &str| {
        let words = line.split(' ').map(|word| if word == "NAME" { name } else { OsStr::new(word) });
        words.map(OsStr::to_owned).collect::<Vec<_>>()
    };
    let said = home.run(words("profile create -- NAME")).refused(100);
    for line in [
        "profile delete --yes -- NAME",
        "profile show -- NAME",
        "gateway start -- NAME",
        "gateway stop -- NAME",
        "gateway restart -- NAME",
        "gateway register -- NAME",
        "gateway unregister -- NAME",
        "gateway status -- NAME",
        "status -- NAME",
        "logs -- NAME",
        "wait --up -- NAME",
    ] {
        assert_eq!(home.run(words(line)).refused(100), said, "{line}");
    }
    assert_eq!(home.listing(), before, "something is left behind");
}

#[test]
fn every_command_that_takes_a_name_refuses_a_bad_one_in_the_same_words() {
    for name in [&b""[..], b"../../x", b"coder\n", b"caf\xe9", &[b'a'; LONGEST + 1]] {
        refused_by_all(name);
    }
}

#[test]
fn each_bad_name_is_refused_in_one_line_and_leaves_nothing_behind() {
    let long = [b'a'; 300];
    let names: [&[u8]; 15] = [
        b"",
        b"Coder",
        b"..",
        b".",
        b"a/b",
        b"/etc/passwd",
        b"../../x",
        b"-a",
        b"_a",
        b"coder\n",
        b"caf\xe9",
        b"a b",
        b".hidden",
        &long[..=LONGEST],
        &long,
    ];
    let said: Vec<String> = names.into_iter().map(refused).collect();
    assert_snapshot!(said.join("\n"), @r"
    gatevisor: error: a profile name cannot be empty; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `Coder` has the upper-case letter `C`; write `c`
    gatevisor: error: profile name `..` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `.` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `a/b` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `/etc/passwd` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `../../x` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `-a` begins with `-`; begin with a letter or a digit
    gatevisor: error: profile name `_a` begins with `_`; begin with a letter or a digit
    gatevisor: error: profile name `coder\n` ends with a newline; leave it out
    gatevisor: error: profile name `caf\xe9` is not UTF-8; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `a b` has the character ` `; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `.hidden` has the character `.`; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit
    gatevisor: error: profile name `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…` has 244 bytes, and 243 is the limit; choose a shorter one
    gatevisor: error: profile name `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…` has 300 bytes, and 243 is the limit; choose a shorter one
    ");
}

#[test]
fn a_bad_name_is_refused_before_the_verb_as_well() {
    let home = Home::new();
    let said = home.run(["-p", "../x", "gateway", "start"]).refused(100);
    assert_snapshot!(said, @"gatevisor: error: profile name `../x` is a path, not a name; use a-z, 0-9, `-` and `_`, and begin with a letter or a digit");
}

#[test]
fn the_longest_name_of_243_bytes_works_from_its_creation_to_its_deletion() {
    let name = "x".repeat(LONGEST);
    let mut home = Home::with_script("echo \"$1 writes\"\nexec sleep 1000", &[]);
    home.up_quietly();
    home.run(["profile", "create", &name, "--start"]).ok();
    home.until_logged(&name, &format!("{name} writes"));
    let report = home.report(&name);
    assert_eq!((&report["state"], &report["profile"]), (&"up".into(), &name.as_str().into()), "{report}");
    let table = home.says("status").ok();
    assert!(table.contains(&name), "{table}");
    let logged = home.run(["logs", &name]).ok();
    assert!(logged.contains(&format!("{name} writes")), "{logged}");
    home.running().until_says(&format!("{name} | {name} writes\n"));
    home.run(["gateway", "restart", &name]).ok();
    home.run(["wait", "--up", &name]).ok();

    home.down();
    home.up();
    assert_eq!(home.report(&name)["state"], "up");

    home.run(["profile", "delete", "--yes", &name]).ok();
    assert!(!home.profile_dir(&name).exists() && !home.slot(&name).path().exists());
}
