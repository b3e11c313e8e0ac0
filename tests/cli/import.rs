//! Homes made from the files of pm2 and supervisord.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::home::Home;

/// As pm2 7.0.4 wrote it with `pm2 save`, without what it measures.
const DUMP: &str = r#"[
 {"name": "My Bot", "args": ["--x", "a b", "c'd"], "max_memory_restart": 209715200, "autorestart": true,
  "pm_exec_path": "@DIR@/bot.sh", "pm_cwd": "@DIR@", "exec_interpreter": "bash", "exec_mode": "cluster_mode",
  "node_args": [], "status": "online", "merge_logs": true, "vizion": true,
  "env": {"TOKEN": "s3 cret'\"$x", "PATH": "/usr/bin:/bin", "PWD": "/nowhere", "PM2_HOME": "/x", "My Bot": "{}",
          "unique_id": "1", "SSH_TTY": "/dev/pts/0"}},
 {"name": "sleeper", "args": ["3600"], "exec_interpreter": "none", "cron_restart": "0 4 * * *", "autorestart": false,
  "pm_exec_path": "/usr/bin/sleep", "pm_cwd": "/", "exec_mode": "fork_mode", "status": "stopped", "env": {}}
]"#;

fn imported(home: &Home, name: &str, text: &str) -> String {
    let file = home.beside(name);
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn what_ran_under_pm2_runs_here_with_its_arguments_directory_and_variables() {
    let mut home = Home::missing();
    home.tell_agent(None);
    let here = home.beside("");
    let bot = here.join("bot.sh");
    fs::write(
        &bot,
        "pwd; echo \"$TOKEN\"; printf '<%s>' \"$@\"; echo; env | grep -c PM2_; exec sleep 3600\n",
    )
    .unwrap();
    let dump =
        imported(&home, "dump.pm2", &DUMP.replace("@DIR@", here.to_str().unwrap().trim_end_matches('/')));
    let planned = home.run(["import", &dump, "--dry-run"]).ok();
    assert!(!home.path().exists(), "{planned}");
    let said = home.run(["import", &dump]).ok();
    assert_eq!(said.replace("made the home", "would make the home"), planned);
    for words in [
        "my-bot (there `My Bot`): shall run, 2 variables: bash",
        "  without counterpart: exec_mode = cluster: ",
        "  without counterpart: max_memory_restart = 209715200: ",
        "sleeper: stays down: /usr/bin/sleep 3600",
        "  without counterpart: autorestart = false: ",
        "  without counterpart: cron_restart = 0 4 * * *: ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let secrets = fs::metadata(home.profile_dir("my-bot").join(".env")).unwrap();
    assert_eq!(secrets.permissions().mode() & 0o777, 0o600);
    home.up_quietly();
    home.until_report("my-bot", "up", |report| report["state"] == "up");
    let log = home.until_logged("my-bot", "<c'd>");
    assert!(log.contains("s3 cret'\"$x"), "{log}");
    assert!(log.contains("<--x><a b><c'd>"), "{log}");
    home.until_state("sleeper", "down");
    // The home itself has no program, so there is nothing that must fail.
    let restarted = home.says("restart --all").ok();
    assert!(!restarted.contains("default"), "{restarted}");
    home.says("profile create third").ok();
    let untold = home.says("start third");
    assert_eq!(untold.code, Some(1), "{untold:?}");
    assert!(untold.err.contains("write the command of this gateway into"), "{untold:?}");
}

#[test]
fn what_supervisord_ran_is_imported_with_expansions_and_comments_as_it_reads_them() {
    let mut home = Home::missing();
    home.tell_agent(None);
    home.set("WHERE", "/srv/agents");
    let text = "[supervisord]\nenvironment=SHARED=\"x;y\"\n\
                [program:web]\ncommand=/bin/sh -c \"echo %(program_name)s 100%%; exec sleep 3600\" ; a comment\n\
                directory=%(ENV_WHERE)s\nenvironment=KEY=\"a,b\",OTHER=1,\n    THIRD='c'\nautostart=false\nnumprocs=2\n\
                stopwaitsecs=20\nuser=nobody\n\
                [program:default]\ncommand=sleep 1\n\
                [program:nothing]\nautostart=true\n\
                [include]\nfiles = /etc/shadow\n[group:g]\nprograms=web\n";
    let file = imported(&home, "supervisord.conf", text);
    let said = home.run(["--json", "import", &file]).ok();
    let said: Value = serde_json::from_str(&said).unwrap();
    let web =
        said["gateways"].as_array().unwrap().iter().find(|gateway| gateway["profile"] == "web").unwrap();
    assert_eq!(web["command"][2], "echo web 100%; exec sleep 3600");
    assert_eq!(web["desired_state"], "stopped");
    assert_eq!(web["variables"], serde_json::json!(["SHARED", "KEY", "OTHER", "THIRD"]));
    let script = fs::read_to_string(home.profile_dir("web").join("start")).unwrap();
    assert!(script.contains("cd -- '/srv/agents' || exit 111\n"), "{script}");
    // The root profile has that name.
    assert!(home.profile_dir("default-2").is_dir());
    let lost = said["without_counterpart"].to_string();
    for words in [
        "[include]: the files that it names are not read",
        "[group:g]",
        "[program:nothing]: it has no `command`",
    ] {
        assert!(lost.contains(words), "{words}: {lost}");
    }
    let definition = fs::read_to_string(home.path().join("agent.toml")).unwrap();
    assert!(definition.contains("stop-timeout-ms = 20000"), "{definition}");
}

#[test]
fn a_file_that_is_none_of_these_is_refused_in_one_line_and_nothing_is_made() {
    let mut home = Home::missing();
    home.tell_agent(None);
    // Ten megabytes.
    let long = format!("[{}]", "{},".repeat(3_500_000));
    // Each line stands for nine of the line before.
    let bomb = (1..10).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [{}]\n", [format!("*a{}", n - 1).as_str(); 9].join(", "))
    });
    let deep = "[".repeat(100_000);
    let cases: [(&str, &str, &str); 11] = [
        ("ecosystem.config.js", "module.exports = {}", "it is JavaScript"),
        ("dump.pm2", "not json", "it is no JSON"),
        ("dump.pm2", "{\"jobs\": []}", "no list of applications"),
        ("dump.pm2", "[]", "names no program"),
        ("dump.pm2", "[1, null, {\"name\": \"x\"}]", "names no program"),
        ("dump.pm2", &deep, "it is no JSON"),
        ("dump.pm2", &long, "cannot import"),
        // pm2 reads YAML, too. We do not, so nothing is expanded.
        ("ecosystem.config.yaml", &bomb, "it is no JSON"),
        ("x.conf", &bomb, "cannot import"),
        ("x.conf", "[global]\nx=1\n", "no section [program:NAME]"),
        ("x.conf", "= no key\n[", "cannot import"),
    ];
    for (name, text, words) in cases {
        let file = imported(&home, name, text);
        let code = if text == long { 111 } else { 1 };
        let refusal = home.run(["import", &file]).refused(code);
        assert!(refusal.contains(words), "{words}: {refusal}");
        assert_eq!(refusal.trim_end().lines().count(), 1, "{refusal}");
        assert!(!home.path().exists());
    }
    let missing = home.run(["import", "/no/such/file"]).refused(1);
    assert!(missing.contains("there is no such file"), "{missing}");
}

