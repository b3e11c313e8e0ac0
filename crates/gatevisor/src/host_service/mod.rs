//! `gatevisor install`, `uninstall` and `service status`: the service manager of the machine.
//!
//! *Lives here:* which unit a home has, writing and removing it, and the messages about it.
//! *Does not live here:* the text of a unit (`unit`), talking to systemd (`systemctl`), units that
//! ran the gateways before (`former`), and the notifications from the supervisor to systemd
//! (`gatevisor_init`).
//!
//! The unit supervises a whole home. A profile has no unit of its own.

mod former;
mod owner;
mod status;
mod systemctl;
mod unit;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gatevisor_client::ScanDir;
use gatevisor_gateways::agent::AgentDefinition;
use gatevisor_gateways::desired::{self, Desired, DesiredState, Provenance};
use gatevisor_gateways::files;
use gatevisor_gateways::profile::Home;
use gatevisor_sys::user::User;
use jiff::Timestamp;
use serde_json::json;

use crate::args::{self, Common};
use crate::container_scandir::variable;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;
use former::{FormerUnit, UsedUnit};
use owner::as_owner;
use unit::{HostScope, MAX_UNIT, Unit};

pub use former::units_beside as former_units;
pub use status::status;

/// Seconds that are added to the longest time that a gateway may take to end.
const GRACE_MARGIN: u64 = 10;

/// The shortest grace, in seconds.
const SHORTEST_GRACE: u64 = 60;

/// What a command does with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It changes the unit, for which the service manager of the system needs root.
    Changes,
    /// It only asks.
    Asks,
}

/// A home and its unit.
struct HostUnit {
    scope: HostScope,
    name: String,
    path: PathBuf,
    home: Home,
    agent: AgentDefinition,
    /// The user whom the gateways run as.
    owner: User,
}

impl HostUnit {
    fn find(common: &Common, asked: &args::HostScopeOptions, purpose: Purpose) -> Result<Self, CommandError> {
        if common.profile.is_some() {
            return Err(CommandError::new(
                Exit::Usage,
                "a unit supervises all profiles of a home, and no profile has one of its own; `gatevisor start NAME` starts \
                 one, and the home's supervisor brings it back after each boot",
            ));
        }
        let scope = scope(asked, purpose)?;
        let agent = AgentDefinition::load(common.agent.as_deref())?;
        let home = Home::resolve(common.home.as_deref(), &agent, &variable)?;
        let owner = owner::owner(&home)?;
        let name = unit::name(home.root());
        let path = directory(scope)?.join(&name);
        Ok(Self { scope, name, path, home, agent, owner })
    }

    /// Returns the unit's text.
    fn text(&self, common: &Common) -> Result<String, CommandError> {
        let budget = self.agent.gateway.stop_timeout_ms.div_ceil(1000).saturating_add(GRACE_MARGIN);
        let program = gatevisor_sys::process::own_program().map_err(|error| {
            CommandError::new(Exit::System, format!("cannot find this program's own file: {error}"))
        })?;
        let agent = common.agent.as_deref().map(std::path::absolute).transpose();
        let agent = agent.map_err(|error| {
            CommandError::new(Exit::Usage, format!("cannot use the agent definition: {error}"))
        })?;
        let unit = Unit {
            scope: self.scope,
            program,
            home: self.home.root().to_owned(),
            agent,
            user: (self.scope == HostScope::System).then(|| self.user()),
            path: self.search_path(),
            variables: self.variables(),
            grace: budget.max(SHORTEST_GRACE),
        };
        unit.text().map_err(|refused| CommandError::of(Exit::Usage, &refused))
    }

    fn user(&self) -> String {
        if self.owner.name.is_empty() {
            self.owner.uid.to_string()
        } else {
            String::from_utf8_lossy(&self.owner.name).into_owned()
        }
    }

    /// Returns the directories in which gateways look for programs. The list of systemd itself has
    /// no directory of a user.
    fn search_path(&self) -> String {
        let system = gatevisor_sys::environment::DEFAULT_PATH;
        match self.scope {
            HostScope::User => systemctl::variable("PATH").unwrap_or_else(|| system.to_owned()),
            HostScope::System => {
                format!(
                    "{}/.local/bin:{system}",
                    String::from_utf8_lossy(&self.owner.home).trim_end_matches('/')
                )
            }
        }
    }

    /// Returns the variables that name the agent's program.
    fn variables(&self) -> Vec<(String, String)> {
        let name = format!("{}BIN", self.agent.prefix());
        systemctl::variable(&name).map(|value| (name, value)).into_iter().collect()
    }

