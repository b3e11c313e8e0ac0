//! Applets that become another program: `s6-setuidgid`, `with-contenv`, `execlineb`; and
//! `s6-sleep`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::{TempDir, tempdir};

use crate::both::{agree, our_code, our_command, ours, run, theirs, words};
use crate::support::{need_root, script};

fn in_container(environment: &[(&str, &[u8])]) -> TempDir {
    let dir = tempdir().unwrap();
    for (name, content) in environment {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// Runs a program through our with-contenv, with `extra` in the caller's environment.
fn with_contenv(dir: &Path, extra: &[(&str, &str)], program: &[&str]) -> (crate::both::Ran, String) {
    let mut command = our_command("with-contenv");
    command.args(program).env_clear().envs(extra.iter().copied()).env("GATEVISOR_CONTENV_DIR", dir);
    run(command)
}

#[test]
fn with_contenv_gives_exactly_the_containers_environment() {
    let dir = in_container(&[
        ("PATH", b"/usr/bin:/bin\n"),
        ("PLAIN", b"v\n"),
        ("NO_NEWLINE", b"v"),
        ("SET_BUT_EMPTY", b"\n"),
        ("UNSET", b""),
        ("LINES", b"\na\nb\n\n"),
        ("BLANKS", b" v \n"),
        ("NOT=A_NAME", b"v\n"),
        (".hidden", b"v\n"),
    ]);
    let (ran, said) = with_contenv(dir.path(), &[("CALLERS", "x"), ("S6_KEEP_ENV", "0")], &["env", "-0"]);
    let mut got: Vec<&str> = ran.stdout.split_terminator('\0').collect();
    got.sort_unstable();
    let expected =
        ["BLANKS= v ", "LINES=\na\nb\n", "NO_NEWLINE=v", "PATH=/usr/bin:/bin", "PLAIN=v", "SET_BUT_EMPTY="];
    assert_eq!(got, expected, "{said}");
    // s6's own reader of such directories agrees.
    let mut theirs = Command::new("/usr/bin/s6-envdir");
    theirs.arg("-f").arg(dir.path()).args(["/usr/bin/env", "-0"]).env_clear().stdin(Stdio::null());
    let theirs = run(theirs).0.stdout;
    let mut theirs: Vec<&str> = theirs.split_terminator('\0').collect();
    theirs.sort_unstable();
    assert_eq!(theirs, expected);
}

#[test]
fn with_contenv_keeps_the_callers_environment_where_it_says_so() {
    let dir = in_container(&[("PLAIN", b"v\n")]);
    let extra = [("PATH", "/usr/bin:/bin"), ("S6_KEEP_ENV", "1"), ("CALLERS", "x")];
    let (ran, _) = with_contenv(dir.path(), &extra, &["env"]);
    assert!(ran.stdout.contains("CALLERS=x\n") && !ran.stdout.contains("PLAIN"), "{}", ran.stdout);
}

#[test]
fn a_program_that_replaces_an_applet_is_the_one_that_its_supervisor_asked_how_it_is() {
    let dir = in_container(&[]);
    let asked = [
        ("PATH", "/usr/bin:/bin"),
        ("S6_KEEP_ENV", "1"),
        ("NOTIFY_SOCKET", "/run/x"),
        ("WATCHDOG_USEC", "1000"),
        ("LISTEN_FDS", "1"),
    ];
    let (ran, said) = with_contenv(dir.path(), &asked, &["env"]);
    for variable in ["NOTIFY_SOCKET=/run/x\n", "WATCHDOG_USEC=1000\n", "LISTEN_FDS=1\n"] {
        assert!(ran.stdout.contains(variable), "{variable}: {} {said}", ran.stdout);
    }
}

#[test]
fn with_contenv_says_what_it_cannot_do() {
    let dir = in_container(&[("PATH", b"/usr/bin:/bin\n")]);
    for (program, code) in
        [(&["no-such-program"][..], 127), (&["/etc/passwd"], 126), (&["false"], 1), (&[], 100)]
    {
        assert_eq!(with_contenv(dir.path(), &[], program).0.code, Some(code), "{program:?}");
    }
    let (ran, said) = with_contenv(&dir.path().join("none"), &[], &["true"]);
    assert_eq!(ran.code, Some(111));
    assert!(said.starts_with("with-contenv: fatal: cannot read the container's environment"), "{said}");
}

#[test]
fn a_program_finds_sigpipe_as_it_expects_it() {
    let dir = in_container(&[("PATH", b"/usr/bin:/bin\n")]);
    let (ran, said) = with_contenv(dir.path(), &[], &["sh", "-c", "grep SigIgn /proc/self/status"]);
    let ignored = ran.stdout.split_whitespace().last().unwrap_or_default();
    let ignored = u64::from_str_radix(ignored, 16).unwrap_or_else(|_| panic!("{} {said}", ran.stdout));
    assert_eq!(ignored & (1 << (rustix::process::Signal::PIPE.as_raw() - 1)), 0, "{}", ran.stdout);
}

#[test]
fn s6_setuidgid_becomes_the_user_with_its_groups() {
    need_root();
    for line in [
        "nobody id",
        "daemon id",
        "1234:5678 id",
        "nobody-has-this-name id",
        "1234 id",
        "nobody /nonexistent",
        "nobody /etc/passwd",
        "nobody false",
        "nobody",
        "-x nobody id",
    ] {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        agree("s6-setuidgid", &arguments);
    }
    let mut command = our_command("s6-setuidgid");
    command.args(["nobody", "env"]).env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("UID", "1"),
        ("GIDLIST", "2"),
    ]);
    assert_eq!(run(command).0.stdout, "PATH=/usr/bin:/bin\n");
}

