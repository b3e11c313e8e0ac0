//! `gatevisor agents`: lists, checks and prints agent definitions.
//!
//! *Lives here:* the list, and printing. *Does not live here:* the keys of a definition
//! (`gatevisor_gateways::agent`), and which one counts for a home (`context`).

use std::path::{Path, PathBuf};

use gatevisor_gateways::agent::{self, Ability, AgentDefinition, AgentError, BUILT_INS, built_in};
use gatevisor_gateways::manager::refused_looks;
use gatevisor_gateways::profile::Home;
use gatevisor_gateways::read_bounded;
use gatevisor_gateways::topology::TopologyReader;
use gatevisor_sys::refused;
use gatevisor_wire::exit::error_chain;
use serde_json::{Value, json};

use crate::args::{AgentsCommand, Common};
use crate::container_scandir::variable;
use crate::context::{self, Counting};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out::{self, Text, TextTable};
use crate::standard_input;

/// Runs a verb; without one, lists the definitions.
pub fn run(common: &Common, verb: Option<&AgentsCommand>) -> Outcome {
    match verb {
        None | Some(AgentsCommand::List) => list(common),
        Some(AgentsCommand::Check { files }) => check(common, files),
        Some(AgentsCommand::Show { definition }) => show(definition.as_deref()),
        Some(AgentsCommand::Schema) => schema(),
    }
}

fn show(name: Option<&str>) -> Outcome {
    let [(usual, _), ..] = BUILT_INS;
    let wanted = name.unwrap_or(usual);
    let Some((_, text)) = built_in::named(Path::new(wanted)) else {
        let known = BUILT_INS.map(|(name, _)| name).join(", ");
        let message = format!("no definition is built in for `{wanted}`; these are: {known}");
        return Err(CommandError::new(Exit::No, message));
    };
    out::script(text.as_bytes())?;
    DONE
}

fn schema() -> Outcome {
    let mut text = serde_json::to_vec_pretty(&agent::schema())
        .map_err(|error| CommandError::new(Exit::Bug, format!("cannot write the schema: {error}")))?;
    text.push(b'\n');
    out::script(&text)?;
    DONE
}

fn check(common: &Common, files: &[PathBuf]) -> Outcome {
    let mut worst = Exit::Done.code();
    for file in files {
        let code = match read(file) {
            Ok(text) => check_one(common, file, &text)?,
            Err(error) => unread(common, file, &error)?,
        };
        worst = worst.max(code);
    }
    Ok(worst)
}

/// Reports a file that cannot be read. The other files are still checked.
fn unread(common: &Common, file: &Path, error: &CommandError) -> Outcome {
    if common.json {
        let (file, what) = (file.to_string_lossy(), &error.message);
        out::json(&json!({ "file": file, "valid": false, "line": null, "column": null, "what": what }))?;
    }
    Ok(out::fail(error))
}

fn check_one(common: &Common, file: &Path, text: &str) -> Outcome {
    let problems = agent::examine(text);
    let shown = file.display();
    if problems.is_empty() {
        let agent = AgentDefinition::parse(text, &shown.to_string())?;
        if common.json {
            out::json(&json!({ "file": file.to_string_lossy(), "valid": true, "agent": agent.name }))?;
        } else {
            out::line(format_args!("{shown}: a valid definition of {}", agent.name))?;
        }
        return DONE;
    }
    for problem in problems {
        if common.json {
            let (line, column) = (problem.line, problem.column);
            let (file, what) = (file.to_string_lossy(), problem.what);
            out::json(&json!({
                "file": file, "valid": false, "line": line, "column": column, "what": what,
            }))?;
        } else {
            out::line(format_args!("{shown}:{}:{}: {}", problem.line, problem.column, problem.what))?;
        }
    }
    Ok(Exit::No.code())
}

fn read(file: &Path) -> Result<String, CommandError> {
    let wrong = |source| CommandError::from(AgentError::Read { path: file.to_owned(), source });
    if ["-", "/dev/stdin"].iter().any(|name| file == Path::new(name)) {
        return read_input(file);
    }
    let bytes = read_bounded(file, agent::MAX_BYTES).map_err(wrong)?;
    let Some(bytes) = bytes else {
        return Err(CommandError::new(Exit::Usage, format!("there is no file `{}`", file.display())));
    };
    let origin = || file.display().to_string();
    String::from_utf8(bytes).map_err(|_| CommandError::from(AgentError::NotUtf8 { origin: origin() }))
}

/// Reads a definition from the standard input.
fn read_input(file: &Path) -> Result<String, CommandError> {
    let wrong = |why: &dyn std::fmt::Display| {
        CommandError::new(
            Exit::Usage,
            format!("cannot read the agent definition `{}`: {why}", file.display()),
        )
    };
    let bytes = standard_input::all(agent::MAX_BYTES).map_err(|error| wrong(&error))?;
    String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8"))
}

