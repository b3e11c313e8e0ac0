//! The text of the unit, its name, and quoting in it.
//!
//! *Lives here:* text alone. *Does not live here:* files, and calls of systemd.
//!
//! **Source:** `systemd.unit(5)`, `systemd.service(5)`, `systemd.syntax(7)`, `systemd-escape(1)`.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The first line of a unit of ours. A unit without it is never changed.
pub const MARK: &str = "# Made by `gatevisor install`; `gatevisor uninstall` removes it.";

/// The most bytes of a unit that are read.
pub const MAX_UNIT: u64 = 65_536;

/// Runs the command behind it if systemd has a main process to end. systemd also stops a unit whose
/// main process has ended by itself, and then somebody else may supervise already.
const STOP_SHELL: &str = r#"/bin/sh -c 'test -z "$$MAINPID" || exec "$$0" "$$@"'"#;
/// For how many seconds gateways may end what is under way before they are stopped.
const DRAIN_SECONDS: u64 = 30;

/// Seconds between the end of the supervisor's own grace and systemd's.
const MARGIN_SECONDS: u64 = 15;

/// The service manager that runs the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostScope {
    /// The system's, which starts it at boot.
    System,
    /// The user's own.
    User,
}

impl HostScope {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
        }
    }

    /// Returns the option of systemd's tools that selects it.
    pub fn option(self) -> &'static str {
        match self {
            Self::System => "--system",
            Self::User => "--user",
        }
    }
}

/// Everything that a unit says.
#[derive(Debug)]
pub struct Unit {
    /// The service manager that it is for.
    pub scope: HostScope,
    /// The file that the host's service manager executes.
    pub program: PathBuf,
    /// The directory whose gateways the unit runs.
    pub home: PathBuf,
    /// The agent definition, if one was named.
    pub agent: Option<PathBuf>,
    /// The user whom the system's manager starts it as.
    pub user: Option<String>,
    /// The value of `PATH`.
    pub path: String,
    /// Further environment variables.
    pub variables: Vec<(String, String)>,
    /// How many seconds gateways may take to stop.
    pub grace: u64,
}

/// Why something cannot be written in a unit.
#[derive(Debug, thiserror::Error)]
#[error("a unit cannot hold {what} `{value}`: {why}")]
pub struct NotWritable {
    what: &'static str,
    value: String,
    why: &'static str,
}

/// Returns the name of the unit of a home: each home has its own.
pub fn name(home: &Path) -> String {
    format!("gatevisor-{}.service", escaped_path(home))
}

/// Returns a path as `systemd-escape --path` writes it.
fn escaped_path(path: &Path) -> String {
    let words: Vec<String> = path
        .as_os_str()
        .as_bytes()
        .split(|&byte| byte == b'/')
        .filter(|word| !word.is_empty())
        .map(escaped_word)
        .collect();
    let mut escaped = words.join("-");
    if escaped.starts_with('.') {
        escaped.replace_range(..1, "\\x2e");
    }
    if escaped.is_empty() { "-".to_owned() } else { escaped }
}

fn escaped_word(word: &[u8]) -> String {
    let mut escaped = String::new();
    for &byte in word {
        if byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "\\x{byte:02x}");
        }
    }
    escaped
}

impl Unit {
    /// Returns the whole file.
    pub fn text(&self) -> Result<String, NotWritable> {
        let home = quoted_path("the home", &self.home)?;
        let agent = match &self.agent {
            Some(agent) => format!(" --agent {}", quoted_path("the agent definition", agent)?),
            None => String::new(),
        };
        let call = format!("{} --home {home}{agent}", quoted_path("this program's path", &self.program)?);
        let grace = self.grace;
        let stop = grace.saturating_add(DRAIN_SECONDS).saturating_add(MARGIN_SECONDS);
        let (target, settings, after, confined) = self.of_scope()?;
        let environment = self.environment()?;
        Ok(format!(
            "{MARK}\n\
             # Settings of your own: {settings}, NAME=VALUE a line.\n\
             [Unit]\n\
             Description=Gateways of AI agents in {described}\n\
             Documentation=man:gatevisor(1)\n\
             {after}\
             StartLimitIntervalSec=0\n\
             \n\
             [Service]\n\
             Type=notify\n\
             NotifyAccess=main\n\
             {environment}\
             EnvironmentFile=-{settings}\n\
             SyslogIdentifier=gatevisor\n\
             ExecStart={call} up --quiet --grace {grace}\n\
             ExecReload={call} reload\n\
             # Gateways end what is under way, and take nothing new; the supervisor then ends.\n\
             # If this one has ended by itself, another may have its place, and is left alone.\n\
             ExecStop=-{STOP_SHELL} {call} down --drain={DRAIN_SECONDS}s\n\
             Restart=on-failure\n\
             RestartSec=2\n\
             # Another supervisor has the home; a second one would only fail again.\n\
             RestartPreventExitStatus=103\n\
             # A supervisor whose loop stands still is killed with all that it supervises, and started again.\n\
             WatchdogSec=60\n\
             WatchdogSignal=SIGKILL\n\
             TimeoutStartSec=300\n\
             # The supervisor stops its gateways itself, in order; systemd kills what is left after its grace.\n\
             KillMode=mixed\n\
             TimeoutStopSec={stop}\n\
             Delegate=yes\n\
             # No RestrictSUIDSGID: the directories of events have the set-group-ID bit, as s6 makes them.\n\
             NoNewPrivileges=yes\n\
             {confined}\
             \n\
             [Install]\n\
             WantedBy={target}\n",
            described = unexpanded("the home", self.home.as_os_str())?,
        ))
    }

