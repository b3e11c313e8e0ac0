//! The interpreters of this crate as a program, for its own tests: `slot-interpreter service|finish
//! …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("service") => {
            gatevisor_slot::run_service(args, |_, _| gatevisor_slot::start_permits::StartSeen::Unwatched)
        }
        Some("finish") => gatevisor_slot::run_finish(args),
        _ => ExitCode::from(100),
    }
}
