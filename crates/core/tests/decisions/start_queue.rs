//! Which starts are made at one time.

use gatevisor_core::start_queue::StartQueue;

/// Returns a queue of so many starts for each owner.
fn queue(starts: &[(u32, usize)]) -> StartQueue<u32> {
    let mut queue = StartQueue::default();
    for &(owner, count) in starts {
        (0..count).for_each(|_| queue.push(owner, owner));
    }
    queue
}

/// Forks whatever may be forked now, and returns how many of which owner.
fn fork(queue: &mut StartQueue<u32>, owners: &[u32]) -> Vec<usize> {
    let mut forked = Vec::new();
    while let Some(owner) = queue.pop() {
        queue.forked(owner);
        forked.push(owner);
    }
    owners.iter().map(|owner| forked.iter().filter(|of| *of == owner).count()).collect()
}

#[test]
fn an_owner_whose_programs_never_start_keeps_nobody_else_waiting() {
    let mut queue = queue(&[(1, 100)]);
    assert_eq!(fork(&mut queue, &[1]), [24]);
    (0..20).for_each(|_| queue.push(2, 2));
    (0..20).for_each(|_| queue.push(3, 3));
    assert_eq!(fork(&mut queue, &[1, 2, 3]), [0, 4, 4]);
    // Owners with few starts always go on. Others go on while there are few processes in all.
    assert!(!queue.arrived(2));
    assert_eq!(fork(&mut queue, &[1, 2, 3]), [0, 1, 0]);
}

#[test]
fn one_owner_alone_has_a_bounded_number_of_processes_that_start() {
    let mut queue = queue(&[(1, 30)]);
    assert_eq!(fork(&mut queue, &[1]), [24]);
    assert!(
        (0..23).all(|_| !queue.arrived(1)) && queue.arrived(1),
        "the last one tells that none is starting"
    );
    assert_eq!(fork(&mut queue, &[1]), [6]);
    assert!(queue.is_empty());
}
