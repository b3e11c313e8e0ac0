//! One program of an imported file, as a gateway.
//!
//! *Lives here:* its name as a profile, its start script. *Does not live here:* any format.

use std::collections::BTreeSet;

/// Variables of the session in which a file was written. They are not imported.
const OF_SESSION: [&str; 20] = [
    "_",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "TERM",
    "COLORTERM",
    "LS_COLORS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "TMUX",
    "TMUX_PANE",
    "STY",
    "WINDOWID",
    "LINES",
    "COLUMNS",
    "HISTFILE",
    "PS1",
    "MAIL",
    "NODE_APP_INSTANCE",
];

/// Prefixes of the names of such variables.
const PREFIXES_OF_SESSION: [&str; 9] =
    ["PM2_", "pm_", "SSH_", "XDG_SESSION_", "XDG_SEAT", "DBUS_", "SUDO_", "NOTIFY_", "SUPERVISOR_"];

/// A program of the file, as a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportedGateway {
    /// Its name in the file.
    pub called: String,
    /// What its profile will be called, which is valid as a name and unique in the import.
    pub profile: String,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The directory in which it runs; `None` means the profile's directory.
    pub directory: Option<String>,
    /// Its environment variables, as name and value.
    pub variables: Vec<(String, String)>,
    /// Whether it shall run.
    pub is_wanted: bool,
    /// How many milliseconds it may take to stop.
    pub stop_ms: Option<u64>,
    /// The settings of the file that have no counterpart here, one line each.
    pub lost: Vec<String>,
}

impl ImportedGateway {
    /// Returns a gateway that executes `words`.
    pub(crate) fn new(called: &str, words: Vec<String>) -> Self {
        let mut gateway = Self { called: called.to_owned(), words, is_wanted: true, ..Self::default() };
        if gateway.runs_hermes() {
            gateway.lost.push(
                "it is a gateway of Hermes, which `gatevisor --home HERMES_HOME up` supervises without an import, with its \
                 readiness and health"
                    .to_owned(),
            );
        }
        gateway
    }

    /// Notes a setting that has no counterpart, and why.
    pub(crate) fn lose(&mut self, key: &str, value: &str, why: &str) {
        let value: String = value.chars().filter(|character| !character.is_control()).take(60).collect();
        self.lost.push(format!("{key} = {value}: {why}"));
    }

    /// Adds a variable, unless it belongs to the session in which the file was written.
    pub(crate) fn variable(&mut self, name: &str, value: &str) {
        let is_of_session =
            OF_SESSION.contains(&name) || PREFIXES_OF_SESSION.iter().any(|prefix| name.starts_with(prefix));
        let mut characters = name.chars();
        let begins = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
        let is_name = begins && characters.all(|other| other.is_ascii_alphanumeric() || other == '_');
        if is_of_session {
            return;
        }
        if !is_name || value.contains('\0') {
            return self.lose("variable", name, "no program can be given a variable of this name or value");
        }
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn runs_hermes(&self) -> bool {
        let is_hermes = |word: &String| word == "hermes" || word.ends_with("/hermes");
        let mut words = self.words.iter();
        words.any(is_hermes) && words.any(|word| word == "gateway")
    }

    /// Returns the script that becomes the program.
    pub fn script(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| quoted(word)).collect();
        let directory = self
            .directory
            .as_deref()
            .map_or_else(String::new, |directory| format!("cd -- {} || exit 111\n", quoted(directory)));
        format!("#!/bin/sh\n# What this gateway executes.\n{directory}exec {}\n", words.join(" "))
    }
}

/// Returns a word, quoted for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Gives each gateway a profile's name of its own, as close to its name in the file as possible.
pub(crate) fn name_profiles(gateways: &mut [ImportedGateway]) {
    let mut taken: BTreeSet<String> = BTreeSet::from(["default".to_owned()]);
    for gateway in gateways {
        let wanted = profile_name(&gateway.called);
        let mut number = 2_usize;
        let mut name = wanted.clone();
        while !taken.insert(name.clone()) {
            name = format!("{wanted}-{number}");
            number = number.saturating_add(1);
        }
        gateway.profile = name;
    }
}

/// Returns the nearest name that a profile may have.
fn profile_name(called: &str) -> String {
    let plain: String = called
        .chars()
        .map(|character| match character.to_ascii_lowercase() {
            plain @ ('a'..='z' | '0'..='9' | '-' | '_') => plain,
            _ => '-',
        })
        .collect();
    let plain: String = plain.trim_matches(['-', '_']).chars().take(48).collect();
    if plain.is_empty() { "gateway".to_owned() } else { plain }
}
