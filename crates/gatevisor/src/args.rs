//! *Lives here:* the command line, as clap sees it, with its help texts.
//!
//! *Does not live here:* what the verbs do.

mod agents;
mod alerts;
mod drain;
mod import;
mod incidents;
mod metrics;
mod profile;
mod times;
mod up;
mod web;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use agents::AgentsCommand;
pub use alerts::AlertsCommand;
pub use drain::{DrainOptions, DrainedControl, RestartOptions, ThenOption};
pub use import::Import;
pub use incidents::Incidents;
pub use metrics::MetricsOptions;
pub use profile::{EnvCommand, NewVariables, ProfileCommand};
use times::{seconds, window};
pub use up::Up;
pub use web::WebOptions;

/// One static program that brings up, watches and keeps every gateway of your AI agents
#[derive(Debug, Parser)]
#[command(name = "gatevisor", version, propagate_version = false)]
pub struct Cli {
    /// The options of every command
    #[command(flatten)]
    pub common: Common,
    /// What to do
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Use this profile, for commands that take one
    #[arg(short = 'p', long = "profile", global = true, value_name = "NAME")]
    pub profile: Option<OsString>,
    /// Use this home; else `HERMES_HOME` (the agent's), `GATEVISOR_HOME`, ~/.local/share/gatevisor
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Use this scandir; else `S6_PROFILE_GATEWAY_SCANDIR`, else run/service in the home
    #[arg(long, global = true, value_name = "DIR")]
    pub scandir: Option<PathBuf>,
    /// Use the agent definition in FILE, or the built-in one of that name (hermes, openclaw); else
    /// `GATEVISOR_AGENT`, else what the home remembers, else /etc/gatevisor/agent.toml, else hermes
    #[arg(long, global = true, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// What the program can be told to do.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Supervise every gateway of the home in the foreground, until Ctrl-C
    #[command(after_help = "Example: gatevisor --home ~/agents up --create")]
    Up(Up),
    /// Boot a container and run its command; the entry point of an image, also called `/init`
    #[command(disable_help_flag = true, after_help = "Example: gatevisor init hermes gateway run")]
    Init {
        /// The command and its arguments; none of them is an option of this program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Rewrite every slot from the profiles and their desired states, as each `up` does
    #[command(after_help = "Example: gatevisor reconcile --dry-run")]
    Reconcile {
        /// Print what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Apply an edited agent definition to the service directories
    #[command(after_help = "Example: gatevisor reload --restart")]
    Reload(Reload),
    /// List agent definitions, with the versions found and what each can do, or check one
    #[command(args_conflicts_with_subcommands = true)]
    Agents {
        /// What to do; list them by default
        #[command(subcommand)]
        verb: Option<AgentsCommand>,
    },
    /// Make, remove and list profiles
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Start, stop, restart and inspect gateways
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Start gateways, as `gateway start` does
    #[command(after_help = "Example: gatevisor start coder writer")]
    Start(ControlOptions),
    /// Stop gateways, as `gateway stop` does
    #[command(after_help = "Example: gatevisor stop 'test-*'")]
    Stop(DrainedControl),
    /// Restart gateways, as `gateway restart` does
    #[command(after_help = "Example: gatevisor restart --failed --unresponsive")]
    Restart(RestartOptions),
    /// End the supervisor and all its gateways in order; those that shall run come back with the
    /// next `up`
    #[command(after_help = "Example: gatevisor down --timeout 60")]
    Down(Down),
    /// Show a table of all gateways and other services
    #[command(visible_aliases = ["ps", "ls"])]
    #[command(after_help = "Example: gatevisor status --failed")]
    Status(StatusOptions),
    /// Show gateways live on the full screen, with their logs, and act on them; `?` shows the keys
    #[command(after_help = "Example: gatevisor top")]
    Top(Choice),
    /// Say what is wrong, why, and which command fixes it; exit 1 if anything is an error
    #[command(after_help = "Example: gatevisor doctor --json")]
    Doctor,
    /// Execute a program as the owner of the home, without giving it root's terminal
    ///
    /// `gatevisor doctor` proposes this to root, where a fix must not run with root's rights.
    #[command(hide = true)]
    AsOwner {
        /// The owner's user and group, as numbers
        #[arg(value_name = "UID:GID")]
        owner: String,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Give entries of the home to its owner, without following links or crossing file systems
    ///
    /// Only root can do this. `gatevisor doctor` proposes it.
    #[command(hide = true)]
    GiveBack {
        /// The owner's user and group, as numbers
        #[arg(value_name = "UID:GID")]
        owner: String,
        /// What to give, with all that is in it
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Explain why a gateway is in its state, what led there, and what to do
    #[command(after_help = "Example: gatevisor explain coder")]
    Explain {
        #[command(flatten)]
        choice: Choice,
    },
    /// Tell by the exit code whether gateways work: 0 yes, 1 no
    ///
    /// A gateway works if it is ready. One that never reports readiness works if it is up. Without
    /// names, every gateway whose desired state is running is judged. A gateway that you name is
    /// expected to run. The exit code is 111 if you may not look.
    #[command(after_help = "Example: gatevisor health || gatevisor status --failed")]
    Health {
        /// Which gateways; by default all whose desired state is running
        #[command(flatten)]
        choice: Choice,
        /// Judge the supervisor alone, as a container's health check should
        #[arg(long, conflicts_with_all = ["names", "all", "failed", "unresponsive"])]
        supervisor: bool,
    },
    /// Print the logs of gateways
    #[command(after_help = "Example: gatevisor logs coder --since 10m --grep error")]
    Logs(Logs),
    /// Show all processes of gateways as trees, with what they use
    #[command(after_help = "Example: gatevisor tree coder")]
    Tree {
        /// Which gateways; without names all that have a slot.
        #[command(flatten)]
        choice: Choice,
    },
    /// List, show or collect evidence about gateways that did not work
    #[command(after_help = "Example: gatevisor incidents --collect coder")]
    Incidents(Incidents),
    /// Print the events of gateways as they happen
    #[command(after_help = "Example: gatevisor events 'test-*'")]
    Events {
        /// Which gateways; all by default.
        #[command(flatten)]
        choice: Choice,
    },
    /// Wait until a gateway is up, ready, live or down
    #[command(after_help = "Example: gatevisor wait coder --ready --timeout 30")]
    Wait(Wait),
    /// Print metrics for Prometheus, or serve them over HTTP
    ///
    /// Without `--listen` they are printed once, as a textfile collector wants them.
    #[command(after_help = "Example: gatevisor metrics --listen 127.0.0.1:9465")]
    Metrics(MetricsOptions),
    /// Check and try who is told when a gateway does not work
    ///
    /// The `[alerts]` of `gatevisor.toml` in the home say who is told of what.
    /// docs/guides/alerts.md has examples.
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Serve a page and an API with which browsers and programs watch and control the gateways
    ///
    /// It runs with the rights of the owner of the home. At the first start it prints a link to log
    /// in; later `gatevisor web --link` prints one.
    #[command(after_help = "Example: gatevisor web --listen 127.0.0.1:9466")]
    Web(WebOptions),
    /// Make a home from the file of another supervisor
    ///
    /// FILE is pm2's `dump.pm2` or `ecosystem.config.json`, or supervisord's `supervisord.conf`.
    /// Each program becomes a profile with a script `start` and its variables. A message names each
    /// setting that has no counterpart here. FILE and what runs there are left as they are.
    #[command(after_help = "Example: gatevisor --home ~/imported import ~/.pm2/dump.pm2 --dry-run")]
    Import(Import),
    /// Have systemd supervise the home: write, enable and start a unit for it
    ///
    /// If root calls, it is a unit of the system, which runs as the owner of the home. Otherwise it
    /// is a unit of your own. A second call renews the unit.
    #[command(after_help = "Example: sudo gatevisor --home /home/alice/.hermes install")]
    Install(Install),
    /// Stop, disable and remove the unit that `install` made; the home stays as it is
    #[command(after_help = "Example: gatevisor uninstall --user")]
    Uninstall(HostScopeOptions),
    /// Ask systemd about the unit of the home
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Give this program the names of s6's tools
    #[command(subcommand)]
    Applets(Applets),
    /// Be one of s6's tools
    #[command(after_help = "Example: gatevisor s6 s6-svstat run/service/gateway-coder")]
    S6 {
        /// Its name; `gatevisor applets list` lists them
        applet: OsString,
        /// Its own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Write manual pages into a directory, one for each verb
    #[command(after_help = "Example: gatevisor man ~/.local/share/man/man1")]
    Man {
        /// A directory that exists
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print a script that makes a shell complete verbs, options and names of profiles
    #[command(after_help = "Example, for ~/.bashrc: source <(gatevisor completions bash)")]
    Completions {
        /// What reads the script
        shell: clap_complete::Shell,
    },
}

/// What to show, and for which gateways.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// Which gateways; all by default.
    #[command(flatten)]
    pub choice: Choice,
    /// Refresh the table whenever something changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
    /// Print every column of the table, even if the terminal is too narrow for them
    #[arg(long)]
    pub wide: bool,
}

/// Whose service manager is meant.
#[derive(Debug, Args)]
pub struct HostScopeOptions {
    /// Use your own service manager, which is the default unless root calls
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// Use the system's service manager, which is root's default
    #[arg(long)]
    pub system: bool,
}

/// How systemd supervises the home.
#[derive(Debug, Args)]
pub struct Install {
    /// Whose service manager is meant.
    #[command(flatten)]
    pub scope: HostScopeOptions,
    /// Enable the unit, and start nothing now
    #[arg(long)]
    pub no_start: bool,
    /// Stop and disable the units that the agent itself made for gateways of this home
    #[arg(long, conflicts_with = "no_start")]
    pub take_over: bool,
    /// Print the unit, and change nothing
    #[arg(long, conflicts_with = "no_start")]
    pub dry_run: bool,
}

/// What can be asked about the unit of a home.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Show whether the unit is active, since when, and what the supervisor says; exit 1 if not
    #[command(after_help = "Example: gatevisor service status --json")]
    Status(HostScopeOptions),
}

/// How to end the supervisor.
#[derive(Debug, Args)]
pub struct Down {
    /// Let each gateway finish its work for at most TIME first, e.g. `90s` or `5m` [default: 30s]
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
        value_parser = times::limit)]
    pub drain: Option<Duration>,
    /// Return without waiting for the end
    #[arg(long)]
    pub no_wait: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds(), conflicts_with = "no_wait")]
    pub timeout: Option<Duration>,
}

