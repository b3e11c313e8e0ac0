//! A machine without `/proc`, such as the inside of a bare chroot: everything works that does not
//! need it.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::home::{Home, Ran, Running};
use crate::support::WAIT_LIMIT;

/// Returns a command line of a home, in a mount namespace whose `/proc` is empty; `None` without
/// the right to make one.
fn without_proc(home: &Home, arguments: &[&str]) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let command = home.command(arguments);
    let mut outside = Command::new("unshare");
    outside.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]);
    outside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outside.env(name, value),
            None => outside.env_remove(name),
        };
    }
    outside.stdin(Stdio::null());
    Some(outside)
}

fn start(home: &Home, line: &str) -> Option<Running> {
    without_proc(home, &line.split(' ').collect::<Vec<_>>()).map(|command| home.spawn(command))
}

#[test]
fn without_a_proc_gateways_are_started_logged_shown_and_stopped() {
    let home = Home::with_script("echo begins; exec sleep 1000", &[]);
    home.profile("coder");
    home.want_running("coder");
    let Some(supervisor) = start(&home, "up --quiet") else { return };
    let says = |line: &str| -> Ran { start(&home, line).unwrap().ended(WAIT_LIMIT + WAIT_LIMIT) };
    home.until("coder", gatevisor_client::Condition::Up);
    home.until_logged("coder", "begins");
    let table = says("status coder").ok();
    assert!(table.contains(" up "), "{table}");
    says("gateway restart coder").ok();
    says("logs coder").ok();
    assert_eq!(says("s6 s6-svok /nonexistent").code, Some(1));
    let slot = home.slot("coder").path().display().to_string();
    assert!(says(&format!("s6 s6-svstat {slot}")).ok().starts_with("up (pid "));
    says(&format!("s6 s6-svc -d {slot}")).ok();
    home.until("coder", gatevisor_client::Condition::Down);
    let doctor = says("doctor --json").out;
    assert!(!doctor.contains("cannot be seen from here"), "{doctor}");
    says("profile create writer --start").ok();
    says("gateway stop --all").ok();
    supervisor.signal(Signal::INT);
    let ended = supervisor.ended(WAIT_LIMIT + WAIT_LIMIT);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.ends_with("everything that is known here has stopped\n"), "{ended:?}");
    assert!(!ended.err.contains("did not stop in time"), "{ended:?}");
}
