//! Which agent definitions there are, and what is wrong with one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::home::Home;

fn rows(home: &Home) -> Vec<Value> {
    let out = home.says("agents --json").ok();
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn row(home: &Home, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let rows = rows(home);
    rows.iter().find(|row| is_it(row)).unwrap_or_else(|| panic!("{what}: {rows:?}")).clone()
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_definitions_are_listed_with_what_is_installed_and_what_each_can_do() {
    let mut home = Home::with_agent(&[]);
    let hermes = home.beside("venv/bin/hermes");
    program(&hermes, "#!/bin/sh\n");
    fs::create_dir_all(home.beside("venv/lib/python3.11/site-packages/hermes_agent-0.19.0.dist-info"))
        .unwrap();
    home.set("HERMES_BIN", &hermes);
    let built_in = row(&home, "hermes", |row| row["agent"] == "hermes");
    assert_eq!(
        (&built_in["built_in"], &built_in["counts"], &built_in["version"], &built_in["program"]),
        (&true.into(), &false.into(), &"0.19.0".into(), &hermes.to_str().unwrap().into()),
        "{built_in}"
    );
    assert_eq!(built_in["can"], serde_json::json!(["ready", "live", "drain", "topology"]), "{built_in}");
    let used = row(&home, "the one that counts", |row| row["counts"] == true);
    assert_eq!((&used["agent"], &used["built_in"]), (&"http-agent".into(), &false.into()), "{used}");
    let table = home.says("agents").ok();
    assert!(table.contains(", used here") && table.contains("0.19.0"), "{table}");
}

#[test]
fn the_definition_that_the_home_remembers_is_the_one_that_counts() {
    let mut home = Home::with_agent(&[]);
    home.run(["profile", "create", "coder"]).ok();
    let file = home.agent().unwrap().to_owned();
    home.tell_agent(None);
    let used = row(&home, "the one that counts", |row| row["counts"] == true);
    assert_eq!(used["file"], file.canonicalize().unwrap().to_str().unwrap(), "{used}");
    // One that is not valid is listed all the same, with what is wrong.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("name = \"http-agent\"", "name = 1")).unwrap();
    let ran = home.says("agents");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out.contains("not valid")
            && ran.err.contains(", column 8: `name` is a text, and this is a number"),
        "{ran:?}"
    );
}

#[test]
fn root_executes_no_program_to_find_its_version() {
    let home = Home::with_agent(&[]);
    let (agent, asked) = (home.beside("bin/agent"), home.beside("asked"));
    program(&agent, &format!("#!/bin/sh\n: > '{}'\necho version 1.2.3\n", asked.display()));
    let file = home.agent().unwrap();
    let text = fs::read_to_string(file).unwrap();
    let version =
        format!("[topology.version]\nprogram = \"{}\"\narguments = [\"--version\"]\n", agent.display());
    fs::write(file, format!("{text}\n{version}")).unwrap();
    let used = row(&home, "the one that counts", |row| row["counts"] == true);
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(asked.exists(), !is_root, "{used}");
    if is_root {
        assert!(used["version_problem"].as_str().unwrap().contains("nothing beside `"), "{used}");
    } else {
        assert_eq!(used["version"], "1.2.3", "{used}");
    }
}

#[test]
fn everything_that_is_wrong_with_a_definition_is_said_with_line_and_column() {
    let home = Home::missing();
    let (good, bad) = (home.beside("good.toml"), home.beside("bad.toml"));
    fs::write(&good, home.says("agents show").ok()).unwrap();
    let text = fs::read_to_string(&good).unwrap();
    let text = text.replace("state-file =", "state-flie =").replace("survivors = \"kill\"", "survivors = 3");
    fs::write(&bad, text).unwrap();
    let check = |files: &[&Path]| {
        let mut words = vec!["agents", "check"];
        words.extend(files.iter().map(|file| file.to_str().unwrap()));
        home.run(words)
    };
    let said = check(&[&good]).ok();
    assert_eq!(said, format!("{}: a valid definition of hermes\n", good.display()));
    let ran = check(&[&good, &bad]);
    assert_eq!((ran.code, &*ran.err), (Some(1), ""), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().skip(1).collect();
    let [survivors, state] = lines[..] else { panic!("{ran:?}") };
    let place = format!("{}:", bad.display());
    assert!(survivors.starts_with(&place) && survivors.ends_with("this is a number"), "{ran:?}");
    assert!(
        state.ends_with(":1: there is no key `state-flie` in `gateway`; do you mean `state-file`?"),
        "{ran:?}"
    );
    let json = home.run(["agents", "check", "--json", bad.to_str().unwrap()]);
    let first: Value = serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert!(first["valid"] == false && first["line"].as_u64().unwrap() > 10, "{json:?}");
    assert_eq!((json.code, &first["column"]), (Some(1), &13.into()), "{json:?}");
    assert!(!home.path().exists(), "a home was made");
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_from_being_checked() {
    let home = Home::with_agent(&[]);
    let (good, nothing) = (home.agent().unwrap().to_str().unwrap(), home.beside("nothing"));
    let ran = home.run(["agents", "check", nothing.to_str().unwrap(), good]);
    assert_eq!(ran.code, Some(100), "{ran:?}");
    assert!(ran.err.contains("there is no file `") && ran.out.contains("a valid definition of"), "{ran:?}");
}

#[test]
fn a_definition_whose_every_start_would_fail_is_not_valid() {
    for (field, text) in [
        ("command-named", "command-named = [\"sh\", \"-c\", \"sleep $(cat x)\"]\n"),
        ("environment-files", "environment-files = [\"${A\"]\n"),
    ] {
        let home = Home::with_agent(&[]);
        let file = home.agent().unwrap();
        let definition = fs::read_to_string(file).unwrap();
        let is_field = |line: &&str| line.starts_with(field);
        let other = definition.lines().filter(|line| !is_field(line)).collect::<Vec<_>>().join("\n");
        fs::write(file, other.replace("[gateway]\n", &format!("[gateway]\n{text}"))).unwrap();
        let ran = home.run(["agents", "check", file.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.out.contains(field) && ran.out.contains('$'), "{ran:?}");
    }
}

#[test]
fn a_home_with_the_files_of_an_agent_is_listed_as_used_with_it() {
    let home = Home::built_in();
    fs::write(home.path().join("openclaw.json"), "{}").unwrap();
    let used = row(&home, "the one that counts", |row| row["counts"] == true);
    assert_eq!(used["agent"], "openclaw", "{used}");
}

#[test]
fn a_definition_from_the_environment_that_is_not_that_of_the_home_is_told_of() {
    let mut home = Home::built_in();
    home.run(["--agent", "openclaw", "profile", "create", "coder"]).ok();
    home.set("GATEVISOR_AGENT", "hermes");
    let ran = home.says("profile create writer");
    let words = "is used with the agent definition `openclaw`, and this command with `hermes`";
    assert!(ran.code == Some(0) && ran.err.contains(words), "{ran:?}");
}

#[test]
fn a_proposed_command_names_a_built_in_definition_as_the_caller_did() {
    let home = Home::built_in();
    home.run(["--agent", "openclaw", "profile", "create", "coder"]).ok();
    let said = home.says("--agent openclaw explain coder").ok();
    assert!(said.contains(" --agent openclaw up"), "{said}");
    let said = home.says("--agent openclaw doctor").out;
    assert!(said.contains(" --agent openclaw up"), "{said}");
}

#[test]
fn what_is_no_definition_at_all_is_refused_without_waiting() {
    let home = Home::missing();
    let check = |file: &Path| home.run(["agents", "check", file.to_str().unwrap()]);
    let (fifo, long, bytes) = (home.beside("fifo"), home.beside("long"), home.beside("bytes"));
    assert!(check(&home.beside("nothing")).refused(100).contains("there is no file `"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(check(&fifo).refused(100).contains("it is a FIFO, not a file"));
    fs::write(&long, "a".repeat(10 << 20)).unwrap();
    assert!(check(&long).refused(100).contains("it is longer than"));
    fs::write(&bytes, b"\xff").unwrap();
    assert!(check(&bytes).refused(100).contains("is not UTF-8"));
    home.says("agents show nobody").refused(1);
}
