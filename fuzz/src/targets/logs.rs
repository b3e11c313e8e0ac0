//! Logs: the stream that is written to a file, and the file that is read.

use std::cell::RefCell;
use std::fs;
use std::ops::ControlFlow;

use gatevisor_logd::console::pieces::{Showing, Shred};
use gatevisor_logd::pipeline::stamping::Stamping;
use gatevisor_wire::log_protocol::{LogCommand, LogReply, MAX_PACKET};
use tempfile::TempDir;

/// The chunks in which a stream arrives change nothing.
pub fn log_stream(bytes: &[u8]) {
    let (&cut, stream) = bytes.split_first().unwrap_or((&0, &[]));
    let (head, tail) = stream.split_at(usize::from(cut).min(stream.len()));
    let compose = |chunks: &[&[u8]], stamp: &[u8]| {
        let (mut stamping, mut out) = (Stamping::new(), Vec::new());
        for chunk in chunks {
            stamping.compose(chunk, stamp, &mut out);
        }
        out
    };
    assert_eq!(compose(&[head, tail], b"now "), compose(&[stream], b"now "));
    assert_eq!(compose(&[head, tail], b""), stream);
    let (mut showing, mut shown) = (Showing::new(), 0);
    let mut show = |shred: Shred<'_>| {
        let Shred::Piece(piece) = shred else { panic!("nothing is lost") };
        assert!(!piece.kept.contains(&b'\n') && !piece.fresh.contains(&b'\n'));
        shown += piece.kept.len() + piece.fresh.len();
    };
    showing.feed(head, &mut show);
    showing.feed(tail, &mut show);
    showing.finish(&mut show);
    assert_eq!(shown, stream.iter().filter(|byte| **byte != b'\n').count());
}

thread_local! {
    static HOME: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A log file may hold anything.
pub fn log_lines(bytes: &[u8]) {
    use gatevisor_logreader::{Clock, Directory, Pick, ReadOptions, run};
    HOME.with_borrow_mut(|home| {
        let home =
            home.get_or_insert_with(|| TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap());
        fs::write(home.path().join("current"), bytes).unwrap();
        for clock in [Clock::Utc, Clock::Local] {
            let directory = Directory { label: "coder".to_owned(), path: home.path().to_owned(), clock };
            let options =
                ReadOptions { dirs: vec![directory], pick: Pick::default(), lines: None, follow: false };
            let _ = run(&options, &mut |_| ControlFlow::Continue(()));
        }
    });
}

/// Packets and replies are said in the bytes in which they are read.
pub fn log_packet(bytes: &[u8]) {
    if let Some(command) = LogCommand::decode(bytes) {
        assert_eq!(command.encode(), bytes);
        let has_name = matches!(command, LogCommand::Log { .. } | LogCommand::Show { .. });
        assert!(bytes.len() <= MAX_PACKET || has_name);
    }
    for reply in bytes.as_chunks().0 {
        if let Some(known) = LogReply::decode(*reply) {
            assert_eq!(known.encode(), *reply);
        }
    }
}
