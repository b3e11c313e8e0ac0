//! *Lives here:* the keys of `[alerts]`, and the errors in them.
//!
//! *Does not live here:* reading the file. An error never contains a value of the file, because an
//! address is often a secret.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

/// The most bytes of a file of settings.
pub const MAX_BYTES: usize = 64 << 10;
/// The most destinations.
const DESTINATIONS: usize = 16;

/// The kinds of alerts, which a destination can choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertKind {
    /// A gateway is down for good.
    Failed,
    /// A gateway does not respond.
    Unresponsive,
    /// A problem that was told is over.
    Recovered,
    /// A gateway ends again and again.
    CrashLoop,
    /// A file system is nearly full.
    Disk,
    /// Lines of a gateway cannot be kept.
    LogGap,
}

impl AlertKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Failed, Self::Unresponsive, Self::Recovered, Self::CrashLoop, Self::Disk, Self::LogGap];

    /// Returns its word in settings and in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Unresponsive => "unresponsive",
            Self::Recovered => "recovered",
            Self::CrashLoop => "crash-loop",
            Self::Disk => "disk",
            Self::LogGap => "log-gap",
        }
    }
}

/// Something wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The number of the line, beginning with 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// An address or a header, which may be a secret. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HiddenText(pub(crate) String);

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// A web address receives JSON.
    Webhook,
    /// A topic of ntfy.
    Ntfy,
    /// An incoming webhook of Slack, or of a service that accepts the same.
    Slack,
    /// A webhook of Discord.
    Discord,
    /// A bot of Telegram.
    Telegram,
    /// A mail through sendmail.
    Email,
    /// A program receives JSON.
    Command,
}

impl Preset {
    const ALL: [Self; 7] =
        [Self::Webhook, Self::Ntfy, Self::Slack, Self::Discord, Self::Telegram, Self::Email, Self::Command];

    /// Returns its word in settings.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Telegram => "telegram",
            Self::Email => "email",
            Self::Command => "command",
        }
    }

    /// Returns whether it needs a web address.
    pub const fn has_url(self) -> bool {
        !matches!(self, Self::Email | Self::Command)
    }
}

/// A destination, and the alerts that it receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertDestination {
    /// The service or program that carries the message; it decides the form of the message.
    pub preset: Preset,
    /// The alerts that are sent here.
    pub kinds: Vec<AlertKind>,
    pub(crate) url: Option<HiddenText>,
    /// The file whose first line is the web address, where the settings do not hold it.
    pub url_file: Option<String>,
    pub(crate) headers: Vec<HiddenText>,
    pub(crate) chat: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) command: Vec<String>,
}

