//! Listening to every service of a scandir at once, those that come later included.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatevisor_client::{Listener, ScanDir};
use gatevisor_gateways::profile::ProfileName;
use gatevisor_wire::event::Letter;
use gatevisor_wire::name::ServiceName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{fstat, inotify};

use crate::exit::{Exit, Failure};

/// Everything that is listened to.
pub struct Ears {
    scandir: PathBuf,
    only: Vec<ProfileName>,
    watch: OwnedFd,
    listeners: BTreeMap<ServiceName, Listener>,
    /// Services whose directories have been taken away, and which have not been released yet.
    leaving: Vec<(ServiceName, Listener)>,
}

impl Ears {
    /// Subscribes to the services of a scandir, or only to the gateways named.
    pub fn open(scandir: &Path, only: Vec<ProfileName>) -> Result<Self, Failure> {
        let watch = watch(scandir).map_err(|errno| {
            Failure::new(Exit::System, format!("cannot watch `{}`: {errno}", scandir.display()))
        })?;
        let listeners = BTreeMap::new();
        let mut ears = Self { scandir: scandir.to_owned(), only, watch, listeners, leaving: Vec::new() };
        ears.subscribe()?;
        Ok(ears)
    }

    /// Waits for events, at most for `timeout`, and tells `heard` each letter.
    pub fn hear(
        &mut self,
        timeout: Option<Duration>,
        mut heard: impl FnMut(&ServiceName, Letter) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&self.watch, PollFlags::IN)];
        let listeners = self.listeners.values().chain(self.leaving.iter().map(|(_, listener)| listener));
        fds.extend(listeners.map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Failure::new(Exit::System, format!("cannot wait for events: {errno}"))),
        }
        let changed = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        for (name, listener) in &mut self.listeners {
            while let Ok(Some(letter)) = listener.try_next() {
                heard(name, letter)?;
            }
        }
        for (name, listener) in &mut self.leaving {
            while let Ok(Some(letter)) = listener.try_next() {
                heard(name, letter)?;
            }
        }
        // Once its directory is removed, and the FIFO in it, there is nobody left to write another letter.
        self.leaving.retain(|(_, listener)| fstat(listener).is_ok_and(|stat| stat.st_nlink > 0));
        if changed {
            drain(&self.watch);
            self.subscribe()?;
        }
        Ok(())
    }

    /// Subscribes to every service that is there and not listened to yet.
    fn subscribe(&mut self) -> Result<(), Failure> {
        let services = ScanDir::new(&self.scandir).services().map_err(|error| {
            Failure::new(
                Exit::System,
                format!("cannot read the scandir `{}`: {error}", self.scandir.display()),
            )
        })?;
        // A directory that is taken away still tells how its service ends, and another may have its name by now.
        let is_there = |name: &ServiceName, listener: &mut Listener| {
            let path = services.iter().find(|(known, _)| known == name).map(|(_, path)| path);
            path.is_some_and(|path| path.join("event").join(listener.name()).symlink_metadata().is_ok())
        };
        self.leaving.extend(self.listeners.extract_if(.., |name, listener| !is_there(name, listener)));
        for (name, path) in services {
            let of_interest = self.only.is_empty()
                || ProfileName::of_service(name.as_bytes())
                    .is_some_and(|profile| self.only.contains(&profile));
            if !of_interest || self.listeners.contains_key(&name) {
                continue;
            }
            // Without an event directory nobody supervises it yet; it is tried again when the scandir changes.
            if let Ok(listener) = Listener::subscribe(&path.join("event")) {
                self.listeners.insert(name, listener);
            }
        }
        Ok(())
    }
}

fn watch(scandir: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let flags = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::DELETE;
    inotify::add_watch(&fd, scandir, flags)?;
    Ok(fd)
}

fn drain(watch: impl AsFd) {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut space);
    while reader.next().is_ok() {}
}
