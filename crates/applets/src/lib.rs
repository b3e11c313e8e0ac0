//! The tools of s6, under their own names: `s6-svc`, `s6-svstat`, `with-contenv` and others.
//!
//! *Lives here:* the command lines, output and exit codes of the tools, and the links that give
//! them their names.
//!
//! *Does not live here:* the protocol (`wire`), sending and waiting (`client`), and the supervisor
//! itself: only the command line of `s6-svscan` is here, and the binary runs the supervisor. `logd`
//! parses and runs the script of `s6-log`.
//!
//! *May depend on it:* only the binary.
//!
//! **Deliberately absent:** a command-line parser with opinions. Scripts call these tools with
//! clustered option letters, and an operator at 3 a.m. must not find that ours reads them
//! otherwise.
#![forbid(unsafe_code)]

mod arguments;
mod become_program;
mod contenv;
mod exec_line;
mod fatal;
mod goal;
pub mod links;
mod log;
mod requested;
mod setuidgid;
mod sleep;
mod svc;
mod svdt;
mod svdt_clear;
mod svok;
pub mod svscan;
mod svscanctl;
mod svstat;
mod svwait;

use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use contenv::read as container_environment;
pub use fatal::{AppletOutcome, Fatal};

/// One of s6's tools, as this program implements it.
#[derive(Debug, Clone, Copy)]
pub struct Applet {
    /// The name that it is called by, such as `s6-svc`.
    pub name: &'static str,
    /// One line of help, imperative and without a full stop.
    pub summary: &'static str,
    /// Its usage after the name, printed for a wrong command line.
    pub usage: &'static str,
    run: Implementation,
}

/// What carries out an applet.
#[derive(Debug, Clone, Copy)]
enum Implementation {
    Here(fn(&[OsString]) -> AppletOutcome),
    /// The binary, because only it knows the supervisor.
    Supervisor,
}

const fn applet(
    name: &'static str,
    summary: &'static str,
    usage: &'static str,
    run: fn(&[OsString]) -> AppletOutcome,
) -> Applet {
    Applet { name, summary, usage, run: Implementation::Here(run) }
}

/// Every applet, by name.
pub const APPLETS: [Applet; 13] = [
    applet("execlineb", "become the one command of a script", exec_line::USAGE, exec_line::run),
    applet("s6-log", "log standard input as a script says", log::USAGE, log::run),
    applet("s6-setuidgid", "become a program as another user", setuidgid::USAGE, setuidgid::run),
    applet("s6-sleep", "wait", sleep::USAGE, sleep::run),
    applet("s6-svc", "send commands to a service", svc::USAGE, svc::run),
    applet("s6-svdt", "list the deaths of a service", svdt::USAGE, svdt::run),
    applet("s6-svdt-clear", "forget the deaths of a service", svdt_clear::USAGE, svdt_clear::run),
    applet("s6-svok", "tell whether a service is supervised", svok::USAGE, svok::run),
    Applet {
        name: svscan::NAME,
        summary: "supervise every service of a scandir, with the restart delays of s6",
        usage: svscan::USAGE,
        run: Implementation::Supervisor,
    },
    applet("s6-svscanctl", "send commands to the supervisor of a scandir", svscanctl::USAGE, svscanctl::run),
    applet("s6-svstat", "tell the state of a service", svstat::USAGE, svstat::run),
    applet("s6-svwait", "wait until services are up or down", svwait::USAGE, svwait::run),
    applet("with-contenv", "become a program in the container's environment", contenv::USAGE, contenv::run),
];

/// Returns the applet for the name or path with which a program was called.
pub fn find(called_as: &OsStr) -> Option<&'static Applet> {
    let name = Path::new(called_as).file_name()?;
    APPLETS.iter().find(|applet| name == applet.name)
}

impl Applet {
    /// Runs the applet with these arguments, without its name, and returns the exit code.
    ///
    /// Data goes to standard output, messages to standard error. For `s6-svscan`, `supervise` is
    /// called with the parsed command line, and returns the exit code.
    pub fn run(&self, arguments: &[OsString], supervise: impl FnOnce(svscan::Svscan) -> u8) -> u8 {
        let outcome = match self.run {
            Implementation::Here(run) => run(arguments),
            Implementation::Supervisor => svscan::parse(arguments).map(supervise),
        };
        outcome.unwrap_or_else(|fatal| fatal::last_words(self.name, self.usage, &fatal))
    }
}

#[cfg(test)]
mod tests {
    use super::{APPLETS, find};
    use std::ffi::OsStr;

    #[test]
    fn an_applet_is_found_by_its_name_wherever_it_is_installed() {
        for applet in APPLETS {
            for path in
                [applet.name.to_owned(), format!("/command/{}", applet.name), format!("./{}", applet.name)]
            {
                assert_eq!(find(OsStr::new(&path)).map(|found| found.name), Some(applet.name), "{path}");
            }
        }
        for other in ["", "/", "gatevisor", "s6-svcx", "S6-SVC", "s6-logger", "/s6-svc/x"] {
            assert!(find(OsStr::new(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn applets_are_listed_by_name_and_each_says_what_it_does() {
        assert!(APPLETS.is_sorted_by_key(|applet| applet.name));
        for applet in APPLETS {
            assert!(!applet.summary.ends_with('.') && applet.summary.starts_with(char::is_lowercase));
            assert!(applet.usage.starts_with(applet.name), "{}", applet.name);
        }
    }
}
