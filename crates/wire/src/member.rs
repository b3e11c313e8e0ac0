//! *Lives here:* the environment variable that tells to which service a process belongs.
//!
//! *Does not live here:* finding processes by it.
//!
//! Our supervisor sets it for every process that it starts for a service, and children inherit it.
//! It names the scandir, the supervisor and the service. A process that replaces or clears its
//! environment removes itself from the service.

/// The name of the variable.
pub const VARIABLE: &str = "GATEVISOR_SERVICE";

/// The content of the variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// An identifier that distinguishes the scandir from all others. It contains no slash.
    pub scandir: &'a [u8],
    /// The process number of the supervisor.
    pub supervisor: i32,
    /// The service, such as `foo` or `foo/log`.
    pub name: &'a [u8],
}

impl<'a> Member<'a> {
    /// Returns `VARIABLE=value`.
    pub fn assignment(&self) -> Vec<u8> {
        [VARIABLE.as_bytes(), b"=", &self.value()].concat()
    }

    /// Returns the value of the variable, which [`Self::parse`] reads.
    pub fn value(&self) -> Vec<u8> {
        let supervisor = self.supervisor.to_string();
        [self.scandir, b"/", supervisor.as_bytes(), b"/", self.name].concat()
    }

    /// Parses a value of the variable.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut parts = value.splitn(3, |&byte| byte == b'/');
        let (scandir, supervisor, name) = (parts.next()?, parts.next()?, parts.next()?);
        let supervisor = str::from_utf8(supervisor).ok()?.parse().ok()?;
        Some(Self { scandir, supervisor, name })
    }

    /// Finds the variable in an environment in the kernel's form: assignments that each end with a
    /// null byte.
    pub fn in_environment(environment: &'a [u8]) -> Option<Self> {
        let value = |assignment: &'a [u8]| assignment.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"=");
        environment.split(|&byte| byte == 0).find_map(value).and_then(Self::parse)
    }

    /// Returns whether both name the same service, perhaps under an earlier supervisor.
    pub fn is_of(&self, other: &Member<'_>) -> bool {
        self.scandir == other.scandir && self.name == other.name
    }
}

#[cfg(test)]
mod tests {
    use super::Member;

    const EXAMPLE: Member<'_> = Member { scandir: b"1a.2.77", supervisor: 12, name: b"gateway-a/log" };

    #[test]
    fn what_is_assigned_is_what_is_read() {
        let assignment = EXAMPLE.assignment();
        assert_eq!(assignment, b"GATEVISOR_SERVICE=1a.2.77/12/gateway-a/log");
        let environment = [b"A=1\0", assignment.as_slice(), b"\0B=2\0"].concat();
        assert_eq!(Member::in_environment(&environment), Some(EXAMPLE));
    }

    #[test]
    fn the_same_service_of_an_earlier_supervisor_is_the_same_service() {
        assert!(EXAMPLE.is_of(&Member { supervisor: 4, ..EXAMPLE }));
        assert!(!EXAMPLE.is_of(&Member { name: b"gateway-a", ..EXAMPLE }));
        assert!(!EXAMPLE.is_of(&Member { scandir: b"1a.2.78", ..EXAMPLE }));
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for value in ["", "a", "a/b", "a//c", "a/x/c"] {
            assert_eq!(Member::parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(Member::in_environment(b"XGATEVISOR_SERVICE=a/1/c\0GATEVISOR_SERVICES=a/1/c\0"), None);
        assert_eq!(Member::in_environment(b""), None);
    }
}
