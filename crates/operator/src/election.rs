//! Holding the lease, whose holder is the only operator that acts.
//!
//! *Lives here:* reading and writing it. *Does not live here:* deciding what to do about it
//! (`lease`).

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::{sleep, timeout};

use crate::lease::{self, Record, Step, Watch};
use crate::told::{ServerAnswer, answer_within};

/// The name of the lease.
pub const NAME: &str = "gatevisor-operator";

/// One operator's part in the election.
pub struct Election {
    leases: Api<Lease>,
    us: String,
    watch: Watch,
    start: Instant,
    /// When the last successful renewal began.
    renewed: Duration,
}

impl Election {
    /// Returns the state before the first round. `us` is a name that no other operator has.
    pub fn new(client: Client, namespace: &str, us: String) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { leases, us, watch: Watch::default(), start: Instant::now(), renewed: Duration::ZERO }
    }

    /// Waits until this operator holds the lease.
    pub async fn win(&mut self, mut complain: impl FnMut(ServerAnswer)) {
        loop {
            match answer_within(lease::STOPS_AFTER, self.round()).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => complain(error),
            }
            sleep(lease::EVERY).await;
        }
    }

    /// Renews the lease, until this operator must stop acting.
    pub async fn keep(&mut self) {
        loop {
            sleep(lease::EVERY).await;
            let left = lease::STOPS_AFTER.saturating_sub(self.now().saturating_sub(self.renewed));
            let held = timeout(left, self.round()).await;
            if matches!(held, Ok(Ok(false))) || lease::must_stop(self.renewed, self.now()) {
                return;
            }
        }
    }

    /// Gives the lease back, so that another operator takes it at once.
    pub async fn release(&mut self) -> Result<(), ServerAnswer> {
        answer_within(lease::STOPS_AFTER, self.give_back()).await
    }

    async fn give_back(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(NAME).await? else { return Ok(()) };
        if holder(&lease) == self.us {
            lease.spec.get_or_insert_default().holder_identity = None;
            self.leases.replace(NAME, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Reads the lease once, writes what `lease` decides, and returns whether this operator holds
    /// it.
    async fn round(&mut self) -> Result<bool, kube::Error> {
        let began = self.now();
        let live = self.leases.get_opt(NAME).await?;
        let record = live.as_ref().map(|lease| Record {
            holder: holder(lease).to_owned(),
            version: lease.resource_version().unwrap_or_default(),
        });
        let post = PostParams::default();
        // Both writes fail if another operator has written since.
        let written = match (self.watch.step(&self.us, record, self.now()), live) {
            (Step::Wait, _) => return Ok(false),
            (Step::Create, _) | (_, None) => self.leases.create(&post, &self.lease(None)).await,
            (Step::Take | Step::Renew, Some(live)) => {
                self.leases.replace(NAME, &post, &self.lease(Some(live))).await
            }
        };
        match written {
            Ok(_) => {
                self.renewed = began;
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lease(&self, live: Option<Lease>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let before = live.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let is_ours = before.holder_identity.as_deref() == Some(&self.us);
        let named = || ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        Lease {
            metadata: live.map_or_else(named, |lease| lease.metadata),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.us.clone()),
                lease_duration_seconds: i32::try_from(lease::LASTS.as_secs()).ok(),
                acquire_time: if is_ours { before.acquire_time } else { now.clone() },
                renew_time: now,
                lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!is_ours)),
                ..LeaseSpec::default()
            }),
        }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}