/// What to generate anew.
#[derive(Debug, Args)]
pub struct Reload {
    /// Which gateways; all that have a service directory by default.
    #[command(flatten)]
    pub choice: Choice,
    /// Restart the gateways that are up and whose directories changed
    #[arg(long)]
    pub restart: bool,
}

/// Which gateways. Every verb that takes names takes this.
#[derive(Debug, Default, Args)]
pub struct Choice {
    /// Profiles, or patterns such as 'test-*'; else the one of -p, else what the command says
    #[arg(value_name = "NAME")]
    pub names: Vec<OsString>,
    /// Choose all gateways
    #[arg(long, conflicts_with_all = ["names", "failed", "unresponsive"])]
    pub all: bool,
    /// Choose all gateways that failed or keep failing
    #[arg(long, conflicts_with = "names")]
    pub failed: bool,
    /// Choose all gateways that run and do not respond
    #[arg(long, conflicts_with = "names")]
    pub unresponsive: bool,
}

/// Which gateways, and how.
#[derive(Debug, Args)]
pub struct ControlOptions {
    #[command(flatten)]
    pub choice: Choice,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Return without waiting for the result
    #[arg(long)]
    pub no_wait: bool,
    /// Wait until it is ready; fails if it never reports whether it is
    #[arg(long, conflicts_with = "no_wait")]
    pub ready: bool,
    /// If nothing probes or follows it, or only it itself says that it is ready, count it as
    /// started when it has stayed up this long
    /// [default: from the agent definition]
    #[arg(long, value_name = "SECONDS", value_parser = window, conflicts_with = "no_wait")]
    pub window: Option<Duration>,
    /// Give up waiting after this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    pub timeout: Option<Duration>,
}

