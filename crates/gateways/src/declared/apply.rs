//! *Lives here:* carrying a declaration out: before a supervisor starts, and while one runs.
//!
//! *Does not live here:* the decision about each profile (`decide`).
//!
//! Nothing here waits for a gateway. A gateway that does not start is the business of its
//! supervisor, and `status` shows it.

use std::io;
use std::path::{Path, PathBuf};

use gatevisor_paths::by_path;
use gatevisor_slot::dotenv;
use gatevisor_wire::exit::error_chain;
use jiff::Timestamp;

use super::decide::{DeclaredAction, FoundProfileState, decide};
use super::file::{Declaration, DeclaredProfile};
use super::kept::{KeptDeclaration, KeptProfile};
use super::{COMMAND, VARIABLE};
use crate::agent::AgentDefinition;
use crate::desired::{self, Desired, DesiredState, Provenance};
use crate::files::read_bounded;
use crate::lifecycle::{self, NewProfile};
use crate::manager::{GatewayRequest, ScandirManager, ServiceManager, WaitFor};
use crate::profile::{self, Home, OwnVariables, ProfileName, ShowError};
use crate::reconcile::ReconcileSettings;

/// The most bytes of a file with variables.
const MAX_VARIABLES: usize = 1 << 20;

/// What came of carrying a declaration out.
#[derive(Debug, Default)]
pub struct DeclarationPass {
    /// What was done or could not be done, one line each.
    pub notices: Vec<String>,
    /// The profiles that are declared.
    pub names: Vec<ProfileName>,
}

/// What can be done about a profile, with or without a supervisor.
trait Hands {
    fn home(&self) -> &Home;
    fn agent(&self) -> &AgentDefinition;
    /// Returns whether a supervisor runs that has no slot for this profile.
    fn lacks_slot(&self, name: &ProfileName) -> bool;
    /// Makes a profile with these variables, and has its desired state be the declared one.
    fn make(&self, one: &DeclaredProfile, own: &OwnVariables, why: &str) -> Result<Vec<String>, String>;
    /// Has the desired state of a profile be the declared one.
    fn set(&self, one: &DeclaredProfile, why: &str) -> Result<Vec<String>, String>;
}

/// Carries the declaration out that the environment names, before the slots are made. Returns what
/// there is to say.
pub(crate) fn at_boot(settings: &ReconcileSettings<'_>) -> Vec<String> {
    let home = settings.home.root();
    let Some(path) = (settings.variable)(VARIABLE).filter(|path| !path.is_empty()) else {
        let failed = |error| format!("cannot forget what another file of profiles declared: {error}");
        return KeptDeclaration::forget(home).map_err(failed).err().into_iter().collect();
    };
    pass(&Offline(settings), Path::new(&path), true, &mut None).notices
}

/// Carries out what a file declares, while a supervisor runs. `unkept` is what the pass before
/// could not write into the home.
pub(super) fn apply(
    manager: &ScandirManager,
    path: &Path,
    unkept: &mut Option<KeptDeclaration>,
) -> DeclarationPass {
    pass(manager, path, false, unkept)
}

fn pass(
    hands: &dyn Hands,
    path: &Path,
    is_boot: bool,
    unkept: &mut Option<KeptDeclaration>,
) -> DeclarationPass {
    let home = hands.home().root();
    let known = KeptDeclaration::read(home);
    let earlier = unkept.take();
    let is_said = earlier.is_some();
    let before = earlier.or_else(|| known.clone()).filter(|kept| kept.file == path).unwrap_or_default();
    let (declaration, problem) = match Declaration::read(path) {
        Ok(declaration) => (declaration, None),
        Err(error) => (before.last_good(), Some(error_chain(&error))),
    };
    let mut done = DeclarationPass::default();
    if problem != before.problem || is_boot {
        done.notices.extend(of_file(path, problem.as_deref(), before.problem.is_some()));
    }
    let who = Who { path, set_by: declaration.set_by.as_deref() };
    let mut profiles = Vec::new();
    for one in &declaration.profiles {
        let last = before.of(&one.name);
        let (kept, notices) = step(hands, one, last, &who);
        profiles.push(kept);
        done.notices.extend(notices);
    }
    let file = path.to_owned();
    let after = KeptDeclaration { file, problem, set_by: declaration.set_by.clone(), profiles };
    if known.as_ref() != Some(&after)
        && let Err(error) = after.keep(home)
    {
        let shown = path.display();
        let notice = format!("warning: cannot write down in the home what `{shown}` declares: {error}");
        done.notices.extend((!is_said).then_some(notice));
        *unkept = Some(after);
    }
    done.names = declaration.profiles.into_iter().map(|one| one.name).collect();
    done
}

