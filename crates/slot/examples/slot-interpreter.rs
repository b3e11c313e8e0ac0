//! The interpreters of this crate as a program, for its own tests: `slot-interpreter service|finish
//! …`.

use std::path::Path;
use std::process::ExitCode;

use gatevisor_slot::start_permits::{AwaitedStart, StartSeen, StartSight};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("service") => {
            let (start, awaited) = (|_: &Path, _| StartSeen::Unwatched, |_: &Path| AwaitedStart::Over);
            gatevisor_slot::run_service(args, StartSight { start, awaited })
        }
        Some("finish") => gatevisor_slot::run_finish(args),
        _ => ExitCode::from(100),
    }
}
