//! `gatevisor events`: what happens to services, as it happens.

use std::ffi::OsString;

use anstyle::AnsiColor;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_wire::event::Letter;
use gatevisor_wire::name::ServiceName;
use jiff::Timestamp;
use serde_json::json;

use crate::context::Context;
use crate::ears::{Ears, Happened};
use crate::exit::{Exit, Failure, Outcome};
use crate::out::{self, Text};

/// Prints events until the reader goes or somebody presses Ctrl-C.
pub fn run(context: &Context, names: &[OsString]) -> Outcome {
    let only = names.iter().map(|name| context.named(Some(name))).collect::<Result<_, _>>()?;
    if !context.supervisor_running()? {
        return Err(Failure::new(
            Exit::NotSupervised,
            format!(
                "no supervisor is running on `{}`; `gatevisor up` starts one",
                context.manager.scandir().display()
            ),
        ));
    }
    let mut ears = Ears::open(context.manager.scandir(), only)?;
    loop {
        ears.hear(None, |name, happened| print(context, name, happened))?;
    }
}

fn print(context: &Context, name: &ServiceName, happened: Happened) -> Result<(), Failure> {
    let now = Timestamp::now();
    let profile = ProfileName::of_service(name.as_bytes());
    let (word, colour, letter) = words(happened);
    if context.json {
        return out::json(&json!({
            "time": now.to_string(),
            "service": name.to_string(),
            "profile": profile.as_ref().map(ProfileName::as_str),
            "event": word,
            "letter": letter.map(|letter| char::from(letter.byte()).to_string()),
        }));
    }
    let shown = profile.map_or_else(|| name.to_string(), |profile| profile.to_string());
    let line = Text::from(format_args!("{} {shown} ", now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")));
    out::line(line.styled(out::colour(colour), word))
}

/// Returns the word for an event, its colour, and its letter: what a supervisor says that executes commands itself.
fn words(happened: Happened) -> (&'static str, AnsiColor, Option<Letter>) {
    match happened {
        Happened::Starting => ("starting", AnsiColor::Yellow, None),
        Happened::Up => ("up", AnsiColor::Green, Some(Letter::Up)),
        Happened::FailedToStart => ("failed to start", AnsiColor::Red, None),
        Happened::Letter(letter) => {
            let (word, colour) = words_of(letter);
            (word, colour, Some(letter))
        }
    }
}

const fn words_of(letter: Letter) -> (&'static str, AnsiColor) {
    match letter {
        Letter::SupervisionStarted => ("supervised", AnsiColor::Blue),
        Letter::Up => ("up", AnsiColor::Green),
        Letter::Ready => ("ready", AnsiColor::Green),
        Letter::Died => ("died", AnsiColor::Red),
        Letter::Finished => ("down", AnsiColor::Yellow),
        Letter::PermanentFailure => ("failed", AnsiColor::Red),
        Letter::SupervisionEnded => ("released", AnsiColor::Blue),
    }
}