/// Returns what is said about the file as a whole.
fn of_file(path: &Path, problem: Option<&str>, was_bad: bool) -> Option<String> {
    let shown = path.display();
    match problem {
        Some(why) => Some(format!(
            "warning: the profiles file `{shown}` does not count, and the last good one does: {why}"
        )),
        None => was_bad.then(|| format!("the profiles file `{shown}` counts again")),
    }
}

/// Who declares.
struct Who<'a> {
    path: &'a Path,
    set_by: Option<&'a str>,
}

impl Who<'_> {
    /// Returns the reason that is recorded with a desired state.
    fn reason(&self) -> String {
        match self.set_by {
            Some(by) => format!("set by {by}"),
            None => format!("declared in `{}`", self.path.display()),
        }
    }
}

/// Does what is to be done about one profile. Returns what is kept of it, and what there is to say.
fn step(
    hands: &dyn Hands,
    one: &DeclaredProfile,
    last: Option<&KeptProfile>,
    who: &Who<'_>,
) -> (KeptProfile, Vec<String>) {
    let applied = last.and_then(|last| last.applied);
    let kept = |applied, drifts, problem| KeptProfile {
        name: one.name.to_string(),
        desired: one.desired,
        drift: one.drift,
        env_file: one.env_file.clone(),
        applied,
        drifts,
        problem,
    };
    let (name, desired, why) = (&one.name, one.desired, who.reason());
    let action = find(hands, one, applied).map(|found| decide(one, &found));
    let result = match action {
        Err(problem) => Err(problem),
        Ok(DeclaredAction::Leave) if last.is_none_or(|last| last.problem.is_none()) => Ok(Vec::new()),
        Ok(DeclaredAction::KeepDrift) => {
            let is_new = last.is_none_or(|last| !last.drifts);
            let notice = is_new
                .then(|| format!("profile {name} is not {desired} here, which is kept; {desired} was {why}"));
            return (kept(applied, true, None), notice.into_iter().collect());
        }
        Ok(DeclaredAction::Make) => variables(one).and_then(|own| {
            let warnings = hands.make(one, &own, &why)?;
            Ok(said(format!("profile {name} is made, and its gateway shall be {desired}: {why}"), warnings))
        }),
        // The desired state is recorded before it is carried out. What failed is tried again.
        Ok(DeclaredAction::Leave | DeclaredAction::Set) => hands
            .set(one, &why)
            .map(|warnings| said(format!("the gateway of {name} shall be {desired}: {why}"), warnings)),
    };
    match result {
        Ok(notices) => (kept(Some(desired), false, None), notices),
        Err(problem) => {
            let is_new = last.is_none_or(|last| last.problem.as_ref() != Some(&problem));
            let notice = is_new.then(|| format!("warning: profile {name} is not as declared: {problem}"));
            (kept(applied, false, Some(problem)), notice.into_iter().collect())
        }
    }
}

fn said(line: String, warnings: Vec<String>) -> Vec<String> {
    std::iter::once(line).chain(warnings.into_iter().map(|warning| format!("warning: {warning}"))).collect()
}

/// Returns what is there of a declared profile, or why nobody can tell.
fn find(
    hands: &dyn Hands,
    one: &DeclaredProfile,
    applied: Option<Desired>,
) -> Result<FoundProfileState, String> {
    if one.name.is_root() && !hands.agent().default_profile.gateway {
        return Err(format!("{} has no gateway for that profile; leave it out", hands.agent().name));
    }
    let exists = match profile::show(hands.home(), hands.agent(), &one.name) {
        Ok(_) => true,
        Err(ShowError::Missing { .. }) => false,
        Err(error) => return Err(error_chain(&error)),
    };
    // What cannot be read is moved aside when a desired state is recorded.
    let recorded = desired::read(&hands.home().profile_dir(&one.name), &hands.agent().gateway.state_file);
    let recorded = recorded.ok().flatten().and_then(|recorded| recorded.desired_state);
    Ok(FoundProfileState { exists, recorded, applied, lacks_slot: hands.lacks_slot(&one.name) })
}

/// Returns the variables that a new profile gets.
fn variables(one: &DeclaredProfile) -> Result<OwnVariables, String> {
    let Some(path) = &one.env_file else { return Ok(OwnVariables::default()) };
    let failed = |why: &str| format!("cannot read the variables in `{}`: {why}", path.display());
    let bytes = read_bounded(path, MAX_VARIABLES).map_err(|error| failed(&error_chain(&error)))?;
    let bytes = bytes.ok_or_else(|| failed("there is no such file"))?;
    Ok(OwnVariables { given: dotenv::parse(&bytes), ..OwnVariables::default() })
}

/// Changes files only, for the supervisor that starts next.
struct Offline<'a>(&'a ReconcileSettings<'a>);

