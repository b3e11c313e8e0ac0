//! The answers to the questions of the page and of its API.
//!
//! *Lives here:* which command answers which question. Each answer consists of the objects that a
//! command of this program prints with `--json`.
//! *Does not live here:* calling it (`child`), the timeline, and who may ask (`gatevisor_web`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use gatevisor_gateways::incidents;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_paths::by_path;
use gatevisor_sys::clock::monotonic_ms;
use gatevisor_web::history::{Ring, ShownHistory};
use gatevisor_web::{
    ActionRequest, Answer, Answerer, DrainRequest, Lines, LogPick, ProfileRequest, SiteQuestion, SiteRefusal,
};
use gatevisor_wire::exit::Exit;
use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::child::{Ended, OwnProgram};
use super::history::{HistoryStore, this_minute};
use super::timeline;
use crate::choice::{self, NameScope};
use crate::context::CommandContext;
use crate::{events, incidents as evidence};

/// The time for a command that only reports.
const REPORT_TIME: Duration = Duration::from_mins(1);
/// The last bytes of the boot log that are shown.
const BOOT_LOG_BYTES: u64 = 256 << 10;
/// The lines of a log that an answer has if the question names no number, and the most.
const LINES: u32 = 200;
const MOST_LINES: u32 = 5000;
/// The minutes that a step of a gateway's history has, and one of the strips of all gateways.
const PLOT_MINUTES: u32 = 5;
const STRIP_MINUTES: u32 = 30;
/// The most characters of a text from outside: a reason, a time, a pattern.
const TEXT: usize = 500;

/// Answers for one home.
pub struct HomeAnswerer {
    context: CommandContext,
    program: OwnProgram,
    history: Option<HistoryStore>,
}

impl Answerer for HomeAnswerer {
    fn answer(&self, question: SiteQuestion, lately: &[String]) -> Answer {
        match question {
            SiteQuestion::Home => Ok(self.home().to_string()),
            SiteQuestion::Gateways => self.gateways(),
            SiteQuestion::Gateway(name) => self.report(&["gateway", "status"], &name),
            SiteQuestion::Explain(name) => self.report(&["explain"], &name),
            SiteQuestion::Log(name, pick) => self.log(&name, &pick),
            SiteQuestion::Incidents(name) => self.incidents(&name),
            SiteQuestion::Incident(name, id) => self.incident(&name, &id),
            SiteQuestion::IncidentFile(name, id, file) => self.incident_file(&name, &id, &file),
            SiteQuestion::History(name) => self.history(&name),
            SiteQuestion::Histories => self.histories(),
            SiteQuestion::Doctor => self.list("findings", &["doctor"], &[Exit::Done, Exit::No]),
            SiteQuestion::BootLog => self.boot_log(),
            SiteQuestion::Timeline => self.timeline(lately),
            SiteQuestion::GatewayAction(control, name, request) => {
                self.control(control.word(), &name, &request)
            }
            SiteQuestion::Drain(name, request) => self.drain(&name, &request),
            SiteQuestion::CreateProfile(profile) => self.create(&profile),
            SiteQuestion::DeleteProfile(name) => {
                let name = self.known(&name)?;
                if name.is_root() {
                    let why = format!("`{name}` is the home itself, and cannot be deleted");
                    return Err(SiteRefusal::new(409, why));
                }
                self.act(vec!["profile".into(), "delete".into(), "--yes".into()], &name, None)
            }
        }
    }

    fn follow(&self, name: &str, pick: &LogPick) -> Result<Box<dyn Lines>, SiteRefusal> {
        let name = self.known(name)?;
        // A command that follows a log prints nothing before its first line. So a command that ends
        // tries the options first.
        match self.log(name.as_str(), &LogPick { lines: Some(0), ..pick.clone() }) {
            Err(refusal) if refusal.status == 400 => return Err(refusal),
            _ => {}
        }
        let mut words = log_words(pick)?;
        words.extend(["--follow".to_owned(), "--".to_owned(), name.to_string()]);
        let lines = self.program.follow(words).map_err(|error| system(&error))?;
        Ok(Box::new(lines))
    }

    fn events(&self, on_event: &mut dyn FnMut(String)) {
        // The caller calls this again. The answer about the home says what is wrong with it.
        let _ = events::objects(&self.context, &mut |object| {
            if let Some(history) = &self.history {
                history.note(&object);
            }
            self.keep(&object);
            on_event(object.to_string());
        });
    }

    fn acted(&self, action: &str) {
        if let Ok(object) = serde_json::from_str(action) {
            self.keep(&object);
        }
    }

