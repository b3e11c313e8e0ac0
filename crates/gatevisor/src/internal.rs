//! The verbs that only the kernel, the supervisor or slots call: recognizing them, and their help.
//!
//! *Lives here:* their names and purposes.
//! *Does not live here:* their work; the command line for people (`args`).

use std::ffi::OsString;
use std::process::ExitCode;

use gatevisor_gateways::live;

use crate::enter::TerminalOwner;
use crate::exit::{DONE, Outcome};
use crate::{enter, init, out, supervise, takeover, watch};

/// An internal verb.
struct InternalCommand {
    name: &'static str,
    usage: &'static str,
    about: &'static str,
    run: fn(&[OsString]) -> ExitCode,
}

const COMMANDS: [InternalCommand; 16] = [
    InternalCommand {
        name: "supervise",
        usage: supervise::USAGE,
        about: "Supervise every service of SCANDIR, and nothing else. `gatevisor up` and `gatevisor init` become
this.

  --grace-ms N               kill what has not stopped this long after the request to stop (30000)
  --max-services-of-user N   refuse further services of a user who has N (2000)
  --max-services N           refuse further services when N are supervised (10000)
  --s6-timing                restart as s6-supervise does, once a second
  --notify-fd N              write a line to file N once it supervises
  --beside-fd N              keep this program running beside it, called with the words that file N
                             holds
  --comm NAME                have the process called NAME
  --command-fd N             start the command that file N holds, and end with it
  --stop-first PREFIX        stop services whose names begin so before the command",
        run: supervise::main,
    },
    InternalCommand {
        name: "init",
        usage: "gatevisor init [--] [COMMAND [ARGUMENT…]]",
        about: "Boot a container and run its command; the entry point of an image, also called `/init`. Called by
that name every argument is the command's. docs/guides/hermes.md lists the variables that it reads.",
        run: |words| crate::out::ended(init::run(words)),
    },
    InternalCommand {
        name: "enter",
        usage: "gatevisor enter [--] [COMMAND [ARGUMENT…]]",
        about: "Become a command as the agent's user, in the agent's environment. `gatevisor init` starts a
container's command with it.",
        run: |words| crate::out::ended(enter::run(after_dashes(words), TerminalOwner::Callers)),
    },
    InternalCommand {
        name: init::COMMAND,
        usage: "gatevisor container-command [--] [COMMAND [ARGUMENT…]]",
        about: "Become a container's command, which has the container's terminal. Only the supervisor calls this.",
        run: |words| crate::out::ended(enter::run(after_dashes(words), TerminalOwner::Containers)),
    },
    InternalCommand {
        name: "service",
        usage: "gatevisor service FILE [NAME]",
        about: "Become the command that FILE describes; the interpreter of `run` in a slot
(`#!/usr/local/bin/gatevisor service`). docs/reference/slot.md says what FILE may hold.",
        run: |words| gatevisor_slot::run_service(words.iter().cloned(), live::START_SIGHT),
    },
    InternalCommand {
        name: "finish",
        usage: "gatevisor finish FILE CODE SIGNAL NAME PID",
        about: "Say by the exit code whether a death is final; the interpreter of `finish` in a slot under s6.",
        run: |words| gatevisor_slot::run_finish(words.iter().cloned()),
    },
    InternalCommand {
        name: "log",
        usage: "gatevisor log FILE [NAME]",
        about: "Write standard input to the log that FILE describes; the interpreter of `log/run` in a slot under
s6.",
        run: |words| gatevisor_logd::daemon::standalone::run(words.iter().cloned()),
    },
    InternalCommand {
        name: "logd",
        usage: "gatevisor logd [UID]",
        about: "Write the logs of one user's services. Only the supervisor calls this; descriptor 3 is its socket.",
        run: |words| gatevisor_logd::daemon::main(words.iter().cloned()),
    },
    InternalCommand {
        name: "in-group",
        usage: "gatevisor in-group GROUP UID PROGRAM NAME [ARGUMENT…]",
        about: "Start a service in a control group of its own. Only the supervisor calls this.",
        run: |words| gatevisor_slot::run_in_group(words.iter().cloned()),
    },
    InternalCommand {
        name: "end-group",
        usage: "gatevisor end-group GROUP",
        about: "End what is left in a service's control group, and remove the group. Only the supervisor calls
this.",
        run: |words| gatevisor_slot::end_group(words.iter().cloned()),
    },
    InternalCommand {
        name: "ask-handoff",
        usage: "gatevisor ask-handoff NAME PID CODE",
        about: "Ask whether a service that has ended wants to be started again. Only the supervisor calls this, in
the service directory.",
        run: |words| gatevisor_slot::run_ask_handoff(words.iter().cloned()),
    },
    InternalCommand {
        name: "end-survivors",
        usage: "gatevisor end-survivors SCANDIR NAME orphan|reader|survivors PID SINCE GRACE [GROUP]",
        about: "End what an earlier life of a service has left behind. Only the supervisor calls this, in the
service directory.",
        run: |words| gatevisor_slot::run_end_survivors(words.iter().cloned()),
    },
    InternalCommand {
        name: takeover::NAME,
        usage: "gatevisor takeover",
        about: "Wait until the container that runs the gateways of this home is gone, and start them here; a
service of a container.",
        run: |_| crate::out::ended(Err(takeover::run(takeover::Began::Elsewhere))),
    },
    InternalCommand {
        name: watch::NAME,
        usage: "gatevisor profile-watcher",
        about: "Give new profiles a slot, and take those of vanished ones away; a service of a container.",
        run: |_| crate::out::ended(Err(takeover::run(takeover::Began::Here))),
    },
    InternalCommand {
        name: watch::BESIDE,
        usage: "gatevisor beside [--web=ADDRESS] SUPERVISOR HOME SCANDIR [AGENT]",
        about: "Watch the profiles and the gateways of a home as long as its supervisor runs. `gatevisor up` has
the supervisor keep this running.",
        run: |words| crate::out::ended(watch::run(words)),
    },
    InternalCommand {
        name: "idle",
        usage: "gatevisor idle",
        about: "Wait to be ended; a service that does nothing.",
        run: |_| idle(),
    },
];

