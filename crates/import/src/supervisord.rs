//! The file of supervisord: `supervisord.conf`.
//!
//! *Lives here:* the meaning of its sections and keys. *Does not live here:* any other format.
//!
//! Files that `[include]` names are not read. Each can be imported by itself.
//!
//! **Source:** supervisord's page *Configuration File*.

use std::collections::HashMap;

use configparser::ini::{Ini, IniDefault};

use crate::gateway::{ImportedGateway, name_profiles};
use crate::{ImportError, Imported};

/// Keys without a counterpart, each with what is done here instead.
const WITHOUT_COUNTERPART: [(&str, &str); 12] = [
    ("numprocs", "one is made; copy the profile for each further one"),
    ("startsecs", "`[gateway.ready]` in the definition says when a start has succeeded"),
    ("startretries", "a gateway is started again with growing pauses, without an end"),
    ("exitcodes", "`fail-codes` in the definition is the same for all gateways"),
    ("stopsignal", "a gateway is told to stop with SIGTERM"),
    ("priority", "gateways start at the same time"),
    ("user", "gateways run as the user who calls `gatevisor up`"),
    ("umask", "the mask for new files is that of the supervisor"),
    ("stdout_logfile", "each gateway's log is in logs/gateways of the home"),
    ("stderr_logfile", "each gateway's log is in logs/gateways of the home"),
    ("stdout_logfile_maxbytes", "logs are rotated as `[gateway]` of the definition says"),
    ("serverurl", "there is no such interface"),
];

/// Keys whose given value means the same as if they were missing.
const USUAL: [(&str, &str); 4] =
    [("numprocs", "1"), ("stopsignal", "TERM"), ("stopsignal", "SIGTERM"), ("stdout_logfile", "AUTO")];

type Section = HashMap<String, Option<String>>;

/// The values that `%(NAME)s` stands for.
struct Expansions<'a> {
    program: &'a str,
    directory: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads such a file.
pub fn read(
    text: &str,
    directory: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Imported, ImportError> {
    let mut defaults = IniDefault::default();
    defaults.case_sensitive = true;
    defaults.multiline = true;
    defaults.delimiters = vec!['=', ':'];
    // A `;` within a word is part of the word, so comments at the end of a line are removed here.
    defaults.inline_comment_symbols = Some(Vec::new());
    let mut sections = Ini::new_from_defaults(defaults)
        .read(text.to_owned())
        .map_err(ImportError::Ini)?
        .into_iter()
        .collect::<Vec<_>>();
    sections.sort_by(|one, other| one.0.cmp(&other.0));
    let of_all = sections.iter().find(|(name, _)| name == "supervisord").map(|(_, section)| section);
    let mut imported = Imported::default();
    let mut has_program = false;
    for (name, section) in &sections {
        if let Some(program) = name.strip_prefix("program:") {
            has_program = true;
            let expansions = Expansions { program, directory, variable };
            match gateway(section, of_all, &expansions) {
                Some(gateway) => imported.gateways.push(gateway),
                None => imported.lost.push(format!("[{name}]: it has no `command`")),
            }
        } else if let Some(why) = lost_section(name) {
            imported.lost.push(format!("[{name}]: {why}"));
        }
    }
    if !has_program {
        return Err(ImportError::NotSupervisord);
    }
    name_profiles(&mut imported.gateways);
    Ok(imported)
}

/// Returns why a section is not imported; `None` for sections that configure supervisord itself.
fn lost_section(name: &str) -> Option<&'static str> {
    match name.split(':').next()? {
        "include" => Some("the files that it names are not read; import each by itself"),
        "group" => Some("there are no groups; every verb takes several names and patterns such as 'web-*'"),
        "eventlistener" => Some("`gatevisor events --json` prints events"),
        "fcgi-program" => Some("no socket is made for a gateway"),
        "supervisord" | "supervisorctl" | "unix_http_server" | "inet_http_server" | "rpcinterface"
        | "default" => None,
        _ => Some("it is unknown"),
    }
}