/// The content of `[alerts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertSettings {
    /// The name of the home in alerts; by default the machine's.
    pub name: Option<String>,
    /// The percentage in use from which on a file system is nearly full.
    pub disk_full_percent: u8,
    /// The most messages in an hour.
    pub most_per_hour: u32,
    /// Where alerts are sent to, at most `DESTINATIONS`.
    pub to: Vec<AlertDestination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    alerts: Option<RawAlerts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawAlerts {
    name: Option<String>,
    disk_full_percent: Option<Spanned<u8>>,
    most_per_hour: Option<Spanned<u32>>,
    to: Spanned<Vec<Spanned<RawDestination>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDestination {
    kind: Spanned<String>,
    on: Option<Vec<Spanned<String>>>,
    url: Option<Spanned<HiddenText>>,
    url_file: Option<String>,
    #[serde(default)]
    headers: Vec<HiddenText>,
    chat: Option<String>,
    to: Option<String>,
    from: Option<String>,
    #[serde(default)]
    command: Vec<String>,
}

impl AlertSettings {
    /// Returns the settings in a text; `None` if it has no `[alerts]`.
    ///
    /// # Errors
    /// All errors in the text.
    pub fn parse(text: &str) -> Result<Option<Self>, Vec<SettingsProblem>> {
        let mut problems = Problems { text, found: Vec::new() };
        let raw = match toml::from_str::<RawFile>(text) {
            Ok(RawFile { alerts: None }) => return Ok(None),
            Ok(RawFile { alerts: Some(raw) }) => raw,
            Err(error) => {
                problems.add(error.span(), without_values(error.message()));
                return Err(problems.found);
            }
        };
        let disk_full_percent = problems.number(raw.disk_full_percent, 90, 50..=99, "disk-full-percent");
        let most_per_hour = problems.number(raw.most_per_hour, 60, 1..=1000, "most-per-hour");
        let count = raw.to.get_ref().len();
        if count == 0 || count > DESTINATIONS {
            let what =
                format!("`to` names nobody, or more than {DESTINATIONS}; write [[alerts.to]] for each");
            problems.add(Some(raw.to.span()), what);
        }
        let to = raw.to.into_inner();
        let to: Vec<AlertDestination> = to.into_iter().filter_map(|raw| problems.destination(raw)).collect();
        let settings = Self { name: raw.name, disk_full_percent, most_per_hour, to };
        problems.found.sort_by_key(|problem| problem.line);
        if problems.found.is_empty() { Ok(Some(settings)) } else { Err(problems.found) }
    }
}

/// Returns the message of the parser, unless the message contains a value that may be an address.
fn without_values(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.contains("://") || line.contains("string \"") {
        return "a value is of another type than it should be".to_owned();
    }
    line.to_owned()
}

struct Problems<'a> {
    text: &'a str,
    found: Vec<SettingsProblem>,
}

impl Problems<'_> {
    fn add(&mut self, span: Option<Range<usize>>, what: impl Into<String>) {
        let before = span.and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        self.found.push(SettingsProblem { line, what: what.into() });
    }

    fn number<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        value: Option<Spanned<T>>,
        default: T,
        range: std::ops::RangeInclusive<T>,
        name: &str,
    ) -> T {
        let Some(value) = value else { return default };
        if !range.contains(value.get_ref()) {
            let what = format!("`{name}` is a number from {} to {}", range.start(), range.end());
            self.add(Some(value.span()), what);
        }
        value.into_inner()
    }

    fn destination(&mut self, raw: Spanned<RawDestination>) -> Option<AlertDestination> {
        let place = raw.span();
        let raw = raw.into_inner();
        let preset = Preset::ALL.into_iter().find(|preset| preset.word() == raw.kind.get_ref());
        let Some(preset) = preset else {
            let known = Preset::ALL.map(Preset::word).join(", ");
            self.add(Some(raw.kind.span()), format!("`kind` is one of: {known}"));
            return None;
        };
        let kinds = raw.on.as_deref().map_or_else(|| AlertKind::ALL.to_vec(), |words| self.kinds(words));
        for what in missing(preset, &raw) {
            self.add(Some(place.clone()), what);
        }
        if let Some(url) = raw.url.as_ref().filter(|url| !is_url(&url.get_ref().0)) {
            self.add(Some(url.span()), "`url` begins with https:// or http://, and has no blanks");
        }
        Some(AlertDestination {
            preset,
            kinds,
            url: raw.url.map(Spanned::into_inner),
            url_file: raw.url_file,
            headers: raw.headers,
            chat: raw.chat,
            to: raw.to,
            from: raw.from,
            command: raw.command,
        })
    }

    fn kinds(&mut self, words: &[Spanned<String>]) -> Vec<AlertKind> {
        let mut kinds = Vec::new();
        for word in words {
            if let Some(kind) = AlertKind::ALL.into_iter().find(|kind| kind.word() == word.get_ref()) {
                kinds.push(kind);
            } else {
                let known = AlertKind::ALL.map(AlertKind::word).join(", ");
                self.add(Some(word.span()), format!("`on` has words of: {known}"));
            }
        }
        kinds
    }
}

