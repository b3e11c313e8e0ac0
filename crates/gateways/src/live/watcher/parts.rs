//! *Lives here:* what the watcher of gateways keeps from one look to the next.
//!
//! *Does not live here:* its loop (`watcher`), and its looks (`looks`).

use std::collections::{BTreeMap, BTreeSet};

use gatevisor_liveness::{Attended, Attention, Fleet, Liveness};

use super::super::act::EvidenceJob;
use super::super::again::EndedHere;
use super::super::asking::Asking;
use super::super::notice::{Collect, LiveNoticeSink, LiveWatchError};
use super::super::pauses::ContinuedByHand;
use super::super::publish::Publisher;
use super::super::slot::FollowedGateway;
use super::super::tally::ProbeTally;
use crate::manager::ScandirManager;
use crate::profile::ProfileName;
use crate::ticket::TicketKeeper;

/// Watches whether the gateways of one scandir work.
pub struct LiveWatcher {
    pub(super) manager: ScandirManager,
    pub(super) tell: LiveNoticeSink,
    pub(super) collect: Collect,
    pub(super) publisher: Publisher,
    pub(super) fleet: Fleet,
    pub(super) attention: Attention,
    pub(super) followed: BTreeMap<String, FollowedGateway>,
    pub(super) asking: BTreeMap<String, Asking>,
    pub(super) jobs: BTreeMap<String, EvidenceJob>,
    pub(super) tickets: TicketKeeper,
    pub(super) tally: ProbeTally,
    pub(super) told: BTreeMap<String, Liveness>,
    /// Gateways whose records did not fit on the disk.
    pub(super) unpublished: BTreeSet<String>,
    pub(super) scan: Attended,
    /// Gateways that have gone and may come again, and since when.
    pub(super) gone: BTreeMap<String, Attended>,
    pub(super) ended: EndedHere,
    pub(super) continued: ContinuedByHand,
}

impl LiveWatcher {
    /// Returns a watcher; at most `parallel` gateways are ended and started at a time.
    pub fn new(
        manager: ScandirManager,
        parallel: usize,
        tell: LiveNoticeSink,
        collect: Collect,
    ) -> Result<Self, LiveWatchError> {
        let scandir = manager.scandir().to_owned();
        let publisher = match Publisher::new(&scandir) {
            Ok(Some(publisher)) => publisher,
            Ok(None) => return Err(LiveWatchError::Taken { scandir }),
            Err(source) => return Err(LiveWatchError::Publish { scandir, source }),
        };
        Ok(Self {
            manager,
            tell,
            collect,
            publisher,
            fleet: Fleet::new(parallel),
            attention: Attention::default(),
            followed: BTreeMap::new(),
            asking: BTreeMap::new(),
            jobs: BTreeMap::new(),
            tickets: TicketKeeper::default(),
            tally: ProbeTally::default(),
            told: BTreeMap::new(),
            unpublished: BTreeSet::new(),
            scan: Attended::default(),
            gone: BTreeMap::new(),
            ended: EndedHere::default(),
            continued: ContinuedByHand::default(),
        })
    }
}

/// Returns the profile whose gateway a service is.
pub(super) fn profile_of(service: &str) -> Option<ProfileName> {
    ProfileName::of_service(service.as_bytes())
}
