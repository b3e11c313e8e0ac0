//! `gatevisor service status`: what systemd knows of the unit of a home.
//!
//! *Lives here:* which unit that is, and showing it. *Does not live here:* changing units.

use std::mem;

use gatevisor_doctor::{lock_holder, unit_of};
use gatevisor_gateways::{open_lock, profile};
use serde_json::json;

use super::unit::HostScope;
use super::{HostUnit, Purpose, directory, systemctl, told_of_lingering};
use crate::args::{self, Common};
use crate::exit::{CommandError, Exit, Outcome};
use crate::out;

/// Prints what systemd knows of the unit of a home. The exit code is 1 if the unit is not active.
pub fn status(common: &Common, asked: &args::HostScopeOptions) -> Outcome {
    let asked_for = HostUnit::find(common, asked, Purpose::Asks)?;
    systemctl::must_run()?;
    let (unit, is_there) = found(asked_for, asked)?;
    let names = [
        "ActiveState",
        "SubState",
        "UnitFileState",
        "MainPID",
        "StatusText",
        "ActiveEnterTimestamp",
        "NRestarts",
        "FragmentPath",
    ];
    let found = systemctl::properties(unit.scope, &unit.name, &names)?;
    let value = |name: &str| found.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let lingers = if unit.scope == HostScope::User { systemctl::lingers(unit.owner.uid) } else { None };
    let is_active = value("ActiveState") == Some("active");
    if common.json {
        out::json(&json!({
            "unit": unit.name,
            "scope": unit.scope.word(),
            "path": value("FragmentPath").map_or_else(|| unit.path.display().to_string(), str::to_owned),
            "installed": is_there,
            "enabled": value("UnitFileState") == Some("enabled"),
            "state": value("ActiveState"),
            "since": value("ActiveEnterTimestamp"),
            "supervisor": value("MainPID").and_then(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0),
            "says": value("StatusText"),
            "restarts": value("NRestarts").and_then(|count| count.parse::<u64>().ok()),
            "lingers": lingers,
        }))?;
    } else if is_there {
        let since = value("ActiveEnterTimestamp").map_or_else(String::new, |since| format!(" since {since}"));
        let says = value("StatusText").map_or_else(String::new, |says| format!(": {says}"));
        let (state, enabled) =
            (value("ActiveState").unwrap_or("unknown"), value("UnitFileState").unwrap_or("unknown"));
        out::line(format!("{}: {state}{since}, {enabled}{says}", unit.name))?;
        told_of_lingering(&unit);
    } else {
        out::line(format!(
            "no unit supervises `{}`; `gatevisor install` makes one",
            unit.home.root().display()
        ))?;
    }
    Ok(if is_active { Exit::Done.code() } else { Exit::No.code() })
}

/// Returns the unit to show, and whether there is one: the one that was asked for, or if nobody
/// asked for one service manager, the unit of the system or the one that runs the supervisor.
fn found(mut unit: HostUnit, asked: &args::HostScopeOptions) -> Result<(HostUnit, bool), CommandError> {
    let own = unit.present();
    if matches!(own, Ok(Some(_))) || asked.user || asked.system {
        return own.map(|text| (unit, text.is_some()));
    }
    let running = running(&unit);
    if let Some((name, scope)) = running.filter(|(name, _)| *name != unit.name) {
        (unit.name, unit.scope) = (name, scope);
        return Ok((unit, true));
    }
    if own?.is_none() && unit.scope == HostScope::User {
        let own = mem::replace(&mut unit.path, directory(HostScope::System)?.join(&unit.name));
        if unit.present()?.is_some() {
            unit.scope = HostScope::System;
            return Ok((unit, true));
        }
        unit.path = own;
    }
    Ok((unit, false))
}

/// Returns the unit in which the supervisor of the home runs, if this user can ask its service
/// manager.
fn running(unit: &HostUnit) -> Option<(String, HostScope)> {
    let holder = lock_holder(&open_lock(&unit.home.root().join(profile::LOCK))?)?;
    let found = unit_of(holder.pid)?;
    let scope = if found.is_users { HostScope::User } else { HostScope::System };
    let may_ask = scope == HostScope::System || unit.scope == HostScope::User;
    may_ask.then_some((found.name, scope))
}