/// What can be done with gateways.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Record that a gateway shall run, and start it
    #[command(after_help = "Example: gatevisor gateway start coder --ready")]
    Start(ControlOptions),
    /// Record that a gateway shall be stopped, and stop it
    #[command(after_help = "Example: gatevisor gateway stop 'test-*' --reason upgrade")]
    Stop(DrainedControl),
    /// Restart a gateway; one that is down is started
    #[command(after_help = "Example: gatevisor gateway restart coder --drain=2m")]
    Restart(RestartOptions),
    /// Have a gateway take no new work and end what is under way, then stop or restart it
    ///
    /// Without --then, it is kept from new work until the time is over or Ctrl-C.
    #[command(after_help = "Example: gatevisor gateway drain coder --for 5m --then restart")]
    Drain(DrainOptions),
    /// Show everything that is known of a gateway
    #[command(after_help = "Example: gatevisor gateway status coder")]
    Status(Choice),
    /// Make a slot for a profile's gateway, which stays down without --start
    #[command(after_help = "Example: gatevisor gateway register --all")]
    Register {
        /// Which gateways; with --all those of all profiles that have no slot.
        #[command(flatten)]
        choice: Choice,
        /// Record that it shall run, and start it
        #[arg(long)]
        start: bool,
    },
    /// Stop a profile's gateway and take its slot away; the profile and its desired state stay
    #[command(after_help = "Example: gatevisor gateway unregister coder")]
    Unregister(Choice),
}