    /// Returns the text of the unit that is installed, if it is one of ours.
    fn present(&self) -> Result<Option<String>, CommandError> {
        let foreign = |why: &str| {
            CommandError::new(
                Exit::No,
                format!("`{}` is left as it is: {why}; remove it yourself, or keep it", self.path.display()),
            )
        };
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("look at", &error)),
            Ok(found) if !found.is_file() => return Err(foreign("it is no file")),
            Ok(found) if found.len() > MAX_UNIT => {
                return Err(foreign("it is not made by `gatevisor install`"));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&self.path).map_err(|error| self.failed("read", &error))?;
        if text.lines().next() == Some(unit::MARK) {
            Ok(Some(text))
        } else {
            Err(foreign("it is not made by `gatevisor install`"))
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> CommandError {
        CommandError::new(Exit::System, format!("cannot {what} the unit `{}`: {error}", self.path.display()))
    }

    /// Returns the other units in that directory that run gateways of the home.
    fn former(&self) -> Result<Vec<FormerUnit>, CommandError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        former::find(directory, &self.home, &self.agent.home_variable())
            .map_err(|error| self.failed("look beside", &error))
    }

    /// Replaces the unit by one with this text, with one rename.
    fn write(&self, text: &str) -> Result<(), CommandError> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(|error| self.failed("make a directory for", &error))?;
        let written = files::open_directory(parent).and_then(|parent| {
            let aside = files::write_beside(parent.as_fd(), &self.name, text.as_bytes(), 0o644)?;
            files::commit(parent.as_fd(), &aside, &self.name)
        });
        written.map_err(|error| self.failed("write", &error))
    }

    /// Puts back the unit that was installed before.
    fn restore(&self, before: Option<&str>) {
        let restored = match before {
            Some(text) => self.write(text),
            None => fs::remove_file(&self.path).map_err(|error| self.failed("remove", &error)),
        };
        if let Err(error) = restored {
            out::warn(&error.message);
        }
        let _ = systemctl::call(self.scope, &["daemon-reload"]);
    }

    fn is_active(&self) -> bool {
        let state = systemctl::properties(self.scope, &self.name, &["ActiveState"]);
        state.is_ok_and(|state| {
            state
                .get("ActiveState")
                .is_some_and(|state| ["active", "activating", "reloading"].contains(&state.as_str()))
        })
    }
}

/// Returns the service manager that is meant: root's is that of the system.
fn scope(asked: &args::HostScopeOptions, purpose: Purpose) -> Result<HostScope, CommandError> {
    let is_root = rustix::process::geteuid().is_root();
    match (asked.user, asked.system) {
        // As under `sudo -E`, `HOME` may belong to another user, whose links root would follow.
        (true, _) if is_root => Err(CommandError::new(
            Exit::Usage,
            "root's own service manager is the system's; call this as the user, or without --user",
        )),
        (true, _) => Ok(HostScope::User),
        (false, true) if !is_root && purpose == Purpose::Changes => Err(CommandError::new(
            Exit::Usage,
            "only root changes the system's units; call it with sudo, or with --user for a unit of your own",
        )),
        (false, true) => Ok(HostScope::System),
        (false, false) => Ok(if is_root { HostScope::System } else { HostScope::User }),
    }
}

/// Returns where units of this scope are.
fn directory(scope: HostScope) -> Result<PathBuf, CommandError> {
    if scope == HostScope::System {
        return Ok("/etc/systemd/system".into());
    }
    let configuration = variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let own = || {
        variable("HOME").map(PathBuf::from).filter(|path| path.is_absolute()).map(|home| home.join(".config"))
    };
    configuration
        .or_else(own)
        .map(|path| path.join("systemd/user"))
        .ok_or_else(|| CommandError::new(Exit::Usage, "it is unknown where your units are: HOME is not set"))
}

/// Writes, enables and starts the unit of a home.
pub fn install(common: &Common, options: &args::Install) -> Outcome {
    let unit = HostUnit::find(common, &options.scope, Purpose::Changes)?;
    let text = unit.text(common)?;
    let former = unit.former()?;
    if options.dry_run {
        return print(&unit, &text, &former, options.take_over);
    }
    systemctl::must_run()?;
    let before = unit.present()?;
    let was_active = unit.is_active();
    if !options.no_start && !was_active {
        must_be_free(&unit)?;
    }
    let former = former::in_use(unit.scope, former)?;
    if !options.take_over {
        must_be_alone(&former)?;
    }
    let is_changed = before.as_deref() != Some(&*text);
    if is_changed {
        unit.write(&text)?;
    }
    let enabled = systemctl::call(unit.scope, &["daemon-reload"])
        .and_then(|_| systemctl::call(unit.scope, &["enable", "--", &unit.name]))
        .and_then(|_| take_over(&unit, &former));
    if let Err(error) = enabled {
        if before.is_none() {
            let _ = systemctl::call(unit.scope, &["disable", "--", &unit.name]);
        }
        if is_changed {
            unit.restore(before.as_deref());
        }
        return Err(error);
    }
    let is_new = (is_changed && before.is_some()) || (was_active && !former.is_empty());
    let verb = if is_new { "restart" } else { "start" };
    if !options.no_start {
        out::say(format_args!("starting `{}`", unit.name));
        if let Err(error) = systemctl::call(unit.scope, &[verb, "--", &unit.name]) {
            if !former.is_empty() {
                let _ = systemctl::call(unit.scope, &["disable", "--now", "--", &unit.name]);
                former::put_back(unit.scope, &former);
            }
            let hint = format!("journalctl {} --unit '{}'", unit.scope.option(), unit.name);
            return Err(error.with_hint(hint));
        }
    }
    told_of_lingering(&unit);
    if !former.is_empty() {
        out::say(format_args!(
            "gateways of `{0}` cannot use sudo, unlike those of the former units; if an agent needs it: \
             `systemctl {1} edit {0}`, NoNewPrivileges=no below [Service], and see docs/start/vps.md",
            unit.name,
            unit.scope.option()
        ));
    }
    tell(common, &unit, if options.no_start { "enabled" } else { "enabled and started" })
}

