//! Desired states: they are durable, record who set them, and are never set by a shutdown.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::doctor::{NOBODY, chmod};
use crate::home::{Home, Port, Ran};
use crate::support::service::give;
use crate::support::{WAIT_LIMIT, is_root};

const SLEEPER: &str = "exec sleep 1000";

#[test]
fn keys_of_others_are_kept_with_their_order_and_spelling() {
    let home = Home::new();
    home.plant_state(
        "coder",
        r#"{"zeta": [1, {"b": 1.50, "a": 12345678901234567890123}], "desired_state": "stopped", "gateway_state": "running", "alpha": null}"#,
    );
    home.want_running("coder");
    let text = fs::read_to_string(home.state_file("coder")).unwrap();
    let begins = r#"{"zeta":[1,{"b":1.50,"a":12345678901234567890123}],"desired_state":"running","gateway_state":"running","alpha":null,"#;
    assert!(text.starts_with(begins), "{text}");
    assert!(text.ends_with("}\n"), "{text}");
}

#[test]
fn status_tells_who_requested_what_with_which_command_why_and_when() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up();
    home.run(["gateway", "start", "coder", "--reason", "the pager said so"]).ok();
    let report = home.report("coder");
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(report["desired_state"], "running", "{report}");
    assert_eq!(report["desired_by"]["uid"], uid, "{report}");
    assert_eq!(report["desired_by"]["command"], "gateway start", "{report}");
    assert_eq!(report["desired_reason"], "the pager said so", "{report}");
    let at: jiff::Timestamp = report["desired_at"].as_str().unwrap().parse().expect("it is RFC 3339");
    let age = jiff::Timestamp::now().duration_since(at);
    assert!((0..60).contains(&age.as_secs()), "{age:?}");
    let details = home.says("gateway status coder").ok();
    let desired_state = details.lines().find(|line| line.starts_with("desired")).unwrap();
    for part in
        ["running", &format!("(uid {uid})"), "`gateway start`", "the pager said so", &at.to_string()[..19]]
    {
        assert!(desired_state.contains(part), "no `{part}` in: {desired_state}");
    }
    home.says("gateway stop --all").ok();
    let report = home.report("coder");
    assert_eq!(report["desired_by"]["command"], "gateway stop --all", "{report}");
    assert_eq!(report["desired_reason"], Value::Null, "an old reason is not the new one: {report}");
}

#[test]
fn a_profile_that_was_copied_is_not_said_to_be_wanted_by_whoever_wanted_the_original() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up();
    home.run(["gateway", "start", "coder", "--reason", "deploy 13"]).ok();
    home.plant("writer");
    fs::copy(home.state_file("coder"), home.state_file("writer")).unwrap();
    let known = ["desired_by", "desired_reason", "desired_at"];
    let copy = home.report("writer");
    assert_eq!(copy["desired_state"], "running", "{copy}");
    for key in known {
        assert_eq!(copy[key], Value::Null, "{key}: {copy}");
        assert_ne!(home.report("coder")[key], Value::Null, "{key}");
    }
    assert_eq!(copy["desired_by_another"], false, "{copy}");
    assert_eq!(copy["desired_unknown"], "its state file is a copy of that of the profile coder", "{copy}");
    // Files from before say nothing of their profile, and are believed.
    let mut older = home.state("coder");
    older["desired_by"].as_object_mut().unwrap().remove("profile");
    fs::write(home.state_file("coder"), older.to_string()).unwrap();
    assert_eq!(home.report("coder")["desired_reason"], "deploy 13");
}

#[test]
fn what_another_program_desires_is_said_to_be_another_programs() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up();
    home.run(["gateway", "start", "coder", "--reason", "deploy 12"]).ok();
    // This is what the agent's own command does: it calls the supervisor's tool, and then writes
    // the state file, keeping unknown keys.
    home.run(["s6", "s6-svc", "-wD", "-d", home.slot("coder").path().to_str().unwrap()]).ok();
    let mut state = home.state("coder");
    state["desired_state"] = "stopped".into();
    state["updated_at"] = 1_900_000_000.into();
    fs::write(home.state_file("coder"), state.to_string()).unwrap();
    let report = home.report("coder");
    let said = ["desired_state", "desired_by", "desired_reason", "desired_by_another", "desired_at"];
    let said = said.map(|key| report[key].clone());
    assert_eq!(
        said,
        ["stopped".into(), Value::Null, Value::Null, true.into(), "2030-03-17T17:46:40Z".into()],
        "{report}"
    );
    let details = home.says("gateway status coder").ok();
    assert!(
        details.contains("\ndesired  stopped, set by another program at 2030-03-17T17:46:40Z\n"),
        "{details}"
    );
    assert!(!details.contains("deploy 12") && !details.contains("gateway start"), "{details}");
    home.says("gateway start coder").ok();
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("`gateway start`") && !details.contains("another program"), "{details}");
}