/// Carries out an internal verb; `None` if the verb is for people.
///
/// They need no command-line parser, because their callers know the syntax. In a script with
/// Windows line ends, the kernel makes the carriage return part of the verb; the code that reads
/// the script reports that.
pub fn called(arguments: &[OsString]) -> Option<ExitCode> {
    let name = arguments.get(1)?.to_str()?.trim_end_matches('\r');
    let verb = COMMANDS.iter().find(|verb| name == verb.name)?;
    let words = arguments.get(2..).unwrap_or_default();
    Some(if asks_for_help(words) { help(verb) } else { (verb.run)(words) })
}

/// Carries out `gatevisor init` if options for people come before the verb.
pub fn init(words: &[OsString]) -> Outcome {
    if let (true, Some(verb)) = (asks_for_help(words), COMMANDS.iter().find(|verb| verb.name == "init")) {
        return print_help(verb);
    }
    init::run(words)
}

fn asks_for_help(words: &[OsString]) -> bool {
    words.first().is_some_and(|word| word == "--help" || word == "-h")
}

fn help(verb: &InternalCommand) -> ExitCode {
    crate::out::ended(print_help(verb))
}

fn print_help(verb: &InternalCommand) -> Outcome {
    for line in format!("{}\n\nUsage: {}", verb.about, verb.usage).lines() {
        out::line(line)?;
    }
    DONE
}

fn after_dashes(words: &[OsString]) -> &[OsString] {
    match words {
        [dashes, rest @ ..] if dashes == "--" => rest,
        all => all,
    }
}

/// Waits to be killed: a service that does nothing.
fn idle() -> ExitCode {
    loop {
        // It is interrupted by every signal that does not end this process.
        let _ = rustix::event::poll(&mut [], None);
    }
}