fn gateway(
    section: &Section,
    of_all: Option<&Section>,
    expansions: &Expansions<'_>,
) -> Option<ImportedGateway> {
    let value = |section: &Section, key: &str| Some(uncommented(section.get(key)?.as_deref()?).to_owned());
    let mut lost = Vec::new();
    let mut expanded = |section: &Section, key: &str| {
        let written = value(section, key)?;
        match expansions.apply(&written) {
            Ok(text) => Some(text),
            Err(name) => {
                lost.push(format!("{key}: %({name})s has no value here, and stays as it is"));
                Some(written)
            }
        }
    };
    let command = expanded(section, "command").filter(|command| !command.is_empty())?;
    let words = shlex::split(&command).filter(|words| !words.is_empty())?;
    let directory = expanded(section, "directory");
    let variables: Vec<String> = [of_all, Some(section)]
        .into_iter()
        .flatten()
        .filter_map(|section| expanded(section, "environment"))
        .collect();
    let mut gateway = ImportedGateway::new(expansions.program, words);
    gateway.lost.extend(lost);
    gateway.directory = directory;
    gateway.is_wanted = value(section, "autostart").is_none_or(|word| is_yes(&word));
    gateway.stop_ms =
        value(section, "stopwaitsecs").and_then(|seconds| seconds.parse::<u64>().ok()?.checked_mul(1000));
    for assignment in variables.iter().flat_map(|text| assignments(text)) {
        match assignment {
            Ok((name, value)) => gateway.variable(&name, &value),
            Err(text) => gateway.lose("environment", &text, "it is no NAME=VALUE"),
        }
    }
    if value(section, "autorestart").is_some_and(|word| !is_yes(&word) && word != "unexpected") {
        gateway.lose(
            "autorestart",
            "false",
            "what ends is started again, unless it ends with 78 or is stopped",
        );
    }
    for (key, why) in WITHOUT_COUNTERPART {
        if let Some(value) = value(section, key).filter(|value| !USUAL.contains(&(key, value))) {
            gateway.lose(key, &value, why);
        }
    }
    Some(gateway)
}

/// Returns a value without a comment, which begins with `;` or `#` after a blank.
fn uncommented(value: &str) -> &str {
    let begins = value
        .match_indices([';', '#'])
        .map(|(at, _)| at)
        .find(|&at| value.get(..at).is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t'])));
    value.get(..begins.unwrap_or(value.len())).unwrap_or(value).trim()
}

fn is_yes(word: &str) -> bool {
    ["true", "yes", "on", "1"].contains(&word.to_ascii_lowercase().as_str())
}

/// Returns the variables of `A="1",B=2`. A part that is no assignment is returned as an error.
fn assignments(text: &str) -> Vec<Result<(String, String), String>> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (None, ',' | '\n') => parts.push(String::new()),
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push(character);
                }
            }
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => Err(part.to_owned()),
        })
        .collect()
}

impl Expansions<'_> {
    /// Replaces each `%(NAME)s` and `%%`; returns the name of the first that has no value.
    fn apply(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let (before, found) = rest.split_at(at);
            expanded.push_str(before);
            if let Some(after) = found.strip_prefix("%%") {
                expanded.push('%');
                rest = after;
                continue;
            }
            let Some((name, after)) = found.strip_prefix("%(").and_then(|inner| inner.split_once(')')) else {
                return Err("%".to_owned());
            };
            let after = after.trim_start_matches(|character: char| character.is_ascii_digit());
            let after = after.strip_prefix(['s', 'd']).ok_or_else(|| name.to_owned())?;
            expanded.push_str(&self.value(name).ok_or_else(|| name.to_owned())?);
            rest = after;
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "program_name" | "group_name" => Some(self.program.to_owned()),
            "here" => Some(self.directory.to_owned()),
            "process_num" => Some("0".to_owned()),
            "numprocs" => Some("1".to_owned()),
            _ => (self.variable)(name.strip_prefix("ENV_")?),
        }
    }
}
