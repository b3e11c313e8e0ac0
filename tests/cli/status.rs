//! What `status` prints: the table, the objects, and nothing that was not asked for.

use std::fs;
use std::process::{Command, Stdio};

use gatevisor_wire::status::Status;
use insta::assert_snapshot;
use rustix::process::Signal;
use serde_json::Value;

use crate::home::Home;
use crate::support::processes;

/// Returns a home with a ready gateway, one that is down, and the default one.
fn two() -> (Home, crate::home::Port) {
    let mut home = Home::new();
    let port = home.profile("coder");
    home.profile("writer");
    home.want_running("coder");
    home.up();
    (home, port)
}

#[test]
fn the_table_has_a_row_a_gateway_and_these_columns() {
    let (home, _port) = two();
    let pid = home.pid("coder").to_string();
    let table = home.says("status").ok();
    assert!(table.contains(&pid), "{table}");
    // Only values that differ between runs are replaced, each in its column.
    let words: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split("  ").filter(|w| !w.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(
        words[0],
        ["PROFILE", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "LAST EXIT", "DESIRED"]
    );
    assert_eq!(words[1], ["default", "down", "-", "-", "0", "-", "-", "-", "-"]);
    assert_eq!((words[2][0], words[2][1], words[2][2]), ("coder", "ready", &*pid));
    assert_eq!((words[2][4], words[2][7], words[2][8]), ("0", "-", "running"));
    assert!(words[2][3].ends_with('s') && words[2][6].ends_with(" MB"), "{table}");
    assert!(words[2][5].ends_with('%'), "{table}");
    assert_eq!(words[3], ["writer", "down", "-", "-", "0", "-", "-", "-", "-"]);
    assert_eq!(words[4], ["3 gateways: 2 down, 1 ready"]);
    assert!(!table.lines().any(|line| line.ends_with(' ')), "{table:?}");
}

#[test]
fn a_killed_gateway_shows_its_restart_and_how_it_ended() {
    let (home, port) = two();
    let old = home.pid("coder");
    processes::signal(old, Signal::KILL);
    let report = home.until_report("coder", "another process that is ready", |report| {
        report["state"] == "ready" && report["pid"] != old
    });
    assert_eq!(report["restarts"], 1, "{report}");
    assert_eq!(
        (&report["deaths"][0]["signal"], &report["deaths"][0]["exitcode"]),
        (&"SIGKILL".into(), &Value::Null)
    );
    assert!(port.healthy());
    let table = home.says("status coder").ok();
    assert!(!table.contains("writer"), "only the one that was asked for: {table}");
    assert!(table.contains("SIGKILL"), "{table}");
    let details = home.says("gateway status coder").ok();
    assert!(details.lines().any(|line| line.starts_with("deaths") && line.contains("SIGKILL")), "{details}");
}

#[test]
fn exit_codes_of_the_past_are_explained() {
    let mut home =
        Home::with_script("test -e \"$2/again\" || { touch \"$2/again\"; exit 75; }\nexec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up_quietly();
    let report = home.until_state("coder", "up");
    let report = if report["deaths"].as_array().unwrap().is_empty() {
        home.until_report("coder", "the restart", |report| {
            // Somebody asked for this restart, so it does not count as one of the gateway's own.
            report["commanded_restarts"] == 1 && report["restarts"] == 0 && report["state"] == "up"
        })
    } else {
        report
    };
    assert_eq!(report["deaths"][0]["exitcode"], 75, "{report}");
    assert_eq!(
        report["deaths"][0]["meaning"], "requested restart, started again without penalty",
        "{report}"
    );
}

#[test]
fn each_object_has_the_documented_fields_with_their_types() {
    let (home, _port) = two();
    let out = home.says("status --json").ok();
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        objects.iter().map(|object| object["profile"].as_str().unwrap()).collect::<Vec<_>>(),
        ["default", "coder", "writer"]
    );
    for object in &objects {
        let is = |field: &str, check: fn(&Value) -> bool| {
            let value = object.get(field).unwrap_or_else(|| panic!("no `{field}` in {object}"));
            assert!(check(value), "`{field}` is {value}");
        };
        for field in ["profile", "service", "state"] {
            is(field, Value::is_string);
        }
        for field in ["up", "ready", "wantedup", "normallyup"] {
            is(field, Value::is_boolean);
        }
        for field in ["pid", "exitcode"] {
            is(field, |value| value.as_i64().map_or(value.is_null(), |number| number >= 0));
        }
        is("signal", |value| value.as_str().map_or(value.is_null(), |name| name.starts_with("SIG")));
        for field in ["updownfor", "restarts"] {
            is(field, Value::is_u64);
        }
        is("desired_state", |value| value.is_string() || value.is_null());
        is("deaths", Value::is_array);
    }
    let coder = &objects[1];
    assert_eq!(coder["service"], "gateway-coder");
    assert!(coder["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{coder}");
    assert!(coder["processes"].as_u64().is_some_and(|count| count >= 1), "{coder}");
}

#[test]
fn what_both_tell_is_what_s6_svstat_tells_and_what_there_is_none_of_is_null() {
    let (home, _port) = two();
    home.says("gateway stop coder").ok();
    home.says("gateway start writer --ready").ok();
    let fields = ["up", "ready", "pid", "wantedup", "normallyup", "exitcode", "signal"];
    for profile in ["coder", "writer"] {
        let svstat = Command::new("s6-svstat")
            .arg("-o")
            .arg(fields.join(","))
            .arg(home.slot(profile).path())
            .output()
            .unwrap();
        assert!(svstat.status.success(), "{svstat:?}");
        let theirs = String::from_utf8(svstat.stdout).unwrap();
        let report = home.report(profile);
        let ours: Vec<String> = fields
            .iter()
            .map(|field| match (&report[field], *field) {
                (Value::Null, "signal") => "NA".to_owned(),
                (Value::Null, "pid" | "exitcode") => "-1".to_owned(),
                (Value::String(text), _) => text.clone(),
                (value, _) => value.to_string(),
            })
            .collect();
        assert_eq!(ours, theirs.split_whitespace().collect::<Vec<_>>(), "{profile}: {fields:?}");
    }
}

#[test]
fn a_pipe_gets_no_escape_codes_and_a_terminal_does_unless_no_color_is_set() {
    let (mut home, _port) = two();
    for line in ["status", "gateway status coder", "status --json"] {
        let out = home.says(line).ok();
        assert!(!out.contains('\x1b'), "{out:?}");
    }
    let coloured = on_terminal(&home, 200);
    assert!(coloured.contains("\x1b["), "{coloured:?}");
    home.set("NO_COLOR", "1");
    let plain = on_terminal(&home, 200);
    assert!(plain.contains("coder") && !plain.contains('\x1b'), "{plain:?}");
}

/// Returns what `status` prints on a terminal of this width.
fn on_terminal(home: &Home, columns: usize) -> String {
    let status = home.command(["status"]);
    let words = std::iter::once(status.get_program()).chain(status.get_args());
    let line = words.map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("script");
    let line = format!("stty rows 50 columns {columns}; {line}");
    command.arg("--quiet").arg("--return").arg("--command").arg(line).arg("/dev/null");
    for (name, value) in status.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.stdin(Stdio::null()).output().expect("script(1) is there");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn on_a_terminal_the_table_is_made_to_fit_and_in_a_pipe_it_is_whole() {
    let patient = "[gateway.restart]\nbackoff-first-ms = 600000\n\n[gateway.exit-meanings]";
    let command = "[\"/bin/sh\", \"${AGENT_SCRIPT}\", \"{profile}\", \"{profile-home}\"]";
    let missing = "[\"/a/program/whose/name/is/very/long/indeed/and/which/is/not/there/at/all\"]";
    let mut home =
        Home::with_script("exec sleep 1000", &[(command, missing), ("[gateway.exit-meanings]", patient)]);
    home.profile("coder");
    home.set("NO_COLOR", "1");
    home.up_quietly();
    assert_eq!(home.says("gateway start coder").code, Some(1));
    home.until_state("coder", "failed-to-start");
    let whole = home.says("status").ok();
    assert!(whole.contains("is the path right"), "{whole}");
    for columns in [40, 60, 90, 200] {
        let table = on_terminal(&home, columns);
        let widest = table.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(widest <= columns, "{columns}: {table}");
        let row = table.lines().find(|line| line.starts_with("coder")).unwrap();
        assert!(row.contains("failed to"), "{table}");
        // The reason is on a line of its own, as much of it as there is room for.
        let reason = table.lines().find(|line| line.starts_with("  executing: ")).unwrap();
        assert!(columns == 200 || reason.contains('…'), "{table}");
        assert!(columns < 90 || row.trim_end().ends_with("running"), "{table}");
        assert!(table.lines().nth(1).unwrap().starts_with("coder"), "what has failed comes first: {table}");
    }
    let row = whole.lines().find(|line| line.starts_with("coder")).unwrap();
    assert!(row.contains("is the path right"), "a pipe gets one whole row each: {whole}");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let (home, _port) = two();
    for line in
        ["status", "status --json", "gateway status coder", "profile list", "completions bash", "--help"]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = home.command(line.split(' '));
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{line}: {output:?}");
    }
}

#[test]
fn other_services_than_gateways_are_shown_behind_them() {
    let (home, _port) = two();
    let staged = home.scandir().join(".dashboard");
    fs::create_dir(&staged).unwrap();
    crate::support::executable(&staged.join("run"), "#!/bin/sh\nexec sleep 1000\n");
    fs::rename(staged, home.scandir().join("aaa-dashboard")).unwrap();
    let dashboard = gatevisor_client::ServiceDir::new(home.scandir().join("aaa-dashboard"));
    home.rescan();
    crate::support::waiting::polled("the other service", || {
        dashboard.status().ok().filter(Status::is_up).map(drop)
    });
    let table = home.says("status").ok();
    let last = table.lines().rev().nth(1).unwrap();
    assert!(last.starts_with("aaa-dashboard ") && last.contains(" up "), "{table}");
}

#[test]
fn profile_list_and_show_tell_what_there_is() {
    let (home, _port) = two();
    home.plant("Bad");
    let listed = home.says("profile list");
    assert_eq!((listed.code, &*listed.out), (Some(0), "coder\nwriter\n"));
    assert_snapshot!(listed.err.trim_end(), @"gatevisor: warning: Bad is no profile: profile name `Bad` has the upper-case letter `B`; write `b`");
    let shown = home.says("profile show coder").ok();
    assert!(shown.contains(&home.profile_dir("coder").display().to_string()), "{shown}");
    let object: Value = serde_json::from_str(&home.says("profile show coder --json").ok()).unwrap();
    assert_eq!(object["path"], home.profile_dir("coder").display().to_string());
    assert_eq!(object["state"], "ready");
}

#[test]
fn of_one_that_is_named_the_table_says_why_it_is_so_and_what_it_printed_last() {
    let mut home = Home::with_script("echo \"no key in $1\"; exit 78", &[]);
    home.profile("coder");
    home.up_quietly();
    assert_eq!(home.says("start coder").code, Some(1));
    home.until_state("coder", "failed");
    home.until_logged("coder", "no key in coder");
    let said = home.says("status coder").ok();
    let explained = home.says("explain coder").ok();
    let sentence = explained.lines().next().unwrap();
    assert!(sentence.starts_with("coder: ") && said.contains(sentence), "{said}\n{explained}");
    assert!(said.contains("printed  no key in coder"), "{said}");
    let of_two = home.says("status coder default").ok();
    assert!(!of_two.contains("printed"), "{of_two}");
}

#[test]
fn one_that_cannot_be_shown_keeps_none_of_the_others_from_being_shown() {
    let (home, _port) = two();
    let ran = home.says("status nobody coder");
    assert!(ran.out.contains("coder") && ran.err.contains("there is no profile `nobody`"), "{ran:?}");
    assert_eq!(ran.code, Some(1), "{ran:?}");
}