#[test]
fn s6_setuidgid_takes_every_group_that_lists_the_user() {
    need_root();
    let group = fs::read_to_string("/etc/group").unwrap();
    let member = group.lines().find_map(|line| line.rsplit(':').next().filter(|members| !members.is_empty()));
    let name = member.and_then(|members| members.split(',').next()).unwrap_or("nobody").to_owned();
    agree("s6-setuidgid", &[name, "id".into()]);
}

#[test]
fn execlineb_becomes_the_one_command_as_execline_does() {
    let root = tempdir().unwrap();
    let path = root.path().join("script");
    for text in [
        "#!/command/execlineb -P\nprintf [%s] 600\n",
        "",
        "# only this\n",
        "printf [%s] \"b c\" d\\ e # comment\n",
        "printf [%s] a#b x\"y\"z \"\" \"{\" \\{ a{b c}d $1 $@\n",
        "printf [%s]\n  a\n\tb\r\n",
        "printf [%s] \"a\\tb\\n\\q\\\"\\\\ \"\n",
        "printf [%s] \"\\a\\b\\v\\f\\r\"",
        "printf [%s] \"line\\\nnext\"",
        "no-such-program",
        "/etc/passwd",
        "printf \"open",
        "printf { a",
        "printf }",
        "sh -c \"exit 7\"",
    ] {
        fs::write(&path, text).unwrap();
        agree("execlineb", &["-P".into(), path.to_str().unwrap().into(), "argument".into()]);
    }
    agree("execlineb", &words("-P", &root.path().join("none")));
    agree("execlineb", &["-Pc".into(), "printf [%s] a b".into()]);
    agree("execlineb", &["-P".into()]);
}

#[test]
fn execlineb_refuses_what_needs_execline() {
    let root = tempdir().unwrap();
    let path = root.path().join("script");
    for (options, text, why) in [
        ("-P", "foreground { true } true", "knows no blocks"),
        ("-P", "printf \"\\065\"", "no numeric escapes"),
        ("-P", "printf \\", "ends in a backslash"),
        ("-S0", "true", "only knows -P"),
        ("", "true", "only knows -P"),
    ] {
        fs::write(&path, text).unwrap();
        let (ran, said) = ours("execlineb", &words(options, &path));
        assert_eq!(ran.code, Some(100), "{text}");
        assert!(said.starts_with("execlineb: fatal: ") && said.contains(why), "{said}");
    }
}

#[test]
fn s6_sleep_waits_as_long_as_it_was_told() {
    let begin = Instant::now();
    assert_eq!(our_code("s6-sleep", &["-m", "120"]), 0);
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert_eq!(our_code("s6-sleep", &["0"]), 0);
    for wrong in [&["x"][..], &["-m"], &[], &["-1"], &["-s", "1"]] {
        assert_eq!(our_code("s6-sleep", wrong), 100, "{wrong:?}");
    }
}

#[test]
fn a_script_of_the_core_test_runs_under_a_genuine_s6_svscan() {
    let root = tempdir().unwrap();
    let (ran, said) = {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatevisor"));
        command.args(["applets", "install"]).arg(root.path().join("command"));
        run(command)
    };
    assert_eq!(ran.code, Some(0), "{said}");
    let command = root.path().join("command");
    script(&root.path().join("unused"), "true");
    let probe = root.path().join("probe");
    let text = format!("#!{0}/execlineb -P\n{0}/s6-sleep -m 1\n", command.display());
    crate::support::executable(&probe, &text);
    assert_eq!(Command::new(&probe).status().unwrap().code(), Some(0));
    assert_eq!(theirs("execlineb", &words("-P", &probe)).code, Some(0));
}
