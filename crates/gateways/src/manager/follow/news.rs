//! *Lives here:* noticing, for all gateways that are followed together, which of their files were
//! written: the record of the watcher of gateways, the publications of the supervisor, and the mark
//! of the interpreter.
//!
//! *Does not live here:* the contents of these files (`evidence`, `follower`).
//!
//! One instance of inotify serves all followers, because a user may have few of them. All records
//! are in one directory. If each follower watched that directory, a record of one gateway would
//! wake all followers, and the time for a start of many gateways would grow with the square of
//! their number.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use gatevisor_client::ServiceDir;
use gatevisor_client::engine::SharedNews;
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{FileChange, Inotify, WatchFlags};

use crate::live;

/// Reports which gateways have changed files.
pub(super) struct FollowNews {
    inotify: Inotify,
    /// The follower of each directory that is watched.
    watches: HashMap<i32, usize>,
    records: Option<RecordsWatch>,
}

/// The watch on the records of the watcher of gateways.
struct RecordsWatch {
    directory: PathBuf,
    /// The follower of each service.
    services: HashMap<OsString, usize>,
    /// `None` while there is no such directory, because nobody has watched these gateways yet.
    watch: Cell<Option<i32>>,
}

impl FollowNews {
    /// Begins to watch services of one scandir, each with whether a supervisor has it. With
    /// `by_evidence`, their records are watched as well. Returns `None` if nothing can be watched.
    pub fn of(services: &[(&ServiceDir, bool)], by_evidence: bool) -> Option<Self> {
        let inotify = Inotify::new().ok()?;
        let mut watches = HashMap::new();
        for (index, (dir, is_supervised)) in services.iter().enumerate() {
            let published = if *is_supervised { dir.watch_published(&inotify) } else { None };
            let found = dir.watch_exec(&inotify).into_iter().chain(published);
            watches.extend(found.map(|watch| (watch, index)));
        }
        let records = if by_evidence { RecordsWatch::of(services) } else { None };
        let news = Self { inotify, watches, records };
        news.watch_records();
        Some(news)
    }

    /// Returns whether a new record will be reported.
    pub fn reports_records(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.watch.get().is_some())
    }

    fn watch_records(&self) {
        let Some(records) = self.records.as_ref().filter(|records| records.watch.get().is_none()) else {
            return;
        };
        let what = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        records.watch.set(by_path::watch(&self.inotify, &records.directory, what).ok());
    }

    fn follower_of(&self, change: &FileChange<'_>) -> Option<usize> {
        match &self.records {
            Some(records) if records.watch.get() == Some(change.watch) => {
                records.services.get(change.name?).copied()
            }
            _ => self.watches.get(&change.watch).copied(),
        }
    }
}

impl RecordsWatch {
    fn of(services: &[(&ServiceDir, bool)]) -> Option<Self> {
        let directory = live::directory(services.first()?.0.path().parent()?);
        let services = services.iter().enumerate();
        let services =
            services.filter_map(|(index, (dir, _))| Some((dir.path().file_name()?.to_owned(), index)));
        Some(Self { directory, services: services.collect(), watch: Cell::new(None) })
    }
}

impl SharedNews for FollowNews {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch_records();
        Some(self.inotify.as_fd())
    }

    fn take(&self) -> Vec<usize> {
        let (mut out, mut is_loss) = (Vec::new(), false);
        let _ = self.inotify.read(|change| {
            is_loss |= change.is_loss();
            out.extend(self.follower_of(&change));
        });
        if is_loss {
            out.extend(self.watches.values());
            out.extend(self.records.iter().flat_map(|records| records.services.values()));
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatevisor_sys::file;
    use rustix::fs::{Mode, OFlags};
    use std::fs;

    /// Returns how many instances of inotify this process has.
    fn instances() -> usize {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| fs::read_link(entry.path()));
        links.flatten().filter(|link| link.to_string_lossy().contains("inotify")).count()
    }

    #[test]
    fn a_hundred_services_are_watched_with_one_instance_of_inotify_and_each_has_its_own_news() {
        let place = tempfile::tempdir().unwrap();
        let before = instances();
        let slots: Vec<ServiceDir> = (0..100)
            .map(|index| {
                let slot = place.path().join(format!("g{index}"));
                for directory in ["supervise", "data"] {
                    fs::create_dir_all(slot.join(directory)).unwrap();
                }
                fs::write(slot.join("run"), "#!/usr/bin/gatevisor service\n").unwrap();
                ServiceDir::new(slot)
            })
            .collect();
        let services: Vec<(&ServiceDir, bool)> = slots.iter().map(|slot| (slot, true)).collect();
        let news = FollowNews::of(&services, true).unwrap();
        assert_eq!(instances() - before, 1);
        assert!(!news.reports_records(), "nobody has published anything");
        let records = place.path().join(live::DIRECTORY);
        fs::create_dir(&records).unwrap();
        assert!(news.descriptor().is_some() && news.reports_records());
        let publish = |directory: &std::path::Path, name: &str| {
            let directory = by_path::open(directory, OFlags::DIRECTORY).unwrap();
            file::publish(&directory, name, ".new", b"{}", Mode::from_raw_mode(0o644)).unwrap();
        };
        for (name, expected) in [("g7", vec![7]), ("g7", vec![7]), (".watcher", vec![]), ("g99", vec![99])] {
            publish(&records, name);
            assert_eq!(news.take(), expected, "{name}");
        }
        publish(&place.path().join("g3/supervise"), "policy");
        fs::write(place.path().join("g1/data/started"), "").unwrap();
        assert_eq!(news.take(), [1, 3]);
        assert_eq!(news.take(), [0; 0]);
    }
}
