//! `gatevisor gateway …`

use gatevisor_gateways::manager::{
    Done, GatewayRequest, GatewayVerb, Registered, ServiceManager, Unregistered, WaitFor,
};
use gatevisor_gateways::profile::ProfileName;

use crate::args::{self, Choice};
use crate::choice::{self, NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::each::{self, Told};
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::outcome_words::registered_words;
use crate::{control, drain, out, own_restart, withdrawal};

/// Runs one of the verbs.
pub fn run(context: &CommandContext, verb: args::GatewayCommand) -> Outcome {
    match verb {
        args::GatewayCommand::Start(target) => {
            control::run(context, &target, GatewayVerb::Start, &of_slots(context, &target.choice)?)
        }
        args::GatewayCommand::Stop(target) => drain::stop_or_restart(context, &target, GatewayVerb::Stop),
        args::GatewayCommand::Restart(target) if target.own => own_restart::ask(context, &target),
        // The parser does not refuse this if --self is not allowed either.
        args::GatewayCommand::Restart(target) if target.after_turn => Err(CommandError::new(
            Exit::Usage,
            "--after-turn is for a gateway that asks for its own restart with --self; \
             --drain has any other end its turns first",
        )),
        args::GatewayCommand::Restart(target) => {
            drain::stop_or_restart(context, &target.drained, GatewayVerb::Restart)
        }
        args::GatewayCommand::Drain(options) => drain::run(context, &options),
        args::GatewayCommand::Status(choice) => crate::status::details(context, &of_slots(context, &choice)?),
        args::GatewayCommand::Register { choice, start } => register(context, &choice, start),
        args::GatewayCommand::Unregister(choice) => unregister(context, &choice),
    }
}

/// Returns the gateways that are meant; with `--all`, those that have a slot.
fn of_slots(context: &CommandContext, choice: &Choice) -> Result<Vec<ProfileName>, CommandError> {
    chosen(context, choice, NameScope::Slots, Unnamed::Selected)
}

fn register(context: &CommandContext, choice: &Choice, start: bool) -> Outcome {
    let _held = context.held();
    let manager = &context.manager;
    // Registering ends when the command is executed; `gateway start` waits for evidence that it
    // works.
    let request = GatewayRequest { wait: WaitFor::Up, ..GatewayRequest::here("gateway register") };
    let names = if choice.all {
        let with_slot = manager.list()?;
        let known = choice::members(context, NameScope::Known)?;
        known.into_iter().filter(|name| !with_slot.contains(name)).collect()
    } else {
        chosen(context, choice, NameScope::Known, Unnamed::Selected)?
    };
    if names.is_empty() && !context.json {
        out::line(format_args!("every profile has its slot already"))?;
        return DONE;
    }
    let results = each::at_once(context, &names, |name| {
        let done: Done<Registered> = manager.register(name, start, &request)?;
        Ok(Told::new(registered_words(done.outcome), done.warnings))
    });
    each::tell(context, &names, results)
}

fn unregister(context: &CommandContext, choice: &Choice) -> Outcome {
    let _held = context.held();
    let names = of_slots(context, choice)?;
    let manager = &context.manager;
    let results = withdrawal::each(context, &names, |name| {
        let done: Done<Unregistered> = manager.unregister(name)?;
        let words = match done.outcome {
            Unregistered::Gone => "gone",
            Unregistered::WasAbsent => "had no slot",
        };
        Ok(Told::new(words, done.warnings))
    });
    each::tell(context, &names, results)
}
