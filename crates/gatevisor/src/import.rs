//! `gatevisor import`: a new home from the file of another supervisor.
//!
//! *Lives here:* making the whole home or nothing. *Does not live here:* the meaning of the files
//! (`gatevisor_import`).

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use gatevisor_gateways::agent::{AgentDefinition, remember};
use gatevisor_gateways::desired::{self, Desired, DesiredState, Provenance};
use gatevisor_gateways::files::{Staging, open_directory};
use gatevisor_gateways::profile::{self, Home, OwnVariables, ProfileName};
use gatevisor_gateways::read_bounded;
use gatevisor_import::{Imported, ImportedGateway, MAX_BYTES};
use gatevisor_paths::{Authority, OpenHome};
use gatevisor_wire::exit::error_chain;
use jiff::Timestamp;
use rustix::fs::fsync;
use serde_json::json;

use crate::args::{self, Common};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;

/// The definition's file in the new home.
const DEFINITION: &str = "agent.toml";

/// Makes a home, or prints what it would contain.
pub fn run(common: &Common, options: &args::Import) -> Outcome {
    let Some(home) = common.home.as_deref().filter(|_| common.profile.is_none()) else {
        return Err(CommandError::new(
            Exit::Usage,
            "an import makes a home of its own; name it: gatevisor --home ~/imported import FILE",
        ));
    };
    let home = std::path::absolute(home)
        .map_err(|error| CommandError::new(Exit::Usage, format!("cannot use the home: {error}")))?;
    let file = options.file.display();
    let imported = read(&options.file)?;
    must_be_new(&home)?;
    if !options.dry_run {
        make(&home, &imported, &options.file)?;
        if let Err(error) = remember::remember(&home, &home.join(DEFINITION)) {
            let definition = home.join(DEFINITION);
            out::warn(&format!(
                "the home cannot remember its agent definition: {error}; give --agent {}",
                definition.display()
            ));
        }
    }
    tell(common, &home, &imported, options)?;
    if !common.json && !options.dry_run {
        out::hint(format!(
            "nothing of {file} was stopped or changed; when it no longer runs there: gatevisor --home {} up",
            home.display()
        ));
    }
    DONE
}

