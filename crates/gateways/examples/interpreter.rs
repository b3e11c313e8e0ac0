//! The least that can interpret a slot, for tests against a genuine s6: `service` and `finish` are
//! the real ones, and `log` appends whatever it reads to `current`.

use std::env;
use std::ffi::OsString;
use std::fs::{OpenOptions, create_dir_all};
use std::io;
use std::path::Path;
use std::process::ExitCode;

use gatevisor_slot::{expand, parse_log, run_finish, run_service};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    if args.is_empty() {
        return ExitCode::from(100);
    }
    let applet = args.remove(0);
    match applet.to_str() {
        Some("service") => run_service(args, gatevisor_gateways::live::START_SIGHT),
        Some("finish") => run_finish(args),
        Some("log") => match log() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(111),
        },
        _ => ExitCode::from(100),
    }
}

fn log() -> io::Result<()> {
    let settings = parse_log(&std::fs::read("run")?).map_err(io::Error::other)?;
    let directory = expand(&settings.directory, &|name| env::var_os(name)).map_err(io::Error::other)?;
    create_dir_all(&directory)?;
    let mut file =
        OpenOptions::new().create(true).append(true).open(Path::new(&directory).join("current"))?;
    io::copy(&mut io::stdin(), &mut file).map(drop)
}
