//! The names of services among us.
//!
//! *Lives here:* the name, and the bits that stand for it in an event of the kernel. *Does not live
//! here:* the services.

/// Names a service in the table; stays valid until the service is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) index: u32,
    /// Tells a service from a later one at the same index.
    pub(crate) generation: u32,
}

impl Id {
    /// Returns the 56 bits that stand for it in an event token.
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.index) | u64::from(self.generation & 0xff_ffff) << 32
    }

    /// Returns the id behind the bits of a token.
    pub(crate) fn from_bits(bits: u64) -> Self {
        let index = u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX);
        let generation = u32::try_from(bits >> 32 & 0xff_ffff).unwrap_or(0);
        Self { index, generation }
    }
}
