//! Whether there is room for one more service.
//!
//! *Lives here:* the limits on the number of services, and on the descriptors that they use.
//! *Does not live here:* opening anything.
//!
//! A supervisor without free descriptors can neither start a service nor write its status nor send
//! its events. So one service too many would be a problem for every service.

/// Descriptors that a prepared service directory takes besides that of the directory.
const PREPARED_DESCRIPTORS: u64 = 3;
/// Descriptors kept free for temporary uses: starting processes, replacing files, sending events.
const SPARE_DESCRIPTORS: u64 = 48;
/// Owners with fewer services than this need not leave descriptors free for other owners.
const FEW_SERVICES: usize = 16;

/// The limits on the number of services. A service and its logger count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// The most services of one user.
    pub of_one_owner: usize,
    /// The most services of all users.
    pub in_all: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self { of_one_owner: 2000, in_all: 10_000 }
    }
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The limit on the services of one user.
    OfOneOwner(usize),
    /// The limit on all services.
    InAll(usize),
}

impl ServiceLimits {
    /// Returns the limit that is reached by a user with `own` services, with `all` services in
    /// total.
    pub fn reached(self, own: usize, all: usize) -> Option<NoRoom> {
        if own >= self.of_one_owner {
            Some(NoRoom::OfOneOwner(self.of_one_owner))
        } else {
            (all >= self.in_all).then_some(NoRoom::InAll(self.in_all))
        }
    }
}

/// The number of descriptors that the process may have.
#[derive(Debug, Clone, Copy)]
pub struct DescriptorBudget {
    /// The system's limit: every descriptor's number is below it. `None` if there is no limit.
    pub limit: Option<u64>,
}

impl DescriptorBudget {
    /// Returns whether enough descriptors are left for all services and one more, whose directory
    /// has the descriptor `newest`. The kernel gives the lowest free number, so `newest` tells how
    /// many are in use.
    ///
    /// Each of the `without_readiness` services may need one more. An owner with many services
    /// (`own`) must leave descriptors free for other owners.
    pub fn can_spare(self, newest: u64, without_readiness: usize, own: usize) -> bool {
        let used = newest.saturating_add(PREPARED_DESCRIPTORS);
        let needed = u64::try_from(without_readiness).unwrap_or(u64::MAX).saturating_add(SPARE_DESCRIPTORS);
        self.limit.is_none_or(|limit| {
            let for_others = if own < FEW_SERVICES { 0 } else { limit / 8 };
            used.saturating_add(needed).saturating_add(for_others) < limit
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DescriptorBudget, NoRoom, ServiceLimits};

    #[test]
    fn the_limit_of_one_user_is_not_the_limit_of_all() {
        let limits = ServiceLimits { of_one_owner: 2, in_all: 4 };
        for (own, all, expected) in [
            (1, 3, None),
            (2, 3, Some(NoRoom::OfOneOwner(2))),
            (2, 4, Some(NoRoom::OfOneOwner(2))),
            (0, 4, Some(NoRoom::InAll(4))),
        ] {
            assert_eq!(limits.reached(own, all), expected, "{own} {all}");
        }
    }

    #[test]
    fn an_owner_of_many_services_leaves_an_eighth_to_others_and_nobody_takes_the_last_ones() {
        for (limit, newest, without_readiness, own, expected) in [
            (Some(1024), 100, 10, 0, true),
            (Some(1024), 900, 72, 0, true),
            (Some(1024), 900, 73, 0, false),
            (Some(1024), 800, 0, 15, true),
            (Some(1024), 800, 44, 16, true),
            (Some(1024), 800, 45, 16, false),
            (None, u64::MAX, usize::MAX, usize::MAX, true),
        ] {
            let can = DescriptorBudget { limit }.can_spare(newest, without_readiness, own);
            assert_eq!(can, expected, "{limit:?} {newest} {without_readiness} {own}");
        }
    }
}