/// Prints the unit, and lists the other units that run gateways of the home.
fn print(unit: &HostUnit, text: &str, former: &[FormerUnit], takes_over: bool) -> Outcome {
    for FormerUnit { name, profile } in former {
        let what = if takes_over { "it would be" } else { "with --take-over it would be" };
        out::say(format_args!(
            "`{name}` runs the gateway of {}; {what} stopped and disabled if it is in use",
            profile.as_str()
        ));
    }
    out::say(format_args!("this would be `{}`:", unit.path.display()));
    for line in text.lines() {
        out::line(line.to_owned())?;
    }
    DONE
}

/// Refuses a home if other units run gateways of it, because two gateways would serve one profile.
fn must_be_alone(former: &[UsedUnit]) -> Result<(), CommandError> {
    let Some(UsedUnit { unit: FormerUnit { name, profile }, .. }) = former.first() else { return Ok(()) };
    Err(CommandError::new(
        Exit::AlreadySupervised,
        format!(
            "`{name}` runs the gateway of {}; `gatevisor install --take-over` stops and disables such units, and \
             runs their gateways from then on",
            profile.as_str()
        ),
    ))
}

/// Stops the units that ran gateways of the home, and records that these gateways shall run here.
/// If one step fails, all are undone.
fn take_over(unit: &HostUnit, former: &[UsedUnit]) -> Result<(), CommandError> {
    if former.is_empty() {
        return Ok(());
    }
    former::stop(unit.scope, former)?;
    let record = || {
        former.iter().filter(|former| former.is_active).all(|former| {
            let state = DesiredState {
                desired: Desired::Running,
                by: Provenance::here("install"),
                reason: Some(format!("{} ran it", former.unit.name)),
                at: Timestamp::now(),
            };
            let place = unit.home.profile_dir(&former.unit.profile);
            desired::record(&place, &unit.agent.gateway.state_file, &state).is_ok()
        })
    };
    let recorded = as_owner(&unit.owner, record).and_then(|done| {
        let home = unit.home.root().display();
        let failed = || format!("cannot record in `{home}` which gateways shall run; nothing was taken over");
        if done { Ok(()) } else { Err(CommandError::new(Exit::System, failed())) }
    });
    recorded.inspect_err(|_| former::put_back(unit.scope, former))
}

/// Refuses a home that has a supervisor outside of the unit.
fn must_be_free(unit: &HostUnit) -> Result<(), CommandError> {
    if !is_supervised(unit)? {
        return Ok(());
    }
    let home = unit.home.root().display();
    Err(CommandError::new(
        Exit::AlreadySupervised,
        format!(
            "another supervisor has the home `{home}`; end it with `gatevisor --home {home} down`, then call this \
             again: what runs now comes back under the unit"
        ),
    ))
}

/// Returns whether a supervisor has the home.
fn is_supervised(unit: &HostUnit) -> Result<bool, CommandError> {
    let scandir = ScanDir::new(unit.home.scandir());
    as_owner(&unit.owner, || scandir.running().unwrap_or(false))
}

/// Says what a user's units need so that they run without a session.
fn told_of_lingering(unit: &HostUnit) {
    if unit.scope == HostScope::User && systemctl::lingers(unit.owner.uid) == Some(false) {
        out::warn(
            "your units end when you log out, and start when you log in; `loginctl enable-linger` lets them run \
             from boot on",
        );
    }
}

/// Stops, disables and removes the unit of a home; the home stays.
pub fn uninstall(common: &Common, asked: &args::HostScopeOptions) -> Outcome {
    let unit = HostUnit::find(common, asked, Purpose::Changes)?;
    if unit.present()?.is_none() {
        return Err(CommandError::new(
            Exit::No,
            format!("there is no unit `{}`, so nothing was removed", unit.path.display()),
        ));
    }
    systemctl::must_run()?;
    out::say(format_args!("stopping `{}`", unit.name));
    systemctl::call(unit.scope, &["disable", "--now", "--", &unit.name])?;
    fs::remove_file(&unit.path).map_err(|error| unit.failed("remove", &error))?;
    systemctl::call(unit.scope, &["daemon-reload"])?;
    tell(common, &unit, "removed; the home and its profiles are as they were")
}

fn tell(common: &Common, unit: &HostUnit, words: &str) -> Outcome {
    if common.json {
        out::json(
            &json!({ "unit": unit.name, "path": unit.path.display().to_string(), "ok": true, "result": words }),
        )?;
    } else {
        out::line(format!("{}: {words}", unit.name))?;
    }
    DONE
}