#[test]
fn a_profile_that_was_renamed_is_said_to_be_stopped_by_whoever_stopped_it_under_its_old_name() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.up();
    home.says("gateway start coder").ok();
    home.run(["gateway", "stop", "coder", "--reason", "deploy 12"]).ok();
    fs::rename(home.profile_dir("coder"), home.profile_dir("writer")).unwrap();
    home.until_report("writer", "a slot", |report| report["state"] == "down");
    let report = home.report("writer");
    assert_eq!(report["desired_by"]["command"], "gateway stop", "{report}");
    assert_eq!(report["desired_as"], "coder", "{report}");
    let page = home.says("explain writer").ok();
    assert!(page.contains("when the profile was called coder: deploy 12"), "{page}");
    assert!(page.contains("(stopped-on-purpose)") && !page.contains("another program"), "{page}");
    home.down();
}

#[test]
fn going_down_writes_no_desired_state() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut home = Home::with_script(SLEEPER, &[]);
        for (name, state) in
            [("one", r#"{"desired_state":"running"}"#), ("two", r#"{"gateway_state":"running"}"#)]
        {
            home.plant_state(name, state);
        }
        home.plant("three");
        home.up();
        home.says("gateway start three").ok();
        home.says("gateway stop one").ok();
        let files = ["default", "one", "two", "three"].map(|name| home.state_file(name));
        let read = || files.each_ref().map(|file| fs::read(file).ok());
        let before = read();
        home.running().signal(signal);
        assert_eq!(home.ended().code, Some(0));
        assert_eq!(read(), before, "after {signal:?}");
    }
}

#[test]
fn the_next_start_brings_back_exactly_the_wanted_ones() {
    let mut home = Home::new();
    let ports = ["one", "two", "three"].map(|name| home.profile(name));
    home.want_running("one");
    home.want_running("two");
    home.up();
    home.says("gateway stop two").ok();
    home.says("gateway start three --ready").ok();
    assert_eq!(home.down().code, Some(0));
    assert!(ports.iter().all(|port| !port.healthy()), "something goes on answering");

    let said = home.up();
    assert!(said.contains("profile=two prior_state=stopped action=registered"), "{said}");
    assert_eq!(ports.each_ref().map(Port::healthy), [true, false, true]);
    assert_eq!(home.report("two")["state"], "down");
}

#[test]
fn a_desired_state_that_was_acknowledged_survives_the_death_of_everything() {
    let mut home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.profile("writer");
    home.want_running("writer");
    home.up();
    home.says("gateway start coder").ok();
    home.kill_everything();
    assert_eq!(home.state("coder")["desired_state"], "running");
    home.up();
    assert_eq!(home.report("coder")["state"], "up");

    home.says("gateway stop writer").ok();
    home.kill_everything();
    home.up();
    assert_eq!(
        (&home.report("coder")["state"], &home.report("writer")["state"]),
        (&"up".into(), &"down".into())
    );
}

