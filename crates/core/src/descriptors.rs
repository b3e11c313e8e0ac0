//! Whether enough descriptors are left for one more service.
//!
//! *Lives here:* the numbers. *Does not live here:* opening anything.
//!
//! A supervisor that is short of descriptors can neither start a service nor write its status nor
//! tell anybody, so one service too many would be a problem for every service.

/// Descriptors that the preparation of a service directory adds to that of the directory.
const PREPARED_DESCRIPTORS: u64 = 3;
/// Descriptors kept for what passes: processes that are starting, files being replaced, listeners
/// being told.
const SPARE_DESCRIPTORS: u64 = 48;
/// Owners with fewer services than this need not leave descriptors free for other owners.
const FEW_SERVICES: usize = 16;

/// The descriptors that there can be.
#[derive(Debug, Clone, Copy)]
pub struct DescriptorBudget {
    /// The number that every descriptor is below; none if there is no limit.
    pub limit: Option<u64>,
}

impl DescriptorBudget {
    /// Returns whether enough descriptors are left to serve all services and one more, whose
    /// directory has the number `newest`: the lowest free number is taken, so it tells how many are
    /// in use.
    ///
    /// Each of the services `without_readiness` may need one more. Owners with many services, `own`
    /// of them, must leave descriptors free for other owners.
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
    use super::DescriptorBudget;

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
