//! *Lives here:* the content of a slot's files, for one agent and one profile. No I/O.
//!
//! *Does not live here:* the formats of `run` and `log/run` (see `gatevisor-slot`).

use std::path::Path;

use gatevisor_slot::live::Live;
use gatevisor_slot::{Ready, RenderError, ServiceFile, Stderr, render_finish, render_log, render_service};
use gatevisor_wire::exit::{Exit, ExitError};
use gatevisor_wire::fail_code::FailCode;
use gatevisor_wire::files;
use gatevisor_wire::handoff::ASKED_MARK;

use super::{DATA_AGENT, DATA_FAIL_CODES, DATA_PROFILE, DATA_RESTART_CODES, NOTIFICATION_FD};
use crate::agent::{
    AgentDefinition, GatewayDefinition, HandoffDefinition, Placeholders, ReadyDefinition, Survivors,
    TemplateError, fill,
};
use crate::profile::ProfileName;

/// A file as it is written into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFile {
    /// Its path below the slot.
    pub path: &'static str,
    /// The permissions that it is made with.
    pub mode: u32,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// All files of a slot. The directories on the way to them belong to it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFiles(pub Vec<SlotFile>);

/// Why a slot cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderSlotError {
    /// The definition has a placeholder that does not exist.
    #[error("the agent definition has a text that cannot be filled in")]
    Template(#[from] TemplateError),
    /// `run` or `log/run` cannot be written.
    #[error("`{file}` of the slot cannot be written")]
    Script {
        /// The file's path below the slot.
        file: &'static str,
        /// The underlying error.
        #[source]
        source: RenderError,
    },
}

impl ExitError for RenderSlotError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Files with numbers of the restart policy, in the order of the fields.
const NUMBERS: [&str; 4] =
    ["data/backoff-first", "data/backoff-max", "data/stable-after", "data/give-up-after"];

/// Returns the files that not every definition puts into a slot. The file `down` is not among them:
/// no definition decides on it.
pub(super) fn optional() -> impl Iterator<Item = &'static str> {
    let bounds = gatevisor_slot::group::Bound::ALL.into_iter().map(gatevisor_slot::group::Bound::path);
    let others = [files::NOTIFICATION_FD, files::CGROUP_STRICT, files::LOG_STDERR];
    NUMBERS.into_iter().chain(bounds).chain(others)
}

/// Returns the files of the slot of one profile's gateway.
///
/// `interpreter` is the absolute path of this program. Without `up`, the slot has a `down` file.
pub fn render(
    agent: &AgentDefinition,
    profile: &ProfileName,
    interpreter: &Path,
    up: bool,
) -> Result<SlotFiles, RenderSlotError> {
    let gateway = &agent.gateway;
    let comment = format!(
        "Gateway of profile {profile} of {}. Gatevisor writes this file again at every start.",
        agent.name
    );
    let log_comment = format!("Log of the gateway of profile {profile}.");
    let script = |file| move |source| RenderSlotError::Script { file, source };
    let run =
        render_service(interpreter, &service_file(agent, profile)?, &comment).map_err(script(files::RUN))?;
    let finish = render_finish(interpreter, "").map_err(script(files::FINISH))?;
    let placeholders = Placeholders::new(profile, &agent.home_variable());
    let log = gateway.log.in_directory(fill(&gateway.log_directory, &placeholders)?);
    let log = render_log(interpreter, &log, &log_comment).map_err(script("log/run"))?;
    let mut all = vec![
        text("type", "longrun\n".to_owned()),
        program(files::RUN, run),
        program(files::FINISH, finish),
        program("log/run", log),
        text(files::TIMEOUT_KILL, format!("{}\n", gateway.stop_timeout_ms)),
        text(DATA_PROFILE, format!("{profile}\n")),
        text(DATA_AGENT, format!("{}\n", agent.name)),
        text(DATA_FAIL_CODES, fail_codes(gateway, profile)),
        text(DATA_RESTART_CODES, restart_codes(gateway)),
    ];
    if gateway.ready.is_some() || gateway.live.as_ref().is_some_and(|live| live.notify) {
        all.push(text(files::NOTIFICATION_FD, format!("{NOTIFICATION_FD}\n")));
    }
    let restart = &gateway.restart;
    let numbers =
        [restart.backoff_first_ms, restart.backoff_max_ms, restart.stable_after_ms, restart.give_up_after];
    for (path, number) in NUMBERS.into_iter().zip(numbers) {
        all.extend(number.map(|number| text(path, format!("{number}\n"))));
    }
    let bounds = gateway.confine.cgroup.bounds();
    all.extend(bounds.map(|(bound, number)| text(bound.path(), format!("{number}\n"))));
    if gateway.confine.strict && all.iter().any(|file| file.path.starts_with(files::CGROUP)) {
        all.push(text(files::CGROUP_STRICT, String::new()));
    }
    if gateway.log.stderr == Stderr::Stream {
        all.push(text(files::LOG_STDERR, String::new()));
    }
    if gateway.survivors == Survivors::Kill {
        all.push(text(files::KILL_SURVIVORS, String::new()));
    }
    if !up {
        all.push(text(files::DOWN, String::new()));
    }
    Ok(SlotFiles(all))
}

