//! *Lives here:* noticing, for all gateways that are followed together, whose record the watcher of
//! gateways has published.
//!
//! *Does not live here:* what the record says (`evidence`).
//!
//! All records are in one directory. If each follower watched it, the news of one would wake all,
//! and a start of many would take a time that grows with the square of their number.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use gatevisor_client::engine::SharedNews;
use gatevisor_paths::by_path;
use gatevisor_sys::inotify::{Inotify, WatchFlags};

use crate::live;

/// Reports whose record was published.
pub(super) struct RecordNews {
    directory: PathBuf,
    indexes: HashMap<OsString, usize>,
    /// Missing while there is no such directory: nobody has watched these gateways yet.
    inotify: OnceCell<Inotify>,
}

impl RecordNews {
    /// Begins to watch the records of services, which are in one scandir; `None` if there are none.
    pub fn of<'a>(services: impl Iterator<Item = &'a Path>) -> Option<Self> {
        let mut scandir = None;
        let mut indexes = HashMap::new();
        for (index, service) in services.enumerate() {
            scandir = scandir.or_else(|| service.parent());
            indexes.extend(service.file_name().map(|name| (name.to_owned(), index)));
        }
        let news = Self { directory: live::directory(scandir?), indexes, inotify: OnceCell::new() };
        news.watch();
        Some(news)
    }

    /// Returns whether news will be reported.
    pub fn is_watching(&self) -> bool {
        self.inotify.get().is_some()
    }

    fn watch(&self) -> Option<&Inotify> {
        if self.inotify.get().is_none() {
            let what = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
            let inotify = Inotify::new().ok()?;
            by_path::watch(&inotify, &self.directory, what).ok()?;
            let _ = self.inotify.set(inotify);
        }
        self.inotify.get()
    }
}

impl SharedNews for RecordNews {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.watch().map(AsFd::as_fd)
    }

    fn take(&self) -> Vec<usize> {
        let mut out = Vec::new();
        let Some(inotify) = self.inotify.get() else { return out };
        let _ = inotify.read(|change| match change.name {
            _ if change.is_loss() => out.extend(self.indexes.values()),
            Some(name) => out.extend(self.indexes.get(name)),
            None => {}
        });
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

    #[test]
    fn a_record_is_news_for_its_own_service_alone() {
        let place = tempfile::tempdir().unwrap();
        let services: Vec<PathBuf> = (0..100).map(|index| place.path().join(format!("g{index}"))).collect();
        let news = RecordNews::of(services.iter().map(PathBuf::as_path)).unwrap();
        assert!(news.descriptor().is_none() && !news.is_watching(), "nobody has published anything");
        fs::create_dir(place.path().join(live::DIRECTORY)).unwrap();
        assert!(news.descriptor().is_some() && news.is_watching());
        let directory = by_path::open(&place.path().join(live::DIRECTORY), OFlags::DIRECTORY).unwrap();
        let publish = |name: &str| {
            file::publish(&directory, name, ".new", b"{}", Mode::from_raw_mode(0o644)).unwrap();
        };
        for (name, expected) in [("g7", vec![7]), ("g7", vec![7]), (".watcher", vec![]), ("g99", vec![99])] {
            publish(name);
            assert_eq!(news.take(), expected, "{name}");
        }
        publish("g3");
        publish("g1");
        assert_eq!(news.take(), [1, 3]);
        assert!(RecordNews::of(std::iter::empty()).is_none());
    }
}
