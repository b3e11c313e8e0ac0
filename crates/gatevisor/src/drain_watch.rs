//! *Lives here:* changes of drains, for commands that follow events.
//!
//! *Does not live here:* waiting for a change of a record (`event_subscriber`); the records
//! (`gatevisor_gateways::drain`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gatevisor_gateways::drain;
use gatevisor_wire::name::ServiceName;

/// A change of the drain of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainNews {
    /// Somebody drains it.
    Begun,
    /// It has no work left.
    Idle,
    /// It is no longer drained, whether or not it has work.
    Over,
}

/// Compares the drains of a scandir with those of the last look.
pub struct DrainWatch {
    scandir: PathBuf,
    /// The services that are drained, and whether they have no work left.
    drained: BTreeMap<String, bool>,
}

impl DrainWatch {
    /// Returns a watch that has seen the present drains.
    pub fn new(scandir: &Path) -> Self {
        let drained = drain::recorded(scandir).into_iter().collect();
        Self { scandir: scandir.to_owned(), drained }
    }

    /// Returns whether a service is drained, as of the last look.
    pub fn is_drained(&self, name: &ServiceName) -> bool {
        self.drained.contains_key(&name.to_string())
    }

    /// Returns the changes since the last look.
    pub fn news(&mut self) -> Vec<(String, DrainNews)> {
        let now = drain::recorded(&self.scandir).into_iter().collect();
        let before = std::mem::replace(&mut self.drained, now);
        changes(&before, &self.drained)
    }
}

fn changes(before: &BTreeMap<String, bool>, now: &BTreeMap<String, bool>) -> Vec<(String, DrainNews)> {
    let over = before.keys().filter(|name| !now.contains_key(*name)).map(|name| (name, DrainNews::Over));
    let begun = now.keys().filter(|name| !before.contains_key(*name)).map(|name| (name, DrainNews::Begun));
    let was_idle = |name: &String| before.get(name).is_some_and(|is_idle| *is_idle);
    let idle = now.iter().filter(|(name, is_idle)| **is_idle && !was_idle(name));
    let all = over.chain(begun).chain(idle.map(|(name, _)| (name, DrainNews::Idle)));
    all.map(|(name, news)| (name.clone(), news)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_begins_and_leaves_no_work_and_is_over_and_each_is_told_once() {
        let none = BTreeMap::new();
        let drained = |is_idle| BTreeMap::from([("a".to_owned(), is_idle)]);
        let told = |before: &BTreeMap<String, bool>, now: &BTreeMap<String, bool>| -> Vec<DrainNews> {
            changes(before, now).into_iter().map(|(_, news)| news).collect()
        };
        assert_eq!(told(&none, &drained(false)), [DrainNews::Begun]);
        assert_eq!(told(&drained(false), &drained(false)), []);
        assert_eq!(told(&drained(false), &drained(true)), [DrainNews::Idle]);
        assert_eq!(told(&drained(true), &drained(true)), []);
        assert_eq!(told(&none, &drained(true)), [DrainNews::Begun, DrainNews::Idle]);
        assert_eq!(told(&drained(true), &none), [DrainNews::Over]);
        assert_eq!(told(&drained(false), &none), [DrainNews::Over]);
    }
}