/// Which lines to print.
#[derive(Debug, Args)]
pub struct Logs {
    /// Which gateways; all that have a log by default.
    #[command(flatten)]
    pub choice: Choice,
    /// Keep printing new lines, across rotations and restarts
    #[arg(short, long)]
    pub follow: bool,
    /// Print the last N lines of each gateway, or `all`; 10 by default, all with --since or --until
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<String>,
    /// Leave out what was written before this time: `10m`, `2h30m`, `10:00`, `2026-11-20 10:00`,
    /// RFC 3339, or the stamp of a line
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Leave out what was written after this time
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub until: Option<String>,
    /// Print only lines whose text matches; upper and lower case differ
    #[arg(short, long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// Ignore case in --grep
    #[arg(short, long, requires = "grep")]
    pub ignore_case: bool,
    /// Print every byte as it was written, control characters for terminals included
    #[arg(long)]
    pub raw: bool,
}

/// What can be done with the names of s6's tools.
#[derive(Debug, Subcommand)]
pub enum Applets {
    /// List the names, and what each does
    #[command(after_help = "Example: gatevisor applets list")]
    List,
    /// Make a link to this program for every name
    #[command(after_help = "Example: gatevisor applets install /command")]
    Install {
        /// Where, such as /command; made if it is missing
        dir: PathBuf,
        /// Make links that lead from DIR to this program, instead of absolute ones
        #[arg(long)]
        relative: bool,
        /// Replace what is in the way
        #[arg(long)]
        force: bool,
    },
}

/// The condition to wait for.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option, and only one may be given")]
pub struct Wait {
    #[command(flatten)]
    pub choice: Choice,
    /// Wait until it is up (the default)
    #[arg(long, group = "condition")]
    pub up: bool,
    /// Wait until it is up and ready
    #[arg(long, group = "condition")]
    pub ready: bool,
    /// Wait until it has shown that it works; fails if it never shows whether it does
    #[arg(long, group = "condition")]
    pub live: bool,
    /// Wait until it is down and its finish script has ended
    #[arg(long, group = "condition")]
    pub down: bool,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    pub timeout: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// The verbs whose names are new, and not chosen among the existing profiles.
    const NEW: [&str; 1] = ["create"];

    fn check(command: &clap::Command) {
        let id = |argument: &clap::Arg| argument.get_id().to_string();
        let all: Vec<String> = command.get_arguments().map(id).collect();
        let takes_name =
            command.get_positionals().any(|argument| ["name", "names"].contains(&&*id(argument)));
        if takes_name && !NEW.contains(&command.get_name()) {
            for option in ["names", "all", "failed", "unresponsive"] {
                assert!(all.iter().any(|known| known == option), "{}: {option}", command.get_name());
            }
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn every_verb_that_takes_a_name_takes_several_all_and_those_in_a_state() {
        check(&Cli::command());
    }

    fn has_example(command: &clap::Command, missing: &mut Vec<String>) {
        let is_leaf = command.get_subcommands().next().is_none();
        let is_shown = !command.is_hide_set();
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if is_leaf && is_shown && !example.starts_with("Example") {
            missing.push(command.get_name().to_owned());
        }
        command.get_subcommands().for_each(|command| has_example(command, missing));
    }

    #[test]
    fn the_help_of_every_verb_has_an_example() {
        let mut missing = Vec::new();
        has_example(&Cli::command(), &mut missing);
        assert_eq!(missing, [""; 0]);
    }
}