    fn sample(&self) -> bool {
        let Some(history) = &self.history else { return false };
        let Ok(lines) = self.call(&["status"], &[Exit::Done, Exit::No]) else { return false };
        let reports: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        // Pages of this server are told of what another one has written, too.
        history.record(&reports, this_minute(), monotonic_ms()) || history.is_of_another()
    }
}

impl HomeAnswerer {
    /// Returns the answers for the home of this command, with its history if that can be kept.
    pub fn new(context: CommandContext, history: Option<HistoryStore>) -> Self {
        let program = OwnProgram::new(&context);
        Self { context, program, history }
    }

    /// Keeps an event or an action for the timeline, also of later servers.
    fn keep(&self, object: &Value) {
        if let Some(history) = self.history.as_ref().filter(|_| timeline::is_told(object)) {
            history.keep(&object.to_string());
        }
    }

    fn call(&self, words: &[&str], good: &[Exit]) -> Result<Vec<String>, SiteRefusal> {
        let ended = self.program.call(words, None, Some(REPORT_TIME)).map_err(|error| system(&error))?;
        if good.iter().any(|exit| ended.code == Some(i32::from(exit.code()))) {
            Ok(ended.out.lines().map(str::to_owned).collect())
        } else {
            Err(refusal(&ended, 404))
        }
    }

    /// Returns an object with the objects that a command prints as a list.
    fn list(&self, name: &str, words: &[&str], good: &[Exit]) -> Answer {
        let lines = self.call(words, good)?;
        Ok(format!("{{\"{name}\":[{}]}}", lines.join(",")))
    }

    /// Returns the one object that a command prints about a gateway.
    fn report(&self, verb: &[&str], name: &str) -> Answer {
        let name = self.known(name)?;
        let words = [verb, &["--", name.as_str()]].concat();
        let lines = self.call(&words, &[Exit::Done, Exit::No])?;
        lines.into_iter().next().ok_or_else(|| SiteRefusal::new(404, format!("nothing is known of `{name}`")))
    }

    /// Returns the name, if a profile or a gateway has it. So the text of a caller never becomes an
    /// option or a pattern.
    fn known(&self, name: &str) -> Result<ProfileName, SiteRefusal> {
        let name: ProfileName = name.parse().map_err(|_| SiteRefusal::new(404, no_such(name)))?;
        match choice::members(&self.context, NameScope::Known) {
            Ok(names) if names.contains(&name) => Ok(name),
            Ok(_) => Err(SiteRefusal::new(404, no_such(name.as_str()))),
            Err(error) => Err(SiteRefusal::new(500, error.message)),
        }
    }

    fn supervisor(&self) -> Value {
        let lines = self.call(&["health", "--supervisor"], &[Exit::Done, Exit::No, Exit::NotSupervised]);
        let object = lines.ok().and_then(|lines| serde_json::from_str(lines.first()?).ok());
        object.unwrap_or(Value::Null)
    }

    fn home(&self) -> Value {
        let manager = &self.context.manager;
        json!({
            "home": manager.home().root().to_string_lossy(),
            "agent": manager.agent().name,
            "version": env!("CARGO_PKG_VERSION"),
            "options": self.context.options(),
            "supervisor": self.supervisor(),
        })
    }

    fn gateways(&self) -> Answer {
        let lines = self.call(&["status"], &[Exit::Done, Exit::No])?;
        let supervisor = self.supervisor();
        Ok(format!("{{\"supervisor\":{supervisor},\"gateways\":[{}]}}", lines.join(",")))
    }

    fn log(&self, name: &str, pick: &LogPick) -> Answer {
        let name = self.known(name)?;
        let mut words = vec!["logs".to_owned()];
        words.extend(log_words(pick)?.into_iter().skip(1));
        words.extend(["--".to_owned(), name.to_string()]);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.list("lines", &words, &[Exit::Done])
    }

    fn incidents(&self, name: &str) -> Answer {
        let name = self.known(name)?;
        self.list("incidents", &["incidents", "--", name.as_str()], &[Exit::Done])
    }

    /// Returns an incident, if it is one of this gateway.
    fn incident(&self, name: &str, id: &str) -> Answer {
        self.find_incident(name, id)?;
        let lines = self.call(&["incidents", &format!("--show={id}")], &[Exit::Done])?;
        lines.into_iter().next().ok_or_else(|| SiteRefusal::new(404, "there is no such incident"))
    }

    fn find_incident(&self, name: &str, id: &str) -> Result<incidents::Incident, SiteRefusal> {
        let name = self.known(name)?;
        let logs = incidents::logs_of(self.context.manager.home(), &name);
        let found = incidents::named(&logs, id).filter(|incident| incident.name == name.as_str());
        found.ok_or_else(|| SiteRefusal::new(404, format!("{name} has no such incident")))
    }

