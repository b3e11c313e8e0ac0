//! The mode of a subscriber's FIFO.
//!
//! The umask belongs to the whole process, so this test is alone in its program.

use gatevisor_client::{ServiceDir, Subscription};
use rustix::fs::Mode;
use std::{fs, os::unix::fs::PermissionsExt};
use tempfile::TempDir;

#[test]
fn every_notifier_may_write_to_a_subscriber_whatever_the_umask() {
    let dir = TempDir::new().unwrap();
    let event = dir.path().join("event");
    fs::create_dir(&event).unwrap();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let subscription = Subscription::subscribe(&ServiceDir::new(dir.path())).unwrap();
    let mode = fs::metadata(event.join(subscription.name())).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o622);
}
