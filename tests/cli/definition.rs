//! Which agent definition counts: a home remembers it, and an edited one takes effect on request.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use gatevisor_client::Condition;
use serde_json::Value;

use crate::home::{Home, until_file};

/// The file in which a home remembers its definition.
const NOTE: &str = ".gatevisor-agent";
const KEY: &str = "environment = { HTTP_AGENT_SUPERVISED = \"1\" }";

/// Returns a home whose supervisor was given the definition, and whose other commands are not given
/// it.
fn up() -> Home {
    let mut home = Home::with_script("echo \"colour ${COLOUR:-none}\"; exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    home.up();
    home.tell_agent(None);
    home
}

fn findings(home: &Home) -> Vec<Value> {
    let out = home.says("doctor --json").out;
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_home_remembers_the_definition_that_it_was_brought_up_with() {
    let home = up();
    let slots: Vec<Value> = findings(&home).into_iter().filter(|found| found["check"] == "slot").collect();
    assert_eq!(slots, Vec::<Value>::new(), "doctor knows whose slots they are");
    assert_eq!(home.report("coder")["state"], "up");
    home.says("gateway restart coder").ok();
    home.says("profile create writer --start").ok();
    home.until("writer", Condition::Up);
    assert!(home.profile_dir("writer").join("agent.conf").exists(), "it is a profile of that agent");
    let greeting = home.running().out();
    assert!(greeting.contains(" status --watch") && !greeting.contains("--agent"), "{greeting}");
}

#[test]
fn hints_name_the_definition_where_the_home_cannot_remember_it() {
    let mut home = Home::with_script("exec sleep 1000", &[]);
    // An existing entry of that name is not removed.
    fs::create_dir(home.path().join(NOTE)).unwrap();
    let greeting = home.up();
    assert!(
        greeting.contains(&format!("--agent {} status --watch", home.agent().unwrap().display())),
        "{greeting}"
    );
    assert!(
        home.running().err().contains("cannot remember its agent definition"),
        "{}",
        home.running().err()
    );
}

#[test]
fn another_definition_than_the_remembered_one_is_said() {
    let mut home = up();
    let other = home.beside("other.toml");
    fs::copy(home.beside("agent.toml"), &other).unwrap();
    home.tell_agent(Some(other.clone()));
    let ran = home.says("status");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("is used with the agent definition `") && ran.err.contains("/agent.toml`"),
        "{ran:?}"
    );
    let ran = home.says("reload");
    assert!(ran.err.contains("from now on it is `") && ran.err.contains("/other.toml`"), "{ran:?}");
    assert_eq!(home.says("status").err, "");
    // This definition counts now, and a message says when its file has gone.
    home.tell_agent(None);
    fs::remove_file(&other).unwrap();
    let said = home.says("status").refused(100);
    assert!(said.contains("there is no agent definition `") && said.contains("--agent"), "{said}");
}

#[test]
fn what_another_user_could_have_written_does_not_say_which_definition_counts() {
    let home = up();
    let note = home.path().join(NOTE);
    fs::set_permissions(&note, fs::Permissions::from_mode(0o666)).unwrap();
    let said = home.says("status").refused(100);
    assert!(said.contains("others may write to `"), "{said}");
    fs::set_permissions(&note, fs::Permissions::from_mode(0o644)).unwrap();
    home.says("status").ok();
}

#[test]
fn root_reads_the_definition_that_a_home_of_somebody_else_remembers_as_that_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut home = Home::new();
    home.tell_agent(None);
    fs::set_permissions(home.beside(""), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(home.path(), Some(65_534), Some(65_534)).unwrap();
    let secret = home.beside("root-only.toml");
    fs::write(&secret, "name = \"secret-of-root\"\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let note = home.path().join(NOTE);
    fs::write(&note, format!("{}\n", secret.display())).unwrap();
    std::os::unix::fs::chown(&note, Some(65_534), Some(65_534)).unwrap();
    let ran = home.says("status");
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("Permission denied") && !ran.err.contains("secret-of-root"), "{ran:?}");
}

/// Returns the definition with another variable and another stop time.
fn edited(home: &Home) -> String {
    let text = fs::read_to_string(home.beside("agent.toml")).unwrap();
    assert!(text.contains(KEY));
    text.replace(KEY, "environment = { COLOUR = \"blue\" }").replace("5000", "6000")
}

#[test]
fn an_edited_definition_is_said_to_be_newer_until_reload_has_it_take_effect() {
    let home = up();
    let definition = home.beside("agent.toml");
    assert_eq!(home.report("coder")["older_than_definition"], false);
    assert!(home.says("reload").ok().contains("coder: as the definition has it already\n"));
    home.until_logged("coder", "colour none");

    fs::write(&definition, edited(&home)).unwrap();
    assert_eq!(home.report("coder")["older_than_definition"], true);
    let table = home.says("status coder").ok();
    assert!(table.contains("older than the definition"), "{table}");
    let all = findings(&home);
    let found = all.iter().find(|found| found["check"] == "slot" && found["profile"] == "coder").unwrap();
    assert!(found["what"].as_str().unwrap().contains("older than the definition"), "{found}");
    let ran = home.says("gateway restart coder");
    assert!(
        ran.code == Some(0) && ran.err.contains("is older than the definition; `gatevisor reload"),
        "{ran:?}"
    );

    let pid = home.pid("coder");
    let said = home.says("reload").ok();
    assert!(
        said.contains("coder: rendered anew; it takes effect with `gatevisor gateway restart coder`"),
        "{said}"
    );
    assert_eq!(home.pid("coder"), pid, "nothing is restarted that was not asked for");
    assert_eq!(home.report("coder")["older_than_definition"], true, "its process is as it was");
    let said = home.says("reload").ok();
    assert!(said.contains("coder: as the definition has it already; it takes effect with"), "{said}");
    let again = home.says("--json reload coder").ok();
    assert!(again.contains("\"changed\":false"), "{again}");
    let ran = home.says("gateway restart coder");
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{ran:?}");
    until_file(&home.log_file("coder"), "the new colour", |text| text.contains("colour blue"));
    assert_eq!(fs::read_to_string(home.slot("coder").path().join("timeout-kill")).unwrap(), "6000\n");
    assert!(!findings(&home).iter().any(|found| found["what"].as_str().unwrap().contains("older")));
}

#[test]
fn reload_restarts_a_process_that_an_earlier_reload_has_left_as_it_was() {
    let home = up();
    fs::write(home.beside("agent.toml"), edited(&home)).unwrap();
    home.says("reload coder").ok();
    let pid = home.pid("coder");
    let said = home.says("reload --restart").ok();
    assert!(said.contains("coder: as the definition has it already, and restarted\n"), "{said}");
    assert_ne!(home.pid("coder"), pid);
    let said = home.says("reload --restart").ok();
    assert!(said.contains("coder: as the definition has it already\n"), "{said}");
}

#[test]
fn reload_of_the_selected_profile_leaves_the_others_alone() {
    let home = up();
    home.plant("writer");
    // Whoever watches the profiles may be quicker.
    home.says("gateway register writer");
    home.until_supervised("writer");
    fs::write(home.beside("agent.toml"), edited(&home)).unwrap();
    let said = home.says("-p writer reload").ok();
    assert!(said.contains("writer: rendered anew") && !said.contains("coder"), "{said}");
    assert_eq!(home.report("coder")["older_than_definition"], true);
    assert!(home.says("reload").ok().contains("coder: rendered anew"));
}

#[test]
fn reload_restarts_what_is_up_and_changed_where_that_is_asked_for() {
    let home = up();
    let text = fs::read_to_string(home.beside("agent.toml")).unwrap();
    fs::write(home.beside("agent.toml"), text.replace(KEY, "environment = { COLOUR = \"red\" }")).unwrap();
    let said = home.says("reload --restart").ok();
    assert!(said.contains("coder: rendered anew, and restarted\n"), "{said}");
    assert!(said.contains("default: rendered anew\n"), "{said}");
    home.until_logged("coder", "colour red");
    assert_eq!(home.report("default")["state"], "down");
    home.says("reload ghost").refused(1);
}

#[test]
fn a_profile_that_appears_after_the_definition_was_edited_has_a_slot_as_the_edited_one_says() {
    let home = up();
    let text = fs::read_to_string(home.beside("agent.toml")).unwrap();
    fs::write(home.beside("agent.toml"), text.replace(KEY, "environment = { COLOUR = \"green\" }")).unwrap();
    home.plant("late");
    home.until_state("late", "down");
    assert_eq!(home.report("late")["older_than_definition"], false);
    let run = fs::read_to_string(home.slot("late").path().join("run")).unwrap();
    assert!(run.contains("COLOUR = \"green\""), "{run}");
}

#[test]
fn reload_restarts_nothing_that_shall_not_run_and_changes_no_desired_state() {
    let home = up();
    let pid = home.pid("coder");
    fs::write(home.state_file("coder"), r#"{"desired_state": "stopped"}"#).unwrap();
    fs::write(home.beside("agent.toml"), edited(&home)).unwrap();
    let said = home.says("reload --restart coder").ok();
    assert_eq!(said, "coder: rendered anew; it is not restarted, because nobody has asked for it to run\n");
    assert_eq!((home.pid("coder"), &home.report("coder")["desired_state"]), (pid, &"stopped".into()));
}
