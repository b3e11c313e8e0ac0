//! *Lives here:* finding out in which gateway a process runs, and leaving a ticket for that
//! gateway.
//!
//! *Does not live here:* carrying it out.
//!
//! This protects against mistakes: an agent cannot restart another gateway by accident. It does not
//! protect against attacks, because every process of a user may restart the gateways of that user
//! anyway.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use gatevisor_paths::by_path;
use gatevisor_sys::file::lasting_identity;
use gatevisor_sys::proc::Process;
use gatevisor_wire::member::{self, Member};
use gatevisor_wire::status::Status;
use jiff::Timestamp;

use super::brake;
use super::error::TicketError;
use super::record::{DIRECTORY, RestartTicket, TicketStage, TicketStore};
use crate::desired::Provenance;
use crate::live;
use crate::manager::{ScandirManager, ServiceManager};
use crate::profile::ProfileName;

/// The most ancestors of a process that are looked at. No process has more.
const DEEPEST: usize = 1000;

/// A request of a gateway for its own restart.
#[derive(Debug, Clone)]
pub struct OwnRestart {
    /// Who asks.
    pub by: Provenance,
    /// The reason that the next process is given.
    pub reason: Option<String>,
    /// Whether the request is refused if nobody can tell when the turn that asks is over.
    pub after_turn: bool,
    /// How long the drain may take.
    pub limit: Duration,
    /// The gateway that the command names, if it names one.
    pub meant: Option<ProfileName>,
}

/// An accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedRestart {
    /// The profile whose gateway will be restarted.
    pub name: ProfileName,
    /// When an earlier request was made that is still open. This request then adds nothing.
    pub since: Option<String>,
    /// The time until which the restart waits, if the gateway asks too often.
    pub waits_until: Option<String>,
    /// How often the gateway was restarted at its own request within the last hour.
    pub recent: usize,
}

/// Asks for the restart of the gateway in which this process runs.
///
/// # Errors
/// Nothing was asked for.
pub fn ask(manager: &ScandirManager, wanted: &OwnRestart) -> Result<AskedRestart, TicketError> {
    let name = own(manager)?;
    if let Some(other) = wanted.meant.as_ref().filter(|meant| **meant != name) {
        return Err(TicketError::Another { own: name, other: other.clone() });
    }
    let process = process_of(manager, &name)?;
    let agent = manager.agent();
    if wanted.after_turn && agent.gateway.drain.is_none() {
        return Err(TicketError::NoTurns { name, agent: agent.name.clone() });
    }
    if live::unwatched(manager.scandir()).is_some() {
        return Err(TicketError::NoWatcher { name, scandir: manager.scandir().to_owned() });
    }
    let now = Timestamp::now();
    let home = manager.home().root();
    let unkept = |source| TicketError::Keep { name: name.clone(), directory: home.join(DIRECTORY), source };
    let store = TicketStore::make(home).map_err(unkept)?;
    let mut since = None;
    let kept = store.edit(&name, |before| {
        let is_open =
            |ticket: &&RestartTicket| ticket.stage.is_pending() && ticket.is_of(process.pid, process.began);
        since = before.as_ref().filter(is_open).map(|ticket| ticket.asked_at.clone());
        since.is_none().then(|| ticket(wanted, &process, before.as_ref(), now))
    });
    let kept = kept.map_err(unkept)?;
    let recent = kept.as_ref().map_or(0, |ticket| brake::counted(&ticket.restarts(), now).len());
    let waits_until = kept.and_then(|ticket| ticket.not_before);
    Ok(AskedRestart { name, since, waits_until, recent })
}

fn ticket(
    wanted: &OwnRestart,
    process: &Process,
    before: Option<&RestartTicket>,
    now: Timestamp,
) -> RestartTicket {
    let recent = before.map_or_else(Vec::new, |before| brake::counted(&before.restarts(), now));
    let waits_until = brake::waits_until(&recent, now);
    RestartTicket {
        stage: if waits_until.is_some() { TicketStage::Held } else { TicketStage::Asked },
        by: wanted.by.clone(),
        reason: wanted.reason.clone(),
        after_turn: wanted.after_turn,
        limit_ms: u64::try_from(wanted.limit.as_millis()).unwrap_or(u64::MAX),
        pid: process.pid,
        start_ticks: process.began,
        asked_at: now.to_string(),
        not_before: waits_until.map(|until| until.to_string()),
        ended_at: None,
        outcome: None,
        scheduled: None,
        recent: recent.iter().map(Timestamp::to_string).collect(),
    }
}

/// Returns the gateway in which this process runs.
fn own(manager: &ScandirManager) -> Result<ProfileName, TicketError> {
    let named = named(manager);
    let ancestor = ancestor(manager)?;
    match (named, ancestor) {
        (Some(named), Some(ancestor)) if named != ancestor => Err(TicketError::InTwo { named, ancestor }),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(TicketError::InNoGateway { scandir: manager.scandir().to_owned() }),
    }
}

/// Returns the gateway that the environment names, if it is one of this scandir.
fn named(manager: &ScandirManager) -> Option<ProfileName> {
    let value = std::env::var_os(member::VARIABLE)?.into_vec();
    let member = Member::parse(&value)?;
    let scandir = by_path::directory(manager.scandir()).ok()?;
    let is_ours = lasting_identity(scandir, "").is_ok_and(|known| known.as_bytes() == member.scandir);
    ProfileName::of_service(member.name).filter(|_| is_ours)
}

/// Returns the gateway from which this process descends.
fn ancestor(manager: &ScandirManager) -> Result<Option<ProfileName>, TicketError> {
    let up = |name: ProfileName| Some((manager.slot(&name).status().ok()?.pid?.get(), name));
    let gateways: Vec<(i32, ProfileName)> = manager.list()?.into_iter().filter_map(up).collect();
    let mut at = std::process::id().cast_signed();
    for _ in 0..DEEPEST {
        if let Some((_, name)) = gateways.iter().find(|(pid, _)| *pid == at) {
            return Ok(Some(name.clone()));
        }
        let Some(process) = Process::of(at) else { break };
        at = process.parent;
    }
    Ok(None)
}

/// Returns the process of a gateway, if this process did not begin before it.
fn process_of(manager: &ScandirManager, name: &ProfileName) -> Result<Process, TicketError> {
    let status = manager.slot(name).status().ok().filter(Status::is_up);
    let process = status.and_then(|status| Process::of(status.pid?.get()));
    let process = process.ok_or_else(|| TicketError::NotUp { name: name.clone() })?;
    match Process::of(std::process::id().cast_signed()) {
        Some(own) if own.began < process.began => Err(TicketError::OfAnEarlierLife { name: name.clone() }),
        _ => Ok(process),
    }
}