fn service_file(agent: &AgentDefinition, profile: &ProfileName) -> Result<ServiceFile, TemplateError> {
    let gateway = &agent.gateway;
    let placeholders = Placeholders::new(profile, &agent.home_variable());
    let filled = |text: &String| fill(text, &placeholders);
    let command = if profile.is_root() { &gateway.command_default } else { &gateway.command_named };
    let mut file = ServiceFile::new(command.iter().map(filled).collect::<Result<_, _>>()?);
    file.stderr = gateway.log.stderr;
    file.home_lock = true;
    gateway.confine.set(&mut file, &filled)?;
    file.directory = gateway.directory.as_ref().map(filled).transpose()?;
    for (name, value) in &gateway.environment {
        file.environment.insert(name.clone(), filled(value)?);
    }
    file.environment_files = gateway.environment_files.iter().map(filled).collect::<Result<_, _>>()?;
    file.environment_export = gateway.environment_export;
    let is_looked_at = gateway.ready.is_some() || gateway.live.is_some();
    file.after = after(gateway, profile);
    file.start_parallel = is_looked_at.then(|| gateway.start_parallel.clone());
    file.ready = gateway.ready.as_ref().map(|ready| ready_of(ready, &filled)).transpose()?;
    let live = |live: &Live| live.with_texts(&|_, text| fill(text, &placeholders));
    file.live = gateway.live.as_ref().map(live).transpose()?;
    let handoff = gateway.handoff.as_ref().map(HandoffDefinition::settings);
    file.handoff =
        handoff.map(|handoff| handoff.with_texts(&|text| fill(text, &placeholders))).transpose()?;
    Ok(file)
}

/// Returns the services that a profile's gateway starts after: all that `after` names before it,
/// and all that it names if it is not among them. So no two wait for each other.
fn after(gateway: &GatewayDefinition, profile: &ProfileName) -> Vec<String> {
    let earlier = gateway.after.iter().take_while(|name| *name != profile.as_str());
    earlier.filter_map(|name| Some(ProfileName::new(name.as_bytes()).ok()?.service_entry())).collect()
}

fn ready_of(
    ready: &ReadyDefinition,
    fill: &dyn Fn(&String) -> Result<String, TemplateError>,
) -> Result<Ready, TemplateError> {
    let mut probe = Ready::new(fill(&ready.http)?);
    probe.when = ready.when.as_ref().map(fill).transpose()?;
    probe.interval_ms = ready.interval_ms.unwrap_or(probe.interval_ms);
    probe.timeout_ms = ready.timeout_ms.unwrap_or(probe.timeout_ms);
    Ok(probe)
}

const fn text(path: &'static str, text: String) -> SlotFile {
    SlotFile { path, mode: 0o644, bytes: text.into_bytes() }
}

const fn program(path: &'static str, bytes: Vec<u8>) -> SlotFile {
    SlotFile { path, mode: 0o755, bytes }
}

/// Returns the exit codes after which a restart cannot help, as the supervisor reads them: on one
/// line, separated by spaces.
fn fail_codes(gateway: &GatewayDefinition, profile: &ProfileName) -> String {
    let after = |code: &u8| gateway.named_final_after.get(code).filter(|_| !profile.is_root());
    let words =
        gateway.fail_codes.iter().map(|code| FailCode { code: *code, after: *after(code).unwrap_or(&1) });
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    words.join(" ") + "\n"
}