#[test]
fn twenty_writers_at_once_leave_one_whole_desired_state_of_theirs() {
    let home = Home::new();
    home.plant_state("coder", r#"{"mine":[1,2,3]}"#);
    for round in 0..3 {
        let verb = |number: usize| if number.is_multiple_of(2) { "start" } else { "stop" };
        let all: Vec<_> = (0..20)
            .map(|number| {
                home.start(["gateway", verb(number), "coder", "--reason", &format!("{round}.{number}")])
            })
            .collect();
        // Readers always find a complete file meanwhile.
        let mut seen = 0;
        while seen < 20 {
            assert_eq!(home.state("coder")["mine"], serde_json::json!([1, 2, 3]));
            seen += 1;
        }
        let all: Vec<Ran> = all.into_iter().map(|one| one.ended(WAIT_LIMIT)).collect();
        assert!(all.iter().all(|ran| ran.code == Some(102)), "{all:#?}");
        let state = home.state("coder");
        let reason = state["desired_reason"].as_str().unwrap();
        let number: usize = reason.strip_prefix(&format!("{round}.")).unwrap().parse().unwrap();
        let desired_state = if number.is_multiple_of(2) { "running" } else { "stopped" };
        assert_eq!(state["desired_state"], desired_state, "parts of two desired states: {state}");
        assert_eq!(state["desired_by"]["command"], format!("gateway {}", verb(number)), "{state}");
        assert_eq!(state["mine"], serde_json::json!([1, 2, 3]));
    }
    let left: Vec<_> = fs::read_dir(home.profile_dir("coder"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.contains("gateway_state.json") && name != "gateway_state.json")
        .collect();
    assert_eq!(left, [".gateway_state.json.lock"], "temporary files are left");
}

#[test]
fn a_desired_state_is_recorded_before_its_effect_begins() {
    let script = "cat \"$2/gateway_state.json\"\necho \"; that is all\"\nexec sleep 1000";
    let mut home = Home::with_script(script, &[]);
    home.profile("coder");
    home.up();
    home.says("gateway start coder").ok();
    let log = home.until_logged("coder", "that is all");
    assert!(log.contains(r#""desired_state":"running""#), "{log}");
}

#[test]
fn a_stop_by_the_agents_own_command_is_honoured_and_said_to_be_another_programs() {
    // This is what the agent does: it removes the announcement, ends by itself, and writes its own
    // state at the end.
    let script = r#"
        end() {
            rm -f "$2/planned.json"
            sed 's/"gateway_state":"[a-z]*"/"gateway_state":"stopped"/' "$2/gateway_state.json" >"$2/state.new"
            mv "$2/state.new" "$2/gateway_state.json"
            exit 0
        }
        trap 'end "$@"' TERM
        echo begins
        while :; do sleep 1000 & wait $!; done
    "#;
    let planned = "planned-stop = { file = \"planned.json\" }\nstop-timeout-ms";
    let mut home = Home::with_script(script, &[("stop-timeout-ms", planned)]);
    home.profile("coder");
    home.profile("writer");
    home.up();
    home.run(["gateway", "start", "coder", "--reason", "deploy 12"]).ok();
    home.says("gateway start writer").ok();
    home.until_logged("coder", "begins");
    let (coder, writer) = (home.pid("coder"), home.pid("writer"));
    let announce = |name: &str, pid: i32| {
        let place = home.profile_dir(name);
        let text = format!(
            "{{\"target_pid\":{pid},\"stopper_pid\":1,\"written_at\":\"2026-11-28T00:00:00+00:00\"}}"
        );
        fs::write(place.join("planned.new"), text).unwrap();
        fs::rename(place.join("planned.new"), place.join("planned.json")).unwrap();
    };
    // An announcement for a process that is not the gateway has no effect on the gateway.
    announce("writer", home.running().pid());
    announce("coder", coder);
    crate::support::processes::signal(coder, Signal::TERM);
    home.running().until_warns("the gateway of coder was stopped by another program, and stays stopped");
    let report = home.report("coder");
    assert_eq!(
        (&report["state"], &report["desired_state"], &report["desired_by_another"], &report["desired_by"]),
        (&"down".into(), &"stopped".into(), &true.into(), &Value::Null),
        "{report}"
    );
    let details = home.says("gateway status coder").ok();
    assert!(details.contains("desired  stopped, set by another program at 2"), "{details}");
    assert!(!details.contains("deploy 12"), "{details}");
    assert_eq!(home.pid("writer"), writer);
    // It stays stopped after the next start of the supervisor.
    home.down();
    home.up();
    assert_eq!(home.report("coder")["state"], "down");
    assert_eq!(home.report("writer")["state"], "up");
    // A stop by our own command is recorded as ours.
    home.says("gateway stop writer").ok();
    assert_eq!(home.report("writer")["desired_by"]["command"], "gateway stop");
    home.down();
}

#[test]
fn what_root_says_in_a_home_of_another_user_is_recorded_as_said_by_root() {
    if !is_root() {
        return;
    }
    let home = Home::with_script(SLEEPER, &[]);
    home.profile("coder");
    home.want_running("coder");
    chmod(home.beside(""), 0o755);
    give(home.path(), NOBODY);
    let mut command = home.command(["gateway", "stop", "coder", "--reason", "maintenance"]);
    command.env("SUDO_UID", "23457");
    let ran = home.spawn(command).ended(WAIT_LIMIT);
    assert_eq!(ran.code, Some(102), "{ran:?}");
    let state: Value = serde_json::from_str(&fs::read_to_string(home.state_file("coder")).unwrap()).unwrap();
    let by = &state["desired_by"];
    assert_eq!((&by["uid"], &by["user"], &by["login_uid"]), (&0.into(), &"root".into(), &23_457.into()));
    let said = home.says("gateway status coder").ok();
    assert!(said.contains("said by root (uid 0, logged in as uid 23457) with `gateway stop`"), "{said}");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(home.state_file("coder")).unwrap());
    assert_eq!(owner, NOBODY, "the file is the owner's all the same");
}
