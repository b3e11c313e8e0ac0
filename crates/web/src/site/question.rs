//! The questions and actions that HTTP offers, and the interface of what answers them.
//!
//! *Lives here:* the types between the routes and the binary. *Does not live here:* any answer.

use std::io;
use std::sync::Arc;

use serde::Deserialize;

/// A question, or a request to do something. The answerer checks every text in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteQuestion {
    /// The home, its agent and its supervisor.
    Home,
    /// All gateways, and whether a supervisor runs.
    Gateways,
    /// The gateway of this profile, with its details.
    Gateway(String),
    /// Why a gateway is as it is.
    Explain(String),
    /// How a gateway was in the last 24 hours.
    History(String),
    /// The same of all gateways, in fewer steps.
    Histories,
    /// Lines of a gateway's log.
    Log(String, LogPick),
    /// The incidents of a gateway.
    Incidents(String),
    /// One incident of a gateway.
    Incident(String, String),
    /// The content of a file of an incident: the gateway, the incident, the file.
    IncidentFile(String, String, String),
    /// What is wrong with the home.
    Doctor,
    /// The boot log: what each start of a supervisor found.
    BootLog,
    /// Who did what, when and why.
    Timeline,
    /// Start, stop or restart a gateway.
    GatewayAction(GatewayAction, String, ActionRequest),
    /// Keep a gateway from new work, and perhaps then stop or restart it.
    Drain(String, DrainRequest),
    /// Make a profile.
    CreateProfile(ProfileRequest),
    /// Remove a profile with everything in it.
    DeleteProfile(String),
}

impl SiteQuestion {
    /// Returns the word and the profile of an action; `None` for a question.
    pub fn action(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::GatewayAction(control, name, _) => Some((control.word(), name)),
            Self::Drain(name, request) if request.cancel => Some(("end the drain of", name)),
            Self::Drain(name, _) => Some(("drain", name)),
            Self::CreateProfile(profile) => Some(("create", &profile.name)),
            Self::DeleteProfile(name) => Some(("delete", name)),
            _ => None,
        }
    }
}

/// What can be done with a gateway without waiting for its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayAction {
    /// Record that it shall run, and start it.
    Start,
    /// Record that it shall not run, and stop it.
    Stop,
    /// Have it end and run again.
    Restart,
}

impl GatewayAction {
    /// Returns its word, as it is on the command line and in a path.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// The lines of a log that are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPick {
    /// The last so many; 200 by default.
    pub lines: Option<u32>,
    /// Those since this time.
    pub since: Option<String>,
    /// Those that match this regular expression.
    pub grep: Option<String>,
}

/// The body of a request for an action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRequest {
    /// Why it is requested, for the record.
    pub reason: Option<String>,
}

/// How to drain a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Why it is requested, for the record.
    pub reason: Option<String>,
    /// The longest time, such as `5m`.
    #[serde(rename = "for")]
    pub limit: Option<String>,
    /// What comes after it.
    pub then: Option<Then>,
    /// Whether to end a drain that is under way instead.
    #[serde(default)]
    pub cancel: bool,
}

/// What comes after a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Stop the gateway.
    Stop,
    /// Have it run again.
    Restart,
    /// Leave it as it is.
    Nothing,
}

impl Then {
    /// Returns its word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Nothing => "nothing",
        }
    }
}

/// A profile to make.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileRequest {
    /// What it is called.
    pub name: String,
    /// Whether to start it.
    #[serde(default)]
    pub start: bool,
    /// Its port: a number, or `auto`.
    pub port: Option<String>,
    /// The lines of its file of variables, `NAME=VALUE` each.
    pub env: Option<String>,
    /// Why, for the record.
    pub reason: Option<String>,
}

/// Why there is no answer, or why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteRefusal {
    /// The status code of HTTP.
    pub status: u16,
    /// Why, for people.
    pub why: String,
}

impl SiteRefusal {
    /// Returns the refusal with this status code.
    pub fn new(status: u16, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

/// An answer: one JSON value, as text.
pub type Answer = Result<String, SiteRefusal>;

/// A source of lines.
pub trait Lines: Send {
    /// Waits for the next line, which is a JSON object; `None` at the end.
    fn next_line(&mut self) -> io::Result<Option<String>>;

    /// Returns a function with which another thread ends a wait for the next line.
    fn stopper(&self) -> Box<dyn FnOnce() + Send>;
}

/// Answers questions. Each call may block, so the thread that serves makes none of them.
pub trait Answerer: Send + Sync + 'static {
    /// Answers a question or carries out an action. `kept` are the latest events, for the timeline.
    fn answer(&self, question: SiteQuestion, kept: &[String]) -> Answer;

    /// Follows the log of a gateway: the last lines that are picked, and then each new one.
    fn follow(&self, name: &str, pick: &LogPick) -> Result<Box<dyn Lines>, SiteRefusal>;

    /// Learns what was done over HTTP: the object that clients receive as `action`. It is for the
    /// timeline.
    fn acted(&self, action: &str);

    /// Keeps how all gateways are now for the history. Returns whether there is something new to
    /// show.
    fn sample(&self) -> bool;

    /// Calls `on_event` with each event of the home, a JSON object, as long as there is a
    /// supervisor.
    fn events(&self, on_event: &mut dyn FnMut(String));
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Full,
    /// Only look.
    ReadOnly,
}

impl Role {
    /// Returns its word, as it is in answers and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
        }
    }

    /// Returns the role with this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Full, Self::ReadOnly].into_iter().find(|role| role.word() == word)
    }
}

/// The two secrets of a session, of which a request needs both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The value of the cookie. A browser sends it to every port of a host.
    pub secret: String,
    /// The key that the page keeps and sends in a header. No other port receives it.
    pub key: String,
}

/// The tokens and sessions. Each call may block on a disk.
pub trait Keys: Send + Sync + 'static {
    /// Returns the role of a lasting token.
    fn by_token(&self, token: &str) -> Option<Role>;

    /// Returns the role of a lasting token that may begin a session, which outlives the token.
    fn may_begin(&self, token: &str) -> Option<Role> {
        self.by_token(token)
    }

    /// Returns the role of a one-time token, which is used up by this.
    fn redeem(&self, token: &str) -> Option<Role>;

    /// Begins a session, and records it.
    fn begin_session(&self, role: Role) -> io::Result<NewSession>;

    /// Returns the role of the session with this secret and this key.
    fn by_session(&self, secret: &str, key: &str) -> Option<Role>;

    /// Ends the session with this secret and this key. Returns whether there was one.
    fn end_session(&self, secret: &str, key: &str) -> bool;
}

/// What the binary hands in.
#[derive(Clone)]
pub struct Backend {
    /// Answers questions about the home, and acts on its gateways.
    pub answerer: Arc<dyn Answerer>,
    /// The tokens and sessions.
    pub keys: Arc<dyn Keys>,
}