    fn incident_file(&self, name: &str, id: &str, file: &str) -> Answer {
        let incident = self.find_incident(name, id)?;
        let part = incident.parts.iter().find(|part| part.file == file);
        let part = part.ok_or_else(|| SiteRefusal::new(404, "this incident has no such file"))?;
        let text = evidence::text_of(&incident.path.join(&part.file)).map_err(|error| system(&error))?;
        Ok(json!({ "file": part.file, "text": text }).to_string())
    }

    /// Returns what is kept of the last 24 hours; an empty history if that cannot be used.
    fn kept(&self) -> Ring {
        self.history.as_ref().and_then(|history| history.read().ok()).unwrap_or_default()
    }

    fn history(&self, name: &str) -> Answer {
        let name = self.known(name)?;
        let now = this_minute();
        let shown = ShownHistory::of(&self.kept().day(now).samples(name.as_str()), now, PLOT_MINUTES);
        text(&shown)
    }

    fn histories(&self) -> Answer {
        let names = choice::members(&self.context, NameScope::Known);
        let names = names.map_err(|error| SiteRefusal::new(500, error.message))?;
        let (kept, now) = (self.kept(), this_minute());
        let day = kept.day(now);
        let of = |name: &ProfileName| {
            let shown = ShownHistory::of(&day.samples(name.as_str()), now, STRIP_MINUTES);
            json!({ "name": name, "kinds": shown.kinds, "summary": shown.summary })
        };
        let gateways: Vec<Value> = names.iter().map(of).collect();
        Ok(json!({ "step_seconds": STRIP_MINUTES * 60, "gateways": gateways }).to_string())
    }

