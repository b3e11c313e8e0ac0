//! Control groups of services: which service has one, what it is called, and whom we have make and
//! end it.
//!
//! *Lives here:* names, and the programs that are started. *Does not live here:* the groups; making
//! one may take the kernel a while, so a process does it that is about to become the service's
//! program (`gatevisor-slot`).
//!
//! What an owner gains by asking for one are limits for its own service. A service has one group at
//! the most, named by us.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::rc::Rc;

use gatevisor_sys::clock;
use gatevisor_sys::spawn::Isolation;
use gatevisor_wire::files;
use rustix::fs::{AtFlags, FileType, fstat, statat};

use crate::noexec::Program;
use crate::service::{ServiceRole, SupervisedService};
use crate::stderr_log::say;

/// Bytes of a service's name that go into that of its group.
const NAME_BYTES: usize = 100;

/// The names of groups.
#[derive(Debug)]
pub(crate) struct Groups {
    /// What they begin with: the scandir, and when it was begun to be supervised.
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

    /// Returns the name of a new group: the service's name is in it for people, the number makes it
    /// the only one.
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

    /// Returns what to execute as ourselves so that it becomes `program` in the service's group;
    /// `None` where the service asks for no group, which costs one look at its directory.
    ///
    /// # Errors
    /// It asks for a group strictly, and for what makes it impossible.
    pub(crate) fn enter(
        &mut self,
        service: &mut SupervisedService,
        isolation: Isolation,
        program: &Program,
        ourselves: &CStr,
    ) -> Result<Option<Program>, String> {
        let asks = service.role == ServiceRole::Main
            && statat(&service.dir, files::CGROUP, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        if !asks {
            return Ok(None);
        }
        if isolation.lock.is_some() && service.owner.is_some() {
            // We would open a file of the owner's with our own rights.
            let why = "lock-fd and cgroup/ cannot both be had for a service of another user; remove one";
            if statat(&service.dir, files::CGROUP_STRICT, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                return Err(format!("making a control group for ./run: {why}"));
            }
            say!("warning: {}: it runs without its control group: {why}", service.name());
            return Ok(None);
        }
        let entry = Rc::clone(&service.entry);
        let group = service.group.get_or_insert_with(|| self.name(&entry)).clone();
        let user = service.owner.as_deref().map_or_else(|| "-".to_owned(), |user| user.uid.to_string());
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