/// Returns the keys that a destination lacks, and those that it may not have.
fn missing(preset: Preset, raw: &RawDestination) -> Vec<String> {
    let kind = preset.word();
    let mut problems = Vec::new();
    let has_url = raw.url.is_some() || raw.url_file.is_some();
    if preset.has_url() && (raw.url.is_some() == raw.url_file.is_some()) {
        problems.push(format!("`{kind}` needs either `url` or `url-file`"));
    }
    if !preset.has_url() && has_url {
        problems.push(format!("`{kind}` has no `url`"));
    }
    let has_words = raw.command.first().is_some_and(|program| !program.is_empty());
    let needs = [
        ("chat", preset == Preset::Telegram, raw.chat.is_some()),
        ("to", preset == Preset::Email, raw.to.is_some()),
        ("command", preset == Preset::Command, has_words),
    ];
    for (name, is_needed, is_there) in needs {
        if is_needed && !is_there {
            problems.push(format!("`{kind}` needs `{name}`"));
        }
    }
    problems
}

/// Returns whether a text can be the address of a destination.
pub(crate) fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && text.chars().all(|character| character.is_ascii_graphic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let problems = AlertSettings::parse(text).unwrap_err();
        problems.into_iter().map(|problem| (problem.line, problem.what)).collect()
    }

    #[test]
    fn a_short_file_has_defaults() {
        let text = "[[alerts.to]]\nkind = \"ntfy\"\nurl = \"https://ntfy.sh/topic\"\n";
        let settings = AlertSettings::parse(text).unwrap().unwrap();
        assert_eq!((settings.disk_full_percent, settings.most_per_hour), (90, 60));
        assert_eq!(settings.to[0].kinds, AlertKind::ALL);
        assert!(!format!("{settings:?}").contains("topic"), "{settings:?}");
        assert_eq!(AlertSettings::parse(""), Ok(None));
    }

    #[test]
    fn everything_that_is_wrong_is_said_with_its_line() {
        let text = "[alerts]\ndisk-full-percent = 100\n\n[[alerts.to]]\nkind = \"pigeon\"\n\n[[alerts.to]]\n\
                    kind = \"telegram\"\non = [\"failed\", \"sad\"]\nurl = \"ftp://secret\"\n";
        let found = problems(text);
        let expected = [
            (2, "`disk-full-percent` is a number from 50 to 99"),
            (5, "`kind` is one of: webhook, ntfy"),
            (7, "`telegram` needs `chat`"),
            (9, "`on` has words of: failed, unresponsive"),
            (10, "`url` begins with https:// or http://"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, what), (expected_line, words)) in found.iter().zip(expected) {
            assert!(*line == expected_line && what.starts_with(words), "{line}: {what}");
        }
        assert_eq!(problems("[alert]\n")[0].0, 1);
        assert!(problems("[[alerts.to]]\nkind = \"email\"\nurl = \"https://a\"\n").len() == 2);
        assert!(problems("[alerts]\nto = []\n")[0].1.starts_with("`to` names nobody"));
    }

    #[test]
    fn no_error_repeats_an_address() {
        let secret = "https://hooks.example/very-secret";
        for text in [
            format!("[[alerts.to]]\nkind = \"{secret}\"\n"),
            format!("[[alerts.to]]\nkind = \"slack\"\nurl = [\"{secret}\"]\n"),
            format!("[alerts]\nmost-per-hour = \"{secret}\"\nto = []\n"),
            format!("[[alerts.to]]\nkind = \"slack\"\nurl = \"{secret} x\"\n"),
            format!("[[alerts.to]]\nkind = \"slack\"\nurl = \"{secret}\n"),
        ] {
            let found = problems(&text);
            assert!(!format!("{found:?}").contains("secret\""), "{found:?}");
            assert!(!format!("{found:?}").contains("very"), "{found:?}");
        }
    }
}