    fn boot_log(&self) -> Answer {
        let manager = &self.context.manager;
        let path = manager.home().root().join(&manager.agent().gateway.boot_log);
        let read = || -> io::Result<String> {
            let mut file = File::from(by_path::open(&path, OFlags::RDONLY | OFlags::NOFOLLOW)?);
            let begin = file.metadata()?.len().saturating_sub(BOOT_LOG_BYTES);
            file.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            file.take(BOOT_LOG_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = match read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(system(&error)),
        };
        let lines: Vec<&str> = text.lines().collect();
        Ok(json!({ "lines": lines }).to_string())
    }

    fn timeline(&self, lately: &[String]) -> Answer {
        let reports = self.call(&["status"], &[Exit::Done, Exit::No])?;
        let incidents = self.call(&["incidents"], &[Exit::Done])?;
        let kept = self.history.as_ref().map(HistoryStore::events);
        let entries = timeline::entries(&reports, &incidents, kept.as_deref().unwrap_or(lately));
        Ok(json!({ "entries": entries }).to_string())
    }

    /// Has a command do something, and returns what it says about it.
    fn act(&self, mut words: Vec<String>, name: &ProfileName, input: Option<&str>) -> Answer {
        words.extend(["--".to_owned(), name.to_string()]);
        let ended = self.program.call(words, input, None).map_err(|error| system(&error))?;
        if ended.code == Some(i32::from(Exit::Done.code())) {
            Ok(ended.out.lines().last().unwrap_or("{}").to_owned())
        } else {
            Err(refusal(&ended, 409))
        }
    }

    fn control(&self, verb: &str, name: &str, request: &ActionRequest) -> Answer {
        let name = self.known(name)?;
        let mut words = vec!["gateway".to_owned(), verb.to_owned()];
        words.extend(option("reason", request.reason.as_deref())?);
        self.act(words, &name, None)
    }

    fn drain(&self, name: &str, request: &DrainRequest) -> Answer {
        let name = self.known(name)?;
        let mut words = vec!["gateway".to_owned(), "drain".to_owned()];
        if request.cancel {
            words.push("--cancel".to_owned());
        } else {
            words.extend(option("reason", request.reason.as_deref())?);
            words.extend(option("for", request.limit.as_deref())?);
            words.extend(option("then", request.then.map(gatevisor_web::Then::word))?);
        }
        self.act(words, &name, None)
    }

    fn create(&self, profile: &ProfileRequest) -> Answer {
        let name: ProfileName = profile.name.parse().map_err(|error: _| {
            SiteRefusal::new(400, format!("`{}` cannot be a name: {error}", short(&profile.name)))
        })?;
        if name.is_root() {
            return Err(SiteRefusal::new(
                409,
                format!("`{name}` is the home itself, so it is there already"),
            ));
        }
        let mut words = vec!["profile".to_owned(), "create".to_owned()];
        words.extend(profile.start.then(|| "--start".to_owned()));
        words.extend(option("reason", profile.reason.as_deref())?);
        words.extend(option("port", profile.port.as_deref().filter(|port| !port.is_empty()))?);
        // Other users can see the words of a process, but not its input.
        let env = profile.env.as_deref().filter(|env| !env.trim().is_empty());
        words.extend(env.map(|_| "--env-file=-".to_owned()));
        self.act(words, &name, env)
    }
}

fn text(answer: &impl serde::Serialize) -> Answer {
    serde_json::to_string(answer).map_err(|error| SiteRefusal::new(500, error.to_string()))
}

fn no_such(name: &str) -> String {
    format!("there is no profile `{}`", short(name))
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn log_words(pick: &LogPick) -> Result<Vec<String>, SiteRefusal> {
    let mut words = vec!["logs".to_owned()];
    let lines = match (pick.lines, &pick.since) {
        (Some(lines), _) => lines.min(MOST_LINES).to_string(),
        (None, Some(_)) => MOST_LINES.to_string(),
        (None, None) => LINES.to_string(),
    };
    words.push(format!("--lines={lines}"));
    words.extend(option("since", pick.since.as_deref())?);
    if let Some(grep) = pick.grep.as_deref().filter(|grep| !grep.is_empty()) {
        words.extend(option("grep", Some(grep))?);
        words.push("--ignore-case".to_owned());
    }
    Ok(words)
}

/// Returns an option whose value comes from outside, if there is a value.
fn option(name: &str, text: Option<&str>) -> Result<Option<String>, SiteRefusal> {
    let Some(text) = text else { return Ok(None) };
    if text.chars().count() > TEXT || text.chars().any(char::is_control) {
        let why = format!("`{name}` has at most {TEXT} characters, and no control characters");
        return Err(SiteRefusal::new(400, why));
    }
    Ok(Some(format!("--{name}={text}")))
}

fn system(error: &io::Error) -> SiteRefusal {
    SiteRefusal::new(500, error.to_string())
}

/// Returns why a command has failed. `no` is the HTTP status for the exit code that means "no".
fn refusal(ended: &Ended, no: u16) -> SiteRefusal {
    let code = ended.code.and_then(|code| u8::try_from(code).ok());
    let is = |exit: Exit| code == Some(exit.code());
    let status = match code {
        _ if ended.is_too_large => 500,
        None => 504,
        _ if is(Exit::No) => no,
        _ if is(Exit::TimedOut) => 504,
        _ if is(Exit::Usage) => 400,
        _ if is(Exit::NotSupervised) => 503,
        _ => 500,
    };
    let printed = ended.out.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let said = printed.as_ref().and_then(|object| object.get("error")?.as_str());
    let messages = || {
        let lines = ended.err.lines().map(|line| line.trim_start_matches("gatevisor: error: "));
        lines.collect::<Vec<_>>().join("; ")
    };
    let why = said.map_or_else(messages, str::to_owned);
    let why = match why {
        _ if ended.is_too_large => "the answer is too large; ask for less, such as fewer lines".to_owned(),
        why if why.is_empty() => "the command took too long, or was ended".to_owned(),
        why => why,
    };
    SiteRefusal::new(status, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: Option<i32>, out: &str, err: &str) -> Ended {
        Ended { code, out: out.to_owned(), err: err.to_owned(), is_too_large: false }
    }

    #[test]
    fn a_refusal_says_what_the_command_said() {
        let of = |code, out, err| refusal(&ended(code, out, err), 409);
        let object = "{\"profile\":\"a\",\"ok\":false,\"error\":\"why\",\"exit\":1}\n";
        assert_eq!(of(Some(1), object, "gatevisor: error: why\n"), SiteRefusal::new(409, "why"));
        assert_eq!(of(Some(100), "", "gatevisor: error: bad\n"), SiteRefusal::new(400, "bad"));
        assert_eq!(of(Some(102), "", "gatevisor: error: none\n").status, 503);
        assert_eq!(of(Some(99), "", "x").status, 504);
        assert_eq!(of(Some(101), "", "x").status, 500);
        assert_eq!(of(None, "", "").status, 504);
        let large = refusal(&Ended { is_too_large: true, ..ended(None, "", "") }, 404);
        assert!(large.status == 500 && large.why.contains("too large"), "{large:?}");
    }

    #[test]
    fn a_text_of_a_caller_is_never_an_option_of_its_own() {
        assert_eq!(option("reason", Some("--all")), Ok(Some("--reason=--all".to_owned())));
        assert_eq!(option("reason", None), Ok(None));
        for bad in ["a\nb", "a\0b", &"a".repeat(501)] {
            assert_eq!(option("reason", Some(bad)).unwrap_err().status, 400);
        }
        let pick = LogPick { lines: Some(u32::MAX), since: Some("--all".into()), grep: Some("-x".into()) };
        let words = ["logs", "--lines=5000", "--since=--all", "--grep=-x", "--ignore-case"];
        assert_eq!(log_words(&pick).unwrap(), words);
    }
}