#[test]
fn a_file_that_another_one_includes_is_named_and_nothing_of_it_is_read_or_shown() {
    let mut home = Home::missing();
    home.tell_agent(None);
    let secret = imported(&home, "secret.ini", "[program:stolen]\ncommand=echo root:$6$secret\n");
    for included in [secret.as_str(), "/etc/shadow", "/etc/sha*", "%(here)s/secret.ini"] {
        let text = format!("[program:web]\ncommand=sleep 1\n[include]\nfiles = {included}\n");
        let file = imported(&home, "x.conf", &text);
        let said = home.run(["import", &file, "--dry-run"]).ok();
        assert!(said.contains("not imported: [include]: the files that it names are not read"), "{said}");
        assert!(said.contains("with 1 profile\n"), "{said}");
        assert!(!said.contains("stolen") && !said.contains("root:"), "{said}");
    }
}

#[test]
fn a_home_that_has_something_in_it_is_left_as_it_is() {
    let mut home = Home::missing();
    home.tell_agent(None);
    fs::create_dir(home.path()).unwrap();
    fs::write(home.path().join("mine"), "x").unwrap();
    let file = imported(&home, "x.conf", "[program:web]\ncommand=sleep 1\n");
    let before = home.listing();
    for options in [&["import", &*file][..], &["import", &file, "--dry-run"]] {
        let refusal = home.run(options).refused(1);
        assert!(refusal.contains("is not empty, and is left as it is"), "{refusal}");
    }
    assert_eq!(home.listing(), before);
}
