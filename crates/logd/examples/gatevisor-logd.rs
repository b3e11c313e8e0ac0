//! The programs of this crate, for its own tests and measurements: `gatevisor-logd logd|log …`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("logd") => gatevisor_logd::daemon::main(args),
        Some("log") => gatevisor_logd::daemon::standalone::run(args),
        _ => ExitCode::from(100),
    }
}
