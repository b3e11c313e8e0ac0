//! The supervisor's internal names of services.
//!
//! *Lives here:* the name, and its bits in an event of the kernel.
//! *Does not live here:* the services.

/// Names a service in the table. It stays valid until the service is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) index: u32,
    /// Distinguishes a service from a later one with the same index.
    pub(crate) generation: u32,
}

impl Id {
    /// Returns its 56 bits for an event token.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.index) | u64::from(self.generation & 0xff_ffff) << 32
    }

    /// Returns the id with these bits.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let index = u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX);
        let generation = u32::try_from(bits >> 32 & 0xff_ffff).unwrap_or(0);
        Self { index, generation }
    }
}
