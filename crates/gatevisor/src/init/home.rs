//! The home at a boot: making it, giving it to the agent, and filling it.
//!
//! *Lives here:* which user does which step, within which time limit, and the messages.
//! *Does not live here:* the steps (`gatevisor_boot`).

use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use gatevisor_boot::environment::{self, Variable};
use gatevisor_boot::repair::Repair;
use gatevisor_boot::{hooks, seed, volume};
use gatevisor_gateways::agent::BootStep;
use gatevisor_paths::OpenHome;
use rustix::fs::Mode;

use super::container_boot::{ContainerBoot, as_agent, within};
use super::stop::Stop;
use crate::{enter, out};

/// The mode of a home that is made.
const HOME_MODE: Mode = Mode::from_raw_mode(0o755);
/// How long the search for files that are not the agent's may exceed the limit at which it stops by
/// itself.
const REPAIR_SLACK: Duration = Duration::from_secs(5);

impl ContainerBoot<'_> {
    /// Makes the home, and gives it and everything that the agent uses in it to the agent.
    pub(super) fn repair(&mut self, limit: Option<Duration>) -> Result<(), Stop> {
        match OpenHome::open_or_make(&self.home, HOME_MODE) {
            Ok(home) => self.opened = Some(home),
            // The user who controls that place makes it.
            Err(error @ gatevisor_paths::HomeError::NotMade { .. }) => {
                out::warn(&format!("{error}; the agent makes it, if it may"));
                self.opened = self.made_by_agent(limit)?;
            }
            Err(error) => {
                out::warn(&format!("cannot use the home `{}`: {error}", self.home.display()));
            }
        }
        let (Some(user), Some(home)) = (&self.user, &self.opened) else { return Ok(()) };
        let container = &self.agent.container;
        let ended = self.runner.run(limit.map(|limit| limit.saturating_add(REPAIR_SLACK)), || {
            let until = limit.and_then(|limit| Instant::now().checked_add(limit));
            let mut progress = |line: String| drop(out::line(format_args!("init: {line}")));
            let mut repair = match Repair::new(home, (user.uid, user.gid), until, &mut progress) {
                Ok(repair) => repair,
                Err(refused) => {
                    let _ = out::line(format_args!("init: warning: {refused}"));
                    return 0;
                }
            };
            if repair.home_is_foreign() {
                repair.home();
                container.owned_at_first.iter().for_each(|path| repair.tree(path));
            }
            container.owned.iter().for_each(|path| repair.tree(path));
            container.owned_files.iter().for_each(|path| repair.file(path));
            let outcome = repair.finish();
            for complaint in &outcome.complaints {
                let _ = out::line(format_args!("init: warning: {complaint}"));
            }
            if outcome.changed > 0 {
                let _ = out::line(format_args!(
                    "init: gave {} of {} entries looked at in `{}` to its user",
                    outcome.changed,
                    outcome.looked_at,
                    home.path().display()
                ));
            }
            0
        });
        within("looking for what is not the agent's", ended).map(drop)
    }

    /// Lets the agent make its home, below a directory that is not root's, and returns it.
    fn made_by_agent(&mut self, limit: Option<Duration>) -> Result<Option<OpenHome>, Stop> {
        let (user, home) = (self.user.as_ref(), &self.home);
        let ended = self.runner.run(limit, || {
            as_agent(user, || match OpenHome::open_or_make(home, HOME_MODE) {
                Ok(_) => 0,
                Err(error) => {
                    out::warn(&format!("cannot make the home `{}`: {error}", home.display()));
                    1
                }
            })
        });
        within("making the home", ended)?;
        Ok(OpenHome::open(&self.home).ok())
    }

    /// Makes the initial contents of a home, and runs the agent's own steps.
    pub(super) fn seed(&mut self, limit: Option<Duration>) -> Result<(), Stop> {
        let (agent, variables) = (&self.agent, &self.variables);
        let user = self.user.as_ref();
        if let Some(opened) = &self.opened {
            let seeded = self.runner.run(limit, || {
                as_agent(user, || {
                    let lookup = |name: &str| environment::get(variables, name);
                    if let Err(errno) = volume::make(opened) {
                        out::warn(&format!("cannot make `{}` in the home: {errno}", volume::FILE));
                    }
                    for complaint in seed::seed(&agent.container, opened, &lookup) {
                        let _ = out::line(format_args!("init: warning: {complaint}"));
                    }
                    0
                })
            });
            within("filling the home", seeded)?;
        }
        for step in self.agent.container.steps.clone() {
            self.run_step(&step, limit)?;
        }
        Ok(())
    }

    /// Runs one of the agent's own steps, if it is asked for. Its failure does not end the boot.
    fn run_step(&mut self, step: &BootStep, limit: Option<Duration>) -> Result<(), Stop> {
        let (home, variables, user) = (&self.home, &self.variables, self.user.as_ref());
        if !is_asked_for(step, variables) {
            return Ok(());
        }
        let lookup = |name: &str| environment::get(variables, name).map(OsStr::to_owned);
        let expanded: Result<Vec<OsString>, _> =
            step.command.iter().map(|word| gatevisor_slot::expand(word, &lookup)).collect();
        let Ok(argv) = expanded else {
            let name = &step.name;
            out::warn(&format!("{name} is left out: its command names a variable that is not set"));
            return Ok(());
        };
        let mut own = variables.clone();
        environment::set(&mut own, "HOME", enter::user_home(user, home));
        let ended = self.runner.run(limit, || {
            as_agent(user, || {
                // The agent looks itself, whatever it has put there.
                if !step.needs.iter().all(|path| home.join(path).exists()) {
                    return 0;
                }
                let errno = hooks::become_program(&argv, own, home);
                out::warn(&format!("cannot execute `{}`: {errno}", argv.first().map_or("", |_| &step.name)));
                127
            })
        });
        if let Some(ended) = within(&step.name, ended)?
            && !ended.success()
        {
            out::warn(&format!("{} failed: {ended}; the boot goes on", step.name));
        }
        Ok(())
    }
}

fn is_asked_for(step: &BootStep, variables: &[Variable]) -> bool {
    let set = |name: &String| environment::get(variables, name).is_some_and(|value| !value.is_empty());
    step.variable.as_ref().is_none_or(set)
}
