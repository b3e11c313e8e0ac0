//! Resource limits.
//!
//! *Lives here:* setting a limit, or as much of it as permitted.
//! *Does not live here:* the names of limits (`settings`).
//!
//! **Source:** getrlimit(2).

use rustix::io::Errno;
use rustix::process::{Rlimit, getrlimit, setrlimit};

use super::Cannot;
use super::settings::{LimitName, ResourceLimit};

/// Sets a limit. A limit above what this user may have becomes the highest that is permitted.
pub(crate) fn set(name: LimitName, limit: ResourceLimit) -> Result<(), Cannot> {
    let resource = name.resource();
    let wanted = Rlimit { current: limit.soft, maximum: limit.hard };
    let Err(errno) = setrlimit(resource, wanted) else { return Ok(()) };
    let cannot = |remedy: String| Cannot::new(format!("limits.{} = {limit}", name.name()), errno, remedy);
    if errno != Errno::PERM {
        return Err(cannot("this kernel has no such limit".to_owned()));
    }
    let highest = getrlimit(resource).maximum;
    let clamped = Rlimit { current: lower(limit.soft, highest), maximum: lower(limit.hard, highest) };
    let _ = setrlimit(resource, clamped);
    let highest = highest.map_or_else(|| "what the kernel allows".to_owned(), |highest| highest.to_string());
    Err(cannot(format!("this user cannot go above {highest}, which it gets; ask for no more")))
}

/// Returns the lower of two limits; `None` is the highest.
fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::lower;

    #[test]
    fn no_limit_is_the_highest() {
        assert_eq!(lower(None, Some(3)), Some(3));
        assert_eq!(lower(Some(5), Some(3)), Some(3));
        assert_eq!(lower(Some(2), None), Some(2));
        assert_eq!(lower(None, None), None);
    }
}