impl Hands for Offline<'_> {
    fn home(&self) -> &Home {
        self.0.home
    }

    fn agent(&self) -> &AgentDefinition {
        self.0.agent
    }

    fn lacks_slot(&self, _: &ProfileName) -> bool {
        false
    }

    fn make(&self, one: &DeclaredProfile, own: &OwnVariables, why: &str) -> Result<Vec<String>, String> {
        let made = profile::create_with(self.home(), self.agent(), &one.name, own);
        let made = made.map_err(|error| error_chain(&error))?;
        let warnings = made.warning.into_iter().chain(lifecycle::forget(self.home(), &one.name));
        Ok(warnings.chain(self.set(one, why)?).collect())
    }

    fn set(&self, one: &DeclaredProfile, why: &str) -> Result<Vec<String>, String> {
        let state = DesiredState {
            desired: one.desired,
            by: Provenance::here(COMMAND),
            reason: Some(why.to_owned()),
            at: Timestamp::now(),
        };
        let directory: PathBuf = self.home().profile_dir(&one.name);
        let recorded = desired::record_now(&directory, &self.agent().gateway.state_file, state, true);
        recorded
            .map(|(_, recording)| recording.warning.into_iter().collect())
            .map_err(|error| error_chain(&error))
    }
}

fn request(why: &str) -> GatewayRequest {
    let reason = Some(why.to_owned());
    GatewayRequest { reason, wait: WaitFor::Nothing, ..GatewayRequest::here(COMMAND) }
}

impl Hands for ScandirManager {
    fn home(&self) -> &Home {
        Self::home(self)
    }

    fn agent(&self) -> &AgentDefinition {
        Self::agent(self)
    }

    fn lacks_slot(&self, name: &ProfileName) -> bool {
        let slot = by_path::look_itself(self.scandir().join(name.service_entry()));
        slot.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    fn make(&self, one: &DeclaredProfile, own: &OwnVariables, why: &str) -> Result<Vec<String>, String> {
        let starts = one.desired == Desired::Running;
        let (home, agent) = (Self::home(self), Self::agent(self));
        let made = lifecycle::create_profile(self, home, agent, &one.name, own, starts, &request(why));
        let NewProfile { gateway, mut warnings, .. } = made.map_err(|error| error_chain(&error))?;
        gateway.map_err(|error| error_chain(&error))?;
        if !starts {
            warnings.extend(self.set(one, why)?);
        }
        Ok(warnings)
    }

    fn set(&self, one: &DeclaredProfile, why: &str) -> Result<Vec<String>, String> {
        let request = request(why);
        let warnings = match one.desired {
            Desired::Running => self.start(&one.name, &request).map(|done| done.warnings),
            Desired::Stopped => self.stop(&one.name, &request).map(|done| done.warnings),
        };
        warnings.map_err(|error| error_chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::DriftPolicy;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_carried_out_is_remembered_and_said_once_where_it_cannot_be_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let (home, file) = (Home::new(&dir.path().join("home")).unwrap(), dir.path().join("profiles.toml"));
        let agent = AgentDefinition::built_in().unwrap();
        let settings = ReconcileSettings {
            agent: &agent,
            home: &home,
            scandir: &dir.path().join("scandir"),
            interpreter: Path::new("/bin/true"),
            container_argv: &[],
            earlier: None,
            elsewhere: false,
            variable: &|_| None,
            now: "2026-07-20T12:00:00+02:00[Europe/Berlin]".parse().unwrap(),
        };
        let hands = Offline(&settings);
        // Nothing can be renamed to a directory.
        fs::create_dir_all(home.root().join(".gatevisor-profiles/in the way")).unwrap();
        let name = "coder".parse().unwrap();
        drop(profile::create_with(&home, &agent, &name, &OwnVariables::default()).unwrap());
        fs::write(&file, "[[profile]]\nname = \"coder\"\ndesired = \"running\"\ndrift = \"report\"\n")
            .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let mut unkept = None;
        let said = pass(&hands, &file, false, &mut unkept).notices;
        assert!(said.len() == 2 && said[1].contains("cannot write down in the home"), "{said:?}");

        let wanted = DeclaredProfile {
            name: name.clone(),
            desired: Desired::Stopped,
            drift: DriftPolicy::Report,
            env_file: None,
        };
        hands.set(&wanted, "somebody wants it so here").unwrap();
        let said = pass(&hands, &file, false, &mut unkept).notices;
        assert!(said.len() == 1 && said[0].contains("is not running here, which is kept"), "{said:?}");
        assert_eq!(pass(&hands, &file, false, &mut unkept).notices, [""; 0]);

        fs::remove_dir_all(home.root().join(".gatevisor-profiles")).unwrap();
        assert_eq!(pass(&hands, &file, false, &mut unkept).notices, [""; 0]);
        assert_eq!(unkept, None);
        assert!(KeptDeclaration::read(home.root()).unwrap().of(&name).unwrap().drifts);
    }
}
