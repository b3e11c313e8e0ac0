//! *Lives here:* what is known of a gateway that is followed.
//!
//! *Does not live here:* what an event of it means (`follower`).

use std::io;
use std::time::{Duration, Instant};

use gatevisor_client::status_view::{self, StateName};
use gatevisor_client::{RefusalWatch, ScanDir, ServiceDir, Subscription, SupervisorWatch};
use gatevisor_wire::Pid;
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::status::Status;

use super::aim::FollowEnd;
use super::evidence::LiveEvidence;
use crate::manager::STOPPED_FOR;

/// How long to wait for the report that a command was executed before looking again. The slot may
/// have no room for the file that is watched.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Follows one gateway.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
pub(in crate::manager) struct Follower {
    pub(super) dir: ServiceDir,
    pub(super) subscription: Subscription,
    pub(super) before: Option<Status>,
    /// Whether the process that was up at the beginning does not count, only a later one.
    pub(super) again: bool,
    /// The signal that was sent to the process of the beginning, if it was not left to the
    /// supervisor to choose one.
    pub(super) signalled: Option<u8>,
    /// Whether the process of the beginning has died.
    pub(super) died: bool,
    pub(super) scan: Option<Scan>,
    /// The supervisor, if it was there at the beginning.
    pub(super) supervisor: Option<SupervisorWatch>,
    /// When to look again although nothing was reported.
    pub(super) due: Option<Instant>,
    /// The process that is followed, and when it was first seen to be the command.
    pub(super) up_since: Option<(Pid, Instant)>,
    /// The process that was seen before it became the command.
    pub(super) before_command: Option<Pid>,
    pub(super) was_announced: bool,
    /// Its start waited for its turn when that was asked last.
    pub(super) was_queued: bool,
    /// Whether its supervisor was seen to want it up.
    pub(super) was_wanted: bool,
    /// Since when its supervisor has been seen not to want it up.
    pub(super) unwanted_since: Option<Instant>,
    /// The end that its last death is, unless another command has asked for that death.
    pub(super) unclear: Option<FollowEnd>,
    /// The end that a failure for good is, and since when its state is waited for.
    pub(super) failing: Option<(FollowEnd, Instant)>,
    /// What other commands record meanwhile.
    pub(super) meanwhile: Option<RecordedMeanwhile>,
    /// When to look whether a signal has stopped the supervisor: it could not say so.
    pub(super) look_at_supervisor: Option<Instant>,
    /// What the watcher of gateways knows of the process, if it is followed.
    pub(super) evidence: Option<LiveEvidence>,
    /// Whether the process has shown nothing so far, and it is too early to blame it.
    pub(super) may_show: bool,
    /// Whether to wait no longer for evidence than the watcher of gateways needs to judge.
    pub(super) is_bounded: bool,
    /// Whether news of the evidence wakes this follower.
    pub(super) has_news: bool,
}

/// Tells what is recorded of a gateway that is being brought up.
pub(in crate::manager) struct RecordedMeanwhile {
    /// Returns whether its desired state is to be down.
    pub is_stopped: Box<dyn Fn() -> bool + Send>,
    /// Returns whether another command has recorded a desired state meanwhile, whichever.
    pub is_another: Box<dyn Fn() -> bool + Send>,
    /// Returns the supervisor if a signal has stopped it.
    pub stopped_supervisor: Box<dyn Fn() -> Option<Pid> + Send>,
    /// Whether the supervisor is ours, which publishes whether a death was asked for.
    pub is_ours: bool,
}

/// A scan that was requested.
pub(super) struct Scan {
    pub(super) scandir: ScanDir,
    pub(super) name: ServiceName,
    pub(super) refusals: RefusalWatch,
}

impl Follower {
    /// Subscribes. No event from now on is missed.
    pub(in crate::manager) fn new(dir: ServiceDir) -> io::Result<Self> {
        let subscription = Subscription::subscribe(&dir)?;
        let before = dir.status().ok();
        // If the gateway is up, its event came before we subscribed.
        let was_announced = before.is_some_and(|status| status.is_up() && status.want_up);
        let supervisor = Some(SupervisorWatch::of(&dir));
        Ok(Self { before, supervisor, was_announced, ..Self::with(dir, subscription) })
    }

    /// Takes over a subscriber that was there before the slot could be seen.
    pub(in crate::manager) fn with(dir: ServiceDir, subscription: Subscription) -> Self {
        Self {
            dir,
            subscription,
            before: None,
            again: false,
            signalled: None,
            died: false,
            scan: None,
            supervisor: None,
            due: None,
            up_since: None,
            before_command: None,
            was_announced: false,
            was_queued: false,
            was_wanted: false,
            unwanted_since: None,
            unclear: None,
            failing: None,
            meanwhile: None,
            look_at_supervisor: None,
            evidence: None,
            may_show: false,
            is_bounded: false,
            has_news: false,
        }
    }

    /// From now on, it is also an end that somebody has recorded the desired state to be down.
    pub(in crate::manager) fn unless(&mut self, meanwhile: RecordedMeanwhile) {
        self.meanwhile = Some(meanwhile);
        self.look_at_supervisor = Instant::now().checked_add(STOPPED_FOR);
    }

    /// Listens for a refusal too. Call this before requesting the scan.
    pub(in crate::manager) fn expect_scan(&mut self, scandir: ScanDir, service: &str) {
        // If the supervisor publishes no refusals, there is nothing to listen to.
        let listening = RefusalWatch::listen(&scandir).ok().zip(ServiceName::new(service.as_bytes()).ok());
        self.scan = listening.map(|(refusals, name)| Scan { scandir, name, refusals });
    }

    /// From now on, evidence is waited for as long as the watcher needs to judge, and no longer.
    pub(super) const fn bound(&mut self) {
        self.is_bounded = true;
    }

    /// Notes whether news of the evidence wakes this follower.
    pub(super) const fn expect_news(&mut self, wakes: bool) {
        self.has_news = wakes;
    }

    /// Returns the service, and whether a supervisor had it at the beginning.
    pub(super) const fn service(&self) -> (&ServiceDir, bool) {
        (&self.dir, self.supervisor.is_some())
    }

    /// Returns the status at the beginning.
    pub(in crate::manager) const fn before(&self) -> Option<&Status> {
        self.before.as_ref()
    }

    /// From now on, only another process than the one of the beginning counts. That one is sent
    /// `signal`.
    pub(in crate::manager) const fn again(&mut self, signal: Option<u8>) {
        self.again = true;
        self.signalled = signal;
        self.was_announced = false;
    }

    /// Returns whether the process that was up at the beginning is still up.
    pub(in crate::manager) fn is_same(&self) -> bool {
        let pid = |status: &Status| status.pid.filter(|_| status.is_up());
        let before = self.before.as_ref().and_then(pid);
        before.is_some() && self.dir.status().is_ok_and(|now| pid(&now) == before)
    }

    /// Returns the state of the gateway.
    pub(in crate::manager) fn state(&self) -> StateName {
        status_view::observe(&self.dir).state
    }

    /// Returns why the gateway failed for good, where that is known.
    pub(super) fn reason(&self) -> Option<String> {
        self.state().reason().map(str::to_owned).or_else(|| self.last_exit())
    }

    fn last_exit(&self) -> Option<String> {
        self.dir.deaths().last().map(|death| death.how().to_string())
    }
}