fn read(file: &Path) -> Result<Imported, CommandError> {
    let refused =
        |exit, why: String| CommandError::new(exit, format!("cannot import `{}`: {why}", file.display()));
    let bytes = read_bounded(file, MAX_BYTES)
        .map_err(|error| refused(Exit::System, error_chain(&error)))?
        .ok_or_else(|| refused(Exit::No, "there is no such file".to_owned()))?;
    let text = String::from_utf8(bytes).map_err(|_| refused(Exit::No, "it is no text".to_owned()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let directory = std::path::absolute(file).ok().and_then(|path| path.parent().map(Path::to_owned));
    let directory = directory.unwrap_or_default().to_string_lossy().into_owned();
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    gatevisor_import::read(&name, &text, &directory, &variable)
        .map_err(|error| refused(Exit::No, error.to_string()))
}

/// Refuses a home that exists and is not empty. As root, it refuses a home in a directory of
/// another user.
fn must_be_new(home: &Path) -> Result<(), CommandError> {
    let shown = home.display();
    let is_root = rustix::process::geteuid().is_root();
    match OpenHome::authority_over(home, &[]) {
        Ok(Authority::Ours) => {}
        Ok(_) if is_root => {
            return Err(CommandError::new(
                Exit::Usage,
                format!(
                    "root makes no home where others decide what is there: call this as the user of the gateways, not for `{shown}`"
                ),
            ));
        }
        Ok(_) => {}
        Err(error) => return Err(CommandError::of(Exit::System, &error)),
    }
    match fs::read_dir(home).map(|mut entries| entries.next().is_none()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CommandError::new(Exit::System, format!("cannot use the home `{shown}`: {error}"))),
        Ok(false) => Err(CommandError::new(
            Exit::No,
            format!("the home `{shown}` is not empty, and is left as it is; name a new one with --home"),
        )),
        Ok(true) => Ok(()),
    }
}

/// Makes the home beside its place, and then moves it there with one rename.
fn make(home: &Path, imported: &Imported, file: &Path) -> Result<(), CommandError> {
    let failed = |error: io::Error| {
        CommandError::new(Exit::System, format!("cannot make the home `{}`: {error}", home.display()))
    };
    let (Some(parent), Some(name)) = (home.parent(), home.file_name().and_then(OsStr::to_str)) else {
        return Err(CommandError::new(Exit::Usage, format!("`{}` is no place for a home", home.display())));
    };
    fs::create_dir_all(parent).map_err(failed)?;
    let staging = Staging::new(parent, 0o700).map_err(failed)?;
    fill(&staging.path(), imported, file)?;
    staging.sync().map_err(failed)?;
    // An empty directory is removed. A directory that is no longer empty stays, and makes the
    // rename fail.
    let _ = fs::remove_dir(home);
    staging.publish(name).map_err(|errno| failed(errno.into()))?;
    let parent = open_directory(parent).map_err(failed)?;
    fsync(parent).map_err(|errno| failed(errno.into()))
}

/// Writes everything that the new home contains.
fn fill(path: &Path, imported: &Imported, file: &Path) -> Result<(), CommandError> {
    let failed = |what: &str, error: &dyn std::error::Error| {
        CommandError::new(
            Exit::System,
            format!("cannot make {what}: {}; nothing was imported", error_chain(error)),
        )
    };
    let text = imported.definition(&file.to_string_lossy());
    write(&path.join(DEFINITION), 0o600, &text).map_err(|error| failed("the agent definition", &error))?;
    let agent = AgentDefinition::parse(&text, DEFINITION)?;
    let home = Home::new(path)?;
    for gateway in &imported.gateways {
        let what = format!("the profile {}", gateway.profile);
        let name = ProfileName::new(gateway.profile.as_bytes()).map_err(|error| failed(&what, &error))?;
        let given = gateway.variables.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        let own = OwnVariables { given, ..OwnVariables::default() };
        let made = profile::create_with(&home, &agent, &name, &own).map_err(|error| failed(&what, &error))?;
        write(&made.profile.path.join("start"), 0o700, &gateway.script())
            .map_err(|error| failed(&what, &error))?;
        let wanted = if gateway.is_wanted { Desired::Running } else { Desired::Stopped };
        let state = DesiredState {
            desired: wanted,
            by: Provenance::here("import"),
            reason: Some(format!("imported from {}", file.display())),
            at: Timestamp::now(),
        };
        let recorded = desired::record(&made.profile.path, &agent.gateway.state_file, &state);
        let recorded = recorded.map_err(|error| failed(&what, &error))?;
        out::warn_all(&recorded.warning.into_iter().collect::<Vec<_>>());
    }
    Ok(())
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn tell(
    common: &Common,
    home: &Path,
    imported: &Imported,
    options: &args::Import,
) -> Result<(), CommandError> {
    if common.json {
        let gateways: Vec<_> = imported
            .gateways
            .iter()
            .map(|gateway| {
                json!({
                    "profile": gateway.profile,
                    "called": gateway.called,
                    "command": gateway.words,
                    "desired_state": if gateway.is_wanted { "running" } else { "stopped" },
                    "variables": gateway.variables.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                    "without_counterpart": gateway.lost,
                })
            })
            .collect();
        return out::json(&json!({
            "home": home.display().to_string(),
            "made": !options.dry_run,
            "gateways": gateways,
            "without_counterpart": imported.lost,
        }));
    }
    let made = if options.dry_run { "would make" } else { "made" };
    let count = imported.gateways.len();
    let profiles = if count == 1 { "profile" } else { "profiles" };
    out::line(format!("{made} the home {} with {count} {profiles}", home.display()))?;
    for gateway in &imported.gateways {
        tell_one(gateway)?;
    }
    for line in &imported.lost {
        out::line(format!("not imported: {line}"))?;
    }
    Ok(())
}

fn tell_one(gateway: &ImportedGateway) -> Result<(), CommandError> {
    let called = if gateway.called == gateway.profile {
        String::new()
    } else {
        format!(" (there `{}`)", gateway.called)
    };
    let wanted = if gateway.is_wanted { "shall run" } else { "stays down" };
    let variables = match gateway.variables.len() {
        0 => String::new(),
        1 => ", 1 variable".to_owned(),
        count => format!(", {count} variables"),
    };
    out::line(format!("{}{called}: {wanted}{variables}: {}", gateway.profile, gateway.words.join(" ")))?;
    for line in &gateway.lost {
        out::line(format!("  without counterpart: {line}"))?;
    }
    Ok(())
}
