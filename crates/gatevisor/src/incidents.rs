//! `gatevisor incidents`: evidence about gateways that did not work.
//!
//! *Lives here:* which profiles, and printing.
//! *Does not live here:* collecting (`gatevisor_gateways::incidents`), and when that happens
//! automatically.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use gatevisor_gateways::incidents::{self, Incident, IncidentRequest};
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_paths::by_path;
use gatevisor_sys::proc::Process;
use rustix::fs::OFlags;
use serde::Serialize;

use crate::args;
use crate::choice::{self, NameScope, Unnamed};
use crate::container_scandir::variable;
use crate::context::CommandContext;
use crate::each;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::last_lines;
use crate::out::{self, BOLD, Text, TextTable};

/// An incident as a JSON object, with its path.
#[derive(Serialize)]
struct IncidentObject<'a> {
    #[serde(flatten)]
    incident: &'a Incident,
    path: &'a Path,
}

/// Lists, shows or collects incidents.
pub fn run(context: &CommandContext, options: &args::Incidents) -> Outcome {
    if let Some(id) = &options.show {
        return show(context, id);
    }
    let names = chosen(context, options)?;
    if options.collect {
        return each::shown(&names, |name| collect(context, name, &options.reason).and(DONE));
    }
    let all = all(context, &names)?;
    if context.json {
        return all.iter().try_for_each(print_object).and(DONE);
    }
    if all.is_empty() {
        context.all_seen()?;
        out::say("there are no incidents; evidence is collected when a gateway does not work");
        return DONE;
    }
    let mut table = TextTable::new(["INCIDENT", "PID", "REASON"]);
    for incident in &all {
        let pid = incident.pid.to_string();
        table.row([incident.id.clone().into(), pid.into(), incident.reason.clone().into()]);
    }
    out::lines(&table.lines())?;
    DONE
}

fn print_object(incident: &Incident) -> Result<(), CommandError> {
    out::json(&IncidentObject { incident, path: &incident.path })
}

/// Returns the profiles that are meant. For collecting, they must be named.
fn chosen(context: &CommandContext, options: &args::Incidents) -> Result<Vec<ProfileName>, CommandError> {
    let unnamed = if options.collect { Unnamed::Selected } else { Unnamed::SelectedElseAll };
    let choice = &options.choice;
    let may_be_everybody = choice.all || unnamed == Unnamed::SelectedElseAll;
    if may_be_everybody && choice.is_of_everybody(context) {
        everybody(context)
    } else {
        choice::chosen(context, choice, NameScope::Known, unnamed)
    }
}

/// Returns all profiles. The default one may have incidents even if it has no gateway any more.
fn everybody(context: &CommandContext) -> Result<Vec<ProfileName>, CommandError> {
    let mut names = choice::members(context, NameScope::Known)?;
    if !names.iter().any(ProfileName::is_root) {
        names.insert(0, ProfileName::root());
    }
    Ok(names)
}

/// Returns the incidents of these profiles, the newest first.
fn all(context: &CommandContext, names: &[ProfileName]) -> Result<Vec<Incident>, CommandError> {
    let mut all = Vec::new();
    for name in names {
        let logs = incidents::logs_of(context.manager.home(), name);
        let found = incidents::list(&logs).map_err(|error| {
            let path = logs.join(incidents::DIRECTORY);
            CommandError::new(
                Exit::System,
                format!("cannot look for incidents in `{}`: {error}", path.display()),
            )
        })?;
        all.extend(found);
    }
    all.sort_by(|a, b| b.id.cmp(&a.id));
    Ok(all)
}

fn collect(context: &CommandContext, name: &ProfileName, reason: &str) -> Result<(), CommandError> {
    let manager = &context.manager;
    let observed = manager.observe(name)?;
    let pid = observed.and_then(|observed| observed.status).and_then(|status| status.pid);
    let Some((pid, process)) = pid.and_then(|pid| Some((pid, Process::of(pid.get())?))) else {
        let hint = format!("`gatevisor gateway status {name}` says how it ended");
        return Err(context.absent(format!("{name} has no process to collect evidence about; {hint}")));
    };
    let service = manager.slot(name);
    let request = IncidentRequest {
        logs: &incidents::logs_of(manager.home(), name),
        name: name.as_str(),
        service: service.path(),
        pid,
        start_ticks: process.began,
        reason,
        history: &[],
        command: None,
        at: jiff::Timestamp::now(),
        environment_files: &incidents::environment_files(manager.agent(), manager.home(), name, &variable),
        log: &|out| last_lines::for_incident(manager, name, out),
    };
    let incident = incidents::collect(&request).map_err(|error| CommandError::of(Exit::System, &error))?;
    if context.json {
        return print_object(&incident);
    }
    out::line(format!("{name}: evidence is in {}", incident.path.display()))
}

/// Prints all of one incident.
fn show(context: &CommandContext, id: &str) -> Outcome {
    let manager = &context.manager;
    let names = everybody(context)?;
    let found = names.iter().find_map(|name| incidents::named(&incidents::logs_of(manager.home(), name), id));
    let Some(incident) = found else {
        let message = format!("there is no incident `{id}`; `gatevisor incidents` lists them");
        return Err(context.absent(message));
    };
    if context.json {
        print_object(&incident)?;
        return DONE;
    }
    out::line(Text::default().styled(BOLD, &incident.id))?;
    out::line(format!("process {} since tick {}: {}", incident.pid, incident.start_ticks, incident.reason))?;
    for part in &incident.parts {
        out::empty_line()?;
        let missing = part.missing.as_ref().map_or_else(String::new, |missing| format!(" ({missing})"));
        out::line(Text::default().styled(BOLD, &part.file).and(missing))?;
        let text = text_of(&incident.path.join(&part.file)).unwrap_or_else(|error| error.to_string());
        out::lines(&text.lines().map(Text::from).collect::<Vec<_>>())?;
    }
    DONE
}

/// Returns the text of a part. A part that somebody else has put there may be long, so it is cut.
pub fn text_of(path: &Path) -> io::Result<String> {
    let file = File::from(by_path::open(path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
    let mut bytes = Vec::new();
    file.take(incidents::PART_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
