//! Completion in a shell: the script that a shell reads once, and the answers to its questions.
//!
//! *Lives here:* the names to complete.
//! *Does not live here:* the languages of the shells, and which word belongs at which place of a
//! command line (`clap_complete`).
//!
//! To complete, a shell calls this program with [`VARIABLE`] set and the words so far. So the names
//! of profiles are the present ones, in the home that the words name.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use gatevisor_gateways::profile::ProfileName;

use crate::args::{Cli, Common};
use crate::choice::{self, NameScope};
use crate::context::{CommandContext, MissingHome};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;

/// The variable by which a shell asks for completions; its value is the shell's name.
const VARIABLE: &str = "GATEVISOR_COMPLETE";

/// The name of this program in a shell.
const NAME: &str = "gatevisor";

/// Prints the script that makes a shell complete our command lines.
pub fn script(shell: clap_complete::Shell) -> Outcome {
    let failed = |why: &dyn std::fmt::Display| {
        CommandError::new(Exit::System, format!("cannot write a script for {shell}: {why}"))
    };
    let program = gatevisor_sys::process::own_program().map_err(|error| failed(&error))?;
    let program = program.to_str().ok_or_else(|| failed(&"the path of this program is not UTF-8"))?;
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).ok_or_else(|| failed(&"it is not known"))?;
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, NAME, NAME, program, &mut script)
        .map_err(|error| failed(&error))?;
    out::script(&script)?;
    DONE
}

/// Answers a shell that asks for completions; `None` if no shell asks.
pub fn asked(arguments: &[OsString]) -> Option<Outcome> {
    let shell = std::env::var(VARIABLE).ok().filter(|shell| !shell.is_empty())?;
    let shells = Shells::builtins();
    let completer = shells.completer(&shell)?;
    let words = words(arguments);
    if words.is_empty() {
        return Some(DONE);
    }
    let mut answer = Vec::new();
    let here = std::env::current_dir().ok();
    // A shell shows no error, so an unknown case proposes nothing.
    let _ = completer.write_complete(&mut command(), words, here.as_deref(), &mut answer);
    Some(out::script(&answer).and(DONE))
}

/// Returns the definition of the command line, with the completion of names.
fn command() -> Command {
    with_names(Cli::command())
}

fn with_names(command: Command) -> Command {
    let with_names_of = |argument: Arg| match argument.get_id().as_str() {
        "names" | "existing" | "profile" => argument.add(ArgValueCompleter::new(profiles)),
        "applet" => argument.add(ArgValueCompleter::new(applets)),
        _ => argument,
    };
    command.mut_args(with_names_of).mut_subcommands(with_names)
}

/// Returns the words of the command line to complete.
fn words(arguments: &[OsString]) -> Vec<OsString> {
    arguments.iter().skip_while(|word| *word != "--").skip(1).cloned().collect()
}

/// Returns the names of profiles with this beginning.
fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let common = common(&words(&arguments));
    let Ok(context) = CommandContext::new(&common, MissingHome::IsRefused, false) else { return Vec::new() };
    let names = choice::members(&context, NameScope::Known).unwrap_or_default();
    candidates(current, names.iter().map(ProfileName::as_str))
}

/// Returns the names of applets with this beginning.
fn applets(current: &OsStr) -> Vec<CompletionCandidate> {
    candidates(current, gatevisor_applets::APPLETS.iter().map(|applet| applet.name))
}

fn candidates<'a>(current: &OsStr, names: impl Iterator<Item = &'a str>) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    names.filter(|name| name.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// Returns home, scandir and agent according to an unfinished command line.
fn common(words: &[OsString]) -> Common {
    let value = |option: &str| {
        let with_equals = format!("{option}=");
        words.iter().enumerate().find_map(|(index, word)| {
            if word == option {
                return words.get(index.checked_add(1)?).cloned();
            }
            Some(OsString::from(word.to_str()?.strip_prefix(&with_equals)?))
        })
    };
    let path = |option: &str| value(option).map(of_home);
    Common {
        profile: None,
        home: path("--home"),
        scandir: path("--scandir"),
        agent: path("--agent"),
        json: false,
    }
}

/// Returns a path as a shell would pass it: during completion, the shell has not replaced `~` yet.
fn of_home(word: OsString) -> PathBuf {
    let rest = word.to_str().and_then(|word| word.strip_prefix("~/"));
    match rest.zip(std::env::var_os("HOME")) {
        Some((rest, home)) => PathBuf::from(home).join(rest),
        None => word.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common_of(line: &str) -> Common {
        common(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn an_unfinished_command_line_says_on_which_home_it_works() {
        let home = |line| common_of(line).home;
        assert_eq!(home("gatevisor --home /a restart co"), Some("/a".into()));
        assert_eq!(home("gatevisor restart --home=/a co"), Some("/a".into()));
        assert_eq!(home("gatevisor restart co"), None);
        assert_eq!(home("gatevisor restart --home"), None);
        assert_eq!(common_of("gatevisor --agent /b.toml --scandir /c stop").agent, Some("/b.toml".into()));
    }
}
