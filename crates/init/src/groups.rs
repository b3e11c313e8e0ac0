//! Control groups of services: which service has one, its name, and the programs that make and end
//! it.
//!
//! *Lives here:* names, and the programs that are started.
//! *Does not live here:* which service has a group (`gatevisor_core::launch`), and making the
//! groups. That may take the kernel a while, so the process that becomes the service's program does
//! it (`gatevisor-slot`).
//!
//! An owner who asks for a group gains only limits on the owner's own service. A service has at
//! most one group, and we choose its name.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use gatevisor_core::launch::{self, GroupDecision, GroupRequest};
use gatevisor_sys::clock;
use gatevisor_sys::spawn::Isolation;
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, fstat, statat};

use crate::noexec::Program;
use crate::service::SupervisedService;
use crate::stderr_log::say;

/// Bytes of a service's name that are part of its group's name.
const NAME_BYTES: usize = 100;

/// The names of groups.
#[derive(Debug)]
pub(crate) struct Groups {
    /// The prefix of all names: the scandir, and when its supervision began.
    prefix: String,
    made: u64,
}

impl Groups {
    /// Returns the names for a scandir whose supervision begins now.
    pub(crate) fn new(scandir: impl AsFd) -> Self {
        let (seconds, nanos) = clock::wall();
        let began = u128::from(seconds.unsigned_abs()).saturating_mul(1_000_000_000);
        Self::begun_at(scandir, began.saturating_add(nanos.into()))
    }

    fn begun_at(scandir: impl AsFd, began: u128) -> Self {
        let identity = fstat(scandir).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
        Self { prefix: format!("gatevisor-{:x}.{:x}-{began:x}", identity.0, identity.1), made: 0 }
    }

    /// Returns the name of a new group. The service's name in it is for people; the number makes it
    /// unique.
    fn name(&mut self, entry: &[u8]) -> CString {
        let plain = |&byte: &u8| {
            let known = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if known { char::from(byte) } else { '_' }
        };
        let entry: String = entry.iter().take(NAME_BYTES).map(plain).collect();
        let name = format!("{}-{}-{entry}", self.prefix, self.made);
        self.made = self.made.saturating_add(1);
        CString::new(name).unwrap_or_default()
    }

    /// Returns the program that becomes `program` in the service's group when we execute it with
    /// our rights; `None` if the service asks for no group. Finding that out costs one look at its
    /// directory.
    ///
    /// # Errors
    /// The service asks for a group strictly, and also for something that excludes it.
    pub(crate) fn enter(
        &mut self,
        service: &mut SupervisedService,
        isolation: Isolation,
        program: &Program,
        ourselves: &CStr,
    ) -> Result<Option<Program>, String> {
        let request = GroupRequest {
            role: service.role(),
            is_of_other_user: service.owner().is_some(),
            has_lock: isolation.lock.is_some(),
        };
        let asks = || {
            statat(service.dir(), files::CGROUP, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        };
        match launch::group(request, asks, || service.has_file(files::CGROUP_STRICT)) {
            GroupDecision::None => return Ok(None),
            GroupDecision::Enter => {}
            GroupDecision::Without(why) => {
                say!("warning: {}: it runs without its control group: {why}", service.name());
                return Ok(None);
            }
            GroupDecision::Refuse(why) => return Err(why),
        }
        let group = service.group_or(|entry| self.name(entry));
        let user = service.owner().map_or_else(|| "-".to_owned(), |user| user.uid.to_string());
        let (path, arguments) = program;
        let mut argv = vec![c"gatevisor".to_owned(), c"in-group".to_owned(), group];
        argv.push(CString::new(user).unwrap_or_default());
        argv.push(path.clone());
        argv.extend_from_slice(arguments);
        Ok(Some((ourselves.to_owned(), argv)))
    }
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn a_group_is_named_after_its_service_and_no_two_are_named_alike() {
        let root = std::fs::File::open("/").unwrap();
        let mut groups = Groups::begun_at(&root, 0xabc);
        let first = groups.name(b"gateway-coder").into_string().unwrap();
        assert!(first.starts_with("gatevisor-") && first.ends_with("-abc-0-gateway-coder"), "{first}");
        let second = groups.name(b"gateway-coder").into_string().unwrap();
        assert!(second.ends_with("-abc-1-gateway-coder"), "{second}");
        let odd = groups.name(b"a\nb\xff\x1b[0m").into_string().unwrap();
        assert!(odd.ends_with("-abc-2-a_b___0m"), "{odd}");
        assert!(groups.name(&[b'x'; 255]).as_bytes().len() < 200);
    }
}