/// A definition that is listed.
struct ListedAgent {
    /// The name of a built-in definition, or the file.
    source: PathBuf,
    is_built_in: bool,
    /// Whether commands use it for the home.
    counts: bool,
    definition: Result<AgentDefinition, String>,
}

fn list(common: &Common) -> Outcome {
    refused::keep();
    let counting = context::counting_definition(common)?;
    let agents = listed(&counting)?;
    let mut table = TextTable::new(["AGENT", "DEFINITION", "PROGRAM", "VERSION", "CAN"]);
    for agent in &agents {
        let row = ListedRow::of(agent, counting.home.as_ref());
        if common.json {
            out::json(&row.json(agent))?;
        } else {
            table.row(row.cells(agent));
        }
    }
    if !common.json {
        out::lines(&table.lines())?;
    }
    let problems: Vec<String> =
        agents.iter().filter_map(|agent| agent.definition.as_ref().err().cloned()).collect();
    if !common.json {
        out::warn_all(&problems);
    }
    let outcome = if problems.is_empty() { DONE } else { Ok(Exit::No.code()) };
    let refused = counting.home.as_ref().map(|home| refused_looks(home.root(), None));
    context::as_seen(refused.unwrap_or_default(), outcome)
}

/// Returns the definitions: the built-in ones, that of the machine, and the one that is used for
/// the home.
fn listed(counting: &Counting) -> Result<Vec<ListedAgent>, CommandError> {
    let built_in = BUILT_INS.into_iter().map(|(name, _)| PathBuf::from(name));
    let of_machine = context::system_definition()?;
    let mut sources: Vec<PathBuf> = built_in.chain(of_machine).collect();
    if !sources.contains(&counting.source) {
        sources.push(counting.source.clone());
    }
    let listed = sources.into_iter().map(|source| {
        let counts = source == counting.source;
        let load = || AgentDefinition::load(Some(&source)).map_err(|error| error_chain(&error));
        let definition = if counts { counting.definition.clone() } else { load() };
        ListedAgent { is_built_in: built_in::named(&source).is_some(), source, counts, definition }
    });
    Ok(listed.collect())
}

/// What is printed of a definition.
#[derive(Default)]
struct ListedRow {
    program: Option<PathBuf>,
    version: Option<Result<String, String>>,
    can: Vec<Ability>,
}

impl ListedRow {
    fn of(listed: &ListedAgent, home: Option<&Home>) -> Self {
        let Ok(agent) = &listed.definition else { return Self::default() };
        let fallback = Home::resolve(None, agent, &variable).ok();
        let Some(home) = home.or(fallback.as_ref()) else { return Self::default() };
        // Commands of root execute only what root has named, so as root no program is asked for its
        // version.
        let asks = !rustix::process::geteuid().is_root();
        let topology = TopologyReader::of_environment(agent, home, listed.counts, asks);
        Self {
            program: topology.installed().map(Path::to_owned),
            version: topology
                .version()
                .map(|version| version.map(ToString::to_string).map_err(str::to_owned)),
            can: agent.abilities(),
        }
    }

    fn cells(&self, listed: &ListedAgent) -> [Text; 5] {
        let source =
            if listed.is_built_in { "built in".to_owned() } else { listed.source.display().to_string() };
        let source = if listed.counts { format!("{source}, used here") } else { source };
        let Ok(agent) = &listed.definition else {
            return [Text::from("?"), source.into(), "-".into(), "-".into(), "not valid".into()];
        };
        let program =
            self.program.as_ref().map_or_else(|| "not found".to_owned(), |at| at.display().to_string());
        let version = match &self.version {
            Some(Ok(version)) => version.clone(),
            Some(Err(_)) if self.program.is_some() => "unknown".to_owned(),
            Some(Err(_)) | None => "-".to_owned(),
        };
        let can = self.can.iter().map(|ability| ability.word()).collect::<Vec<_>>().join(" ");
        let can = if can.is_empty() { "-".to_owned() } else { can };
        [agent.name.clone().into(), source.into(), program.into(), version.into(), can.into()]
    }

    fn json(&self, listed: &ListedAgent) -> Value {
        let (version, problem) = match &self.version {
            Some(Ok(version)) => (Some(version), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        json!({
            "agent": listed.definition.as_ref().ok().map(|agent| &agent.name),
            "built_in": listed.is_built_in,
            "file": (!listed.is_built_in).then(|| listed.source.to_string_lossy()),
            "counts": listed.counts,
            "program": self.program.as_ref().map(|program| program.to_string_lossy()),
            "version": version,
            "version_problem": problem,
            "can": self.can,
            "problem": listed.definition.as_ref().err(),
        })
    }
}
