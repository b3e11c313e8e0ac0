//! The command line, as clap sees it. Help texts are here; what the verbs do is not.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// One static program that brings up, watches and keeps every gateway of your AI agents
#[derive(Debug, Parser)]
#[command(name = "gatevisor", version, disable_help_subcommand = true, propagate_version = false)]
pub struct Cli {
    /// What every command may be told
    #[command(flatten)]
    pub common: Common,
    /// The command
    #[command(subcommand)]
    pub command: CliCommand,
}

/// What every command may be told.
#[derive(Debug, Args)]
pub struct Common {
    /// Use this profile, for commands that take one
    #[arg(short = 'p', long = "profile", global = true, value_name = "NAME")]
    pub profile: Option<OsString>,
    /// Use this home; else the agent's home variable (`HERMES_HOME`), else ~/.local/share/gatevisor
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Use this scandir; else `S6_PROFILE_GATEWAY_SCANDIR`, else run/service in the home
    #[arg(long, global = true, value_name = "DIR")]
    pub scandir: Option<PathBuf>,
    /// Read the agent definition from FILE; else /etc/gatevisor/agent.toml, else the built-in one (Hermes)
    #[arg(long, global = true, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Supervise every gateway of the home in the foreground, until Ctrl-C
    #[command(after_help = "Example: gatevisor --home ~/agents up --create")]
    Up(Up),
    /// Boot a container and run its command; the entry point of an image, also called `/init`
    #[command(disable_help_flag = true)]
    Init {
        /// The command and its arguments; none of them is an option of this program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Rewrite every slot from the profiles and their desired states, as each `up` does
    Reconcile {
        /// Print what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Apply an edited agent definition to the service directories
    Reload(Reload),
    /// Make, remove and list profiles
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Start, stop, restart and inspect gateways
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Show a table of all gateways and other services
    Status {
        /// Show only these
        names: Vec<OsString>,
        /// Refresh the table whenever something changes, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// Say what is wrong, why, and which command fixes it; exit 1 if anything is an error
    Doctor,
    /// Execute a program as the owner of the home, without root's terminal; what doctor proposes to root is called so
    #[command(hide = true)]
    AsOwner {
        /// The owner's user and group, as numbers
        #[arg(value_name = "UID:GID")]
        owner: String,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
    /// Give entries of the home to its owner, following no link and leaving no file system; root's
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
    Explain {
        /// The profile; else -p, else the default profile
        name: Option<OsString>,
    },
    /// Tell by the exit code whether gateways work: 0 yes, 1 no
    ///
    /// A gateway works if it is ready, or up where it never says that it is ready. Without names those are judged that
    /// should run; one that is named should.
    Health {
        /// Judge these
        #[arg(conflicts_with = "supervisor")]
        names: Vec<OsString>,
        /// Judge the supervisor alone, as a container's health check should
        #[arg(long)]
        supervisor: bool,
    },
    /// Print the logs of gateways
    #[command(after_help = "Example: gatevisor logs coder --since 10m --grep error")]
    Logs(Logs),
    /// Show all processes of gateways as trees, with what they use
    Tree {
        /// The profiles; else -p, else all that have a slot
        names: Vec<OsString>,
    },
    /// List, show or collect evidence about gateways that did not work
    Incidents(Incidents),
    /// Print the events of gateways as they happen
    Events {
        /// Print only these; all by default
        names: Vec<OsString>,
    },
    /// Wait until a gateway is up, ready, live or down
    #[command(after_help = "Example: gatevisor wait coder --ready --timeout 30")]
    Wait(Wait),
    /// Give this program the names of s6's tools
    #[command(subcommand)]
    Applets(Applets),
    /// Be one of s6's tools
    S6 {
        /// Its name; `gatevisor applets list` lists them
        applet: OsString,
        /// Its own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How to supervise.
#[derive(Debug, Args)]
pub struct Up {
    /// Kill what has not stopped this long after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub grace: u32,
    /// Refuse services beyond so many
    #[arg(long, value_name = "NUMBER", default_value_t = 2000)]
    pub max_services: u32,
    /// Do not wait for the gateways and print no table
    #[arg(short, long)]
    pub quiet: bool,
    /// Make the home that --home or the agent's variable names, if it does not exist
    #[arg(long)]
    pub create: bool,
}

/// What to make anew.
#[derive(Debug, Args)]
pub struct Reload {
    /// The profiles; else all that have a service directory
    pub names: Vec<OsString>,
    /// Restart the gateways that are up and whose directories changed
    #[arg(long)]
    pub restart: bool,
}

/// What can be done with profiles.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// Make a profile, and its slot where a supervisor runs
    Create {
        /// Lower-case letters, digits, `-` and `_`; at most 243
        name: OsString,
        /// Ask for its gateway running, and start it
        #[arg(long)]
        start: bool,
        /// Make the home that --home or the agent's variable names, if it does not exist
        #[arg(long)]
        create: bool,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Stop a profile's gateway and remove the profile with everything in it
    Delete {
        /// The profile
        name: OsString,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// List all profiles
    List,
    /// Show where a profile is and what is desired of it
    Show {
        /// The profile
        name: OsString,
    },
}

/// Which gateways.
#[derive(Debug, Args)]
pub struct Choice {
    /// The profiles, or patterns such as `test-*`; else -p, else the default profile
    #[arg(value_name = "NAME")]
    pub names: Vec<OsString>,
    /// Choose all gateways that have a slot
    #[arg(long, conflicts_with_all = ["names", "failed"])]
    pub all: bool,
    /// Choose all gateways that failed or keep failing
    #[arg(long, conflicts_with = "names")]
    pub failed: bool,
}

/// Which gateways, and how to go about it.
#[derive(Debug, Args)]
pub struct ControlOptions {
    /// Which gateways.
    #[command(flatten)]
    pub choice: Choice,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Return without waiting for the result
    #[arg(long)]
    pub no_wait: bool,
    /// Wait until it is ready; fails if nothing tells whether it is
    #[arg(long, conflicts_with = "no_wait")]
    pub ready: bool,
    /// Without a probe, it is started when it has stayed up this long [default: the agent definition's]
    #[arg(long, value_name = "SECONDS", value_parser = window, conflicts_with = "no_wait")]
    pub window: Option<Duration>,
    /// Give up waiting after this long
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
}

/// Returns a time of seconds, which may have a fraction.
fn window(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "a number of seconds is expected".to_owned())?;
    let longest = Duration::from_hours(1);
    let window = Duration::try_from_secs_f64(seconds).ok().filter(|window| *window <= longest);
    window.ok_or_else(|| "0 to 3600 seconds are possible".to_owned())
}

/// What can be done with gateways.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Ask for a gateway running, and start it
    Start(ControlOptions),
    /// Ask for a gateway stopped, and stop it
    Stop(ControlOptions),
    /// Restart a gateway; one that is down is started
    Restart(ControlOptions),
    /// Show everything that is known of a gateway
    Status(Choice),
    /// Give a profile's gateway a slot; it stays down unless told otherwise
    Register {
        /// The profile; else -p, else the default profile
        name: Option<OsString>,
        /// Ask for it running, and start it
        #[arg(long)]
        start: bool,
        /// Register the gateways of all profiles
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Stop a profile's gateway and take its slot away; the profile and its desired state stay
    Unregister(Choice),
}

/// Which lines to print.
#[derive(Debug, Args)]
pub struct Logs {
    /// The profiles; else -p, else all that have a log
    pub names: Vec<OsString>,
    /// Keep printing new lines, across rotations and restarts
    #[arg(short, long)]
    pub follow: bool,
    /// Print so many last lines of each, or `all`; 10 by default, all with --since or --until
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<String>,
    /// Leave out what was written before; such as `10m`, `2h30m`, `10:00`, `2026-11-20 10:00`, RFC 3339, a line's stamp
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Leave out what was written after
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub until: Option<String>,
    /// Print only lines whose text matches; upper and lower case differ
    #[arg(short, long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// Ignore case in --grep
    #[arg(short, long, requires = "grep")]
    pub ignore_case: bool,
    /// Print every byte as it was written, also what commands a terminal
    #[arg(long)]
    pub raw: bool,
}

/// Which evidence.
#[derive(Debug, Args)]
pub struct Incidents {
    /// The profiles; else -p, else all
    pub names: Vec<OsString>,
    /// Print what was collected
    #[arg(long, value_name = "TIME-NAME", conflicts_with_all = ["names", "collect"])]
    pub show: Option<String>,
    /// Collect evidence about gateways that are up, now; they go on as they are
    #[arg(long)]
    pub collect: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", requires = "collect", default_value = "somebody asked for it")]
    pub reason: String,
}

/// What can be done with the names of s6's tools.
#[derive(Debug, Subcommand)]
pub enum Applets {
    /// List the names, and what each does
    List,
    /// Make a link to this program for every name
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

/// What to wait for.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option, and only one may be given")]
pub struct Wait {
    /// The profile; else -p, else the default profile
    pub name: Option<OsString>,
    /// Wait until it is up (the default)
    #[arg(long, group = "condition")]
    pub up: bool,
    /// Wait until it is up and ready
    #[arg(long, group = "condition")]
    pub ready: bool,
    /// Wait until it has shown that it works; fails if nothing tells
    #[arg(long, group = "condition")]
    pub live: bool,
    /// Wait until it is down and its finish script has ended
    #[arg(long, group = "condition")]
    pub down: bool,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u32>,
}