/// Returns the exit codes that ask for a restart, and those after which the gateway is asked.
fn restart_codes(gateway: &GatewayDefinition) -> String {
    let asked = gateway.handoff.iter().flat_map(|handoff| &handoff.after_exit_codes);
    let asked = asked.map(|code| format!("{code}{}", char::from(ASKED_MARK)));
    let words: Vec<String> = gateway.restart_codes.iter().map(u8::to_string).chain(asked).collect();
    words.join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn show(agent: &AgentDefinition, profile: &str, up: bool) -> String {
        let files =
            render(agent, &profile.parse().unwrap(), Path::new("/usr/local/bin/gatevisor"), up).unwrap();
        let show =
            |f: &SlotFile| format!("== {} {:o}\n{}", f.path, f.mode, String::from_utf8_lossy(&f.bytes));
        files.0.iter().map(show).collect()
    }

    #[test]
    fn settings_of_the_log_are_in_the_slot() {
        let mut agent = AgentDefinition::built_in().unwrap();
        agent.gateway.log.keep = Some(3);
        agent.gateway.log.stderr = Stderr::Stream;
        let slot = show(&agent, "coder", true);
        assert!(slot.contains("== log/stderr 644\n"), "{slot}");
        assert!(slot.contains("\nkeep = 3\n") && slot.contains("\nstderr = \"stream\"\n"), "{slot}");
    }

    #[test]
    fn an_exit_code_that_is_final_only_after_some_deaths_is_so_in_named_profiles_alone() {
        let version = crate::topology::ProgramVersion::find("0.22.2");
        let agent = AgentDefinition::built_in().unwrap().for_version(version.as_ref(), []);
        for (profile, codes) in [("coder", "0 78*10"), ("default", "0 78")] {
            let slot = show(&agent, profile, true);
            assert!(slot.contains(&format!("== data/fail-codes 644\n{codes}\n")), "{profile}: {slot}");
        }
    }

    #[test]
    fn restrictions_are_in_the_slot() {
        let text = format!(
            "{}[gateway.confine]\nno-new-privileges = true\nlandlock = {{ write = [\"{{profile-home}}\", \"/tmp\"] }}\n\
             strict = true\ncgroup = {{ memory = 1_000_000_000, pids = 100 }}\n",
            crate::agent::SMALL
        );
        let slot = show(&text.parse().unwrap(), "coder", true);
        assert!(
            slot.contains("\nno-new-privileges = true\n") && slot.contains("\nstrict = true\n"),
            "{slot}"
        );
        assert!(slot.contains("\nwrite = [\"${MY_AGENT_HOME}/profiles/coder\", \"/tmp\"]\n"), "{slot}");
        assert!(
            slot.contains(
                "== cgroup/memory 644\n1000000000\n== cgroup/pids 644\n100\n== cgroup/strict 644\n"
            ),
            "{slot}"
        );
        let plain = show(&AgentDefinition::built_in().unwrap(), "coder", true);
        assert!(!plain.contains("cgroup") && !plain.contains("strict"), "{plain}");
    }

    #[test]
    fn the_slot_of_a_named_profile_reads_like_this() {
        assert_snapshot!(show(&AgentDefinition::built_in().unwrap(), "coder", false), @r#"
        == type 644
        longrun
        == run 755
        #!/usr/local/bin/gatevisor service
        # Gateway of profile coder of hermes. Gatevisor writes this file again at every start.
        command = ["${HERMES_BIN:-hermes}", "-p", "coder", "gateway", "run", "--replace"]
        directory = "${HERMES_HOME}"
        environment-files = ["${HERMES_HOME}/profiles/coder/.env"]
        oom-score-raise = 200
        home-lock = true
        start-parallel = "${GATEVISOR_START_PARALLEL:-auto}"

        [environment]
        HERMES_CRON_DRAIN_TIMEOUT = "${HERMES_CRON_DRAIN_TIMEOUT:-${GATEVISOR_DRAIN_S:-}}"
        HERMES_GATEWAY_MAX_STARTS = "${HERMES_GATEWAY_MAX_STARTS:-0}"
        HERMES_RESTART_DRAIN_TIMEOUT = "${HERMES_RESTART_DRAIN_TIMEOUT:-${GATEVISOR_DRAIN_S:-}}"
        HERMES_S6_SUPERVISED_CHILD = "1"
        HERMES_SUPERVISED_CHILD = "1"
        PYTHONUNBUFFERED = "1"

        [ready]
        http = "http://127.0.0.1:${API_SERVER_PORT:-8642}/health"
        when = "${API_SERVER_ENABLED:-false}"

        [live]
        policy = "${GATEVISOR_LIVE:-restart}"
        start-deadline-ms = "${GATEVISOR_LIVE_START_DEADLINE_MS:-100000}"
        interval-ms = "${GATEVISOR_LIVE_INTERVAL_MS:-10000}"
        misses = "${GATEVISOR_LIVE_MISSES:-4}"
        grace-ms = "${GATEVISOR_LIVE_GRACE_MS:-10000}"

        [live.state]
        file = "${HERMES_HOME}/profiles/coder/gateway_state.json"
        key = "gateway_state"
        draining = ["draining"]

        [live.heartbeat]
        file = "${HERMES_HOME}/profiles/coder/state/gateway.heartbeat"

        [live.http]
        url = "http://127.0.0.1:${API_SERVER_PORT:-8642}/health"
        when = "${API_SERVER_ENABLED:-false}"
        == finish 755
        #!/usr/local/bin/gatevisor finish
        == log/run 755
        #!/usr/local/bin/gatevisor log
        # Log of the gateway of profile coder.
        directory = "${HERMES_HOME}/logs/gateways/coder"
        == timeout-kill 644
        30000
        == data/profile 644
        coder
        == data/agent 644
        hermes
        == data/fail-codes 644
        78
        == data/restart-codes 644
        75
        == notification-fd 644
        3
        == data/kill-survivors 644
        == down 644
        "#);
    }

    #[test]
    fn the_slot_of_the_root_profile_names_no_profile_to_the_agent() {
        let all = show(&AgentDefinition::built_in().unwrap(), "default", true);
        assert!(
            all.contains(r#"command = ["${HERMES_BIN:-hermes}", "gateway", "run", "--replace"]"#),
            "{all}"
        );
        assert!(all.contains(r#"environment-files = ["${HERMES_HOME}/.env"]"#), "{all}");
        assert!(!all.contains("== down"), "{all}");
    }

    #[test]
    fn numbers_of_the_restart_policy_are_files_of_their_own() {
        let text =
            format!("{}\n[gateway.restart]\nbackoff-first-ms = 10\ngive-up-after = 3\n", crate::agent::SMALL);
        let all = show(&text.parse().unwrap(), "coder", true);
        assert!(all.contains("== data/backoff-first 644\n10\n== data/give-up-after 644\n3\n"), "{all}");
        assert!(!all.contains("notification-fd"), "{all}");
    }

    #[test]
    fn what_a_gateway_leaves_behind_is_kept_unless_the_definition_says_otherwise() {
        let kills = |definition: &str| {
            show(&definition.parse().unwrap(), "coder", true).contains("== data/kill-survivors 644\n")
        };
        let said = |word: &str| {
            crate::agent::SMALL.replacen("[gateway]\n", &format!("[gateway]\nsurvivors = \"{word}\"\n"), 1)
        };
        assert!(!kills(crate::agent::SMALL) && !kills(&said("keep")));
        assert!(kills(&said("kill")));
    }

    #[test]
    fn an_interpreter_that_no_shebang_line_can_name_is_refused() {
        let agent = AgentDefinition::built_in().unwrap();
        let error = render(&agent, &ProfileName::root(), Path::new("/a b/gatevisor"), true).unwrap_err();
        assert_snapshot!(error, @"`run` of the slot cannot be written");
        assert_eq!(error.exit_code(), 100);
    }

    #[test]
    fn a_slot_for_the_longest_name_can_be_rendered() {
        let agent = AgentDefinition::built_in().unwrap();
        assert!(show(&agent, &"x".repeat(243), true).contains(&"x".repeat(243)));
    }
}