    /// Returns the lines that depend on the scope: the target, the file with settings, the order,
    /// the restrictions.
    fn of_scope(&self) -> Result<(&'static str, &'static str, &'static str, String), NotWritable> {
        match self.scope {
            HostScope::User => Ok(("default.target", "%E/gatevisor/service.env", "", String::new())),
            HostScope::System => {
                let user = match &self.user {
                    Some(user) => format!("User={}\n", unexpanded("the user", OsStr::new(user))?),
                    None => String::new(),
                };
                Ok((
                    "multi-user.target",
                    "/etc/default/gatevisor",
                    "Wants=network-online.target\nAfter=network-online.target\n",
                    format!(
                        "{user}PrivateTmp=yes\nProtectSystem=full\nProtectKernelTunables=yes\n\
                         ProtectKernelModules=yes\nRestrictRealtime=yes\nLockPersonality=yes\n"
                    ),
                ))
            }
        }
    }

    fn environment(&self) -> Result<String, NotWritable> {
        let mut text = String::new();
        let path = ("PATH".to_owned(), self.path.clone());
        for (name, value) in std::iter::once(&path).chain(&self.variables) {
            let assignment = format!("{name}={value}");
            let quoted = quoted("the variable", OsStr::new(&assignment), false)?;
            let _ = writeln!(text, "Environment={quoted}");
        }
        Ok(text)
    }
}

fn quoted_path(what: &'static str, path: &Path) -> Result<String, NotWritable> {
    quoted(what, path.as_os_str(), true)
}

/// Returns a word, quoted for a list of words. In a command, `$` has a meaning as well.
fn quoted(what: &'static str, word: &OsStr, in_command: bool) -> Result<String, NotWritable> {
    let text = unexpanded(what, word)?;
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '$' if in_command => quoted.push_str("$$"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

/// Returns text in which systemd expands nothing.
fn unexpanded(what: &'static str, text: &OsStr) -> Result<String, NotWritable> {
    let refused = |why| NotWritable { what, value: text.to_string_lossy().into_owned(), why };
    let text = text.to_str().ok_or_else(|| refused("it is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("it has a control character"));
    }
    Ok(text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::{HostScope, Unit, name};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn unit(scope: HostScope, home: &str) -> Unit {
        Unit {
            scope,
            program: "/usr/bin/gatevisor".into(),
            home: home.into(),
            agent: None,
            user: Some("alice".to_owned()),
            path: "/usr/bin:/bin".to_owned(),
            variables: vec![("HERMES_BIN".to_owned(), "/opt/a b/hermes".to_owned())],
            grace: 60,
        }
    }

    #[test]
    fn each_home_has_a_unit_of_its_own() {
        for (home, expected) in [
            ("/home/alice/.hermes", "gatevisor-home-alice-.hermes.service"),
            ("/home/alice/-hermes/", "gatevisor-home-alice-\\x2dhermes.service"),
            ("/.hermes", "gatevisor-\\x2ehermes.service"),
            ("/srv/a b", "gatevisor-srv-a\\x20b.service"),
            ("/srv/ü", "gatevisor-srv-\\xc3\\xbc.service"),
            ("/", "gatevisor--.service"),
        ] {
            assert_eq!(name(Path::new(home)), expected);
        }
    }

    #[test]
    fn nothing_in_a_path_has_a_meaning_to_systemd() {
        let text = unit(HostScope::System, "/srv/50% \"off\" $HOME \\x").text().unwrap();
        let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            start,
            "ExecStart=\"/usr/bin/gatevisor\" --home \"/srv/50%% \\\"off\\\" $$HOME \\\\x\" up --quiet --grace 60"
        );
        assert!(text.contains("\nEnvironment=\"HERMES_BIN=/opt/a b/hermes\"\n"), "{text}");
    }

    #[test]
    fn the_users_unit_has_no_user_and_the_systems_has_one() {
        let own = unit(HostScope::User, "/home/alice/.hermes").text().unwrap();
        assert!(!own.contains("\nUser=") && own.contains("\nWantedBy=default.target\n"), "{own}");
        let stop = "exec \"$$0\" \"$$@\"' \"/usr/bin/gatevisor\" --home \"/home/alice/.hermes\" down \
                    --drain=30s\n";
        assert!(own.contains(stop), "{own}");
        let systems = unit(HostScope::System, "/home/alice/.hermes").text().unwrap();
        assert!(
            systems.contains("\nUser=alice\n") && systems.contains("\nTimeoutStopSec=105\n"),
            "{systems}"
        );
    }

    #[test]
    fn what_a_unit_cannot_hold_is_refused() {
        for home in [OsStr::from_bytes(b"/srv/\xff"), OsStr::new("/srv/x\nExecStartPre=/bin/evil")] {
            let mut unit = unit(HostScope::System, "/");
            unit.home = home.into();
            let refusal = unit.text().unwrap_err().to_string();
            assert!(refusal.starts_with("a unit cannot hold the home `/srv/"), "{refusal}");
        }
    }
}
