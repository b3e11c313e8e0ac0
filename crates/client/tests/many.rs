//! Waiting for five hundred services at once with few descriptors.
//!
//! The limit of descriptors belongs to the whole process, so this test is alone in its program.

mod common;

use common::{DOWN, Fake, soon, up};
use gatevisor_client::{Condition, ServiceDir, Waited, act_all};
use gatevisor_wire::{control::Control, event::ServiceEvent};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{thread, time::Instant};
use tempfile::TempDir;

const COUNT: usize = 500;

#[test]
fn five_hundred_services_are_waited_for_with_a_soft_limit_of_1024_descriptors() {
    // In life a scandir is in memory; on a disk, making and removing all this takes most of the
    // time.
    let parent = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let low = Rlimit { current: Some(1024), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, low).unwrap();
    let fakes: Vec<Fake> =
        (0..COUNT).map(|n| Fake::start(&parent.path().join(format!("s{n}")), &DOWN)).collect();
    let dirs: Vec<ServiceDir> = fakes.iter().map(|fake| fake.dir.clone()).collect();

    let began = Instant::now();
    let mut told = vec![None; COUNT];
    let outcomes = thread::scope(|scope| {
        scope.spawn(|| {
            for (n, fake) in fakes.iter().enumerate() {
                assert_eq!(fake.commands(), b"u");
                let event = if n % 100 == 99 { ServiceEvent::PermanentFailure } else { ServiceEvent::Up };
                fake.publish(&if event == ServiceEvent::Up { up() } else { DOWN });
                assert_eq!(fake.tell(&[event]), 1);
            }
        });
        act_all(&dirs, &[Control::Up], Condition::Up, soon(), &mut |index, waited| {
            *told.get_mut(index).unwrap() = Some(waited);
        })
    });
    eprintln!("{COUNT} services told and waited for in {:?}", began.elapsed());

    for (n, (outcome, told)) in outcomes.iter().zip(told).enumerate() {
        let expected = if n % 100 == 99 { Waited::Failed } else { Waited::Reached };
        assert!(matches!(outcome, Ok(waited) if *waited == expected), "{n}: {outcome:?}");
        assert_eq!(told, Some(expected), "{n}");
    }
    // The limit is as it was.
    assert_eq!(getrlimit(Resource::Nofile), low);
}
