//! `gatevisor tree`: all processes of gateways.
//!
//! *Lives here:* printing. *Does not live here:* finding them (`gatevisor_gateways::tree`).

use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::profile::ProfileName;
use gatevisor_gateways::tree::{self, Leader};
use gatevisor_sys::proc::Process;
use serde::Serialize;

use crate::args::Choice;
use crate::choice::{NameScope, Unnamed, chosen};
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Outcome};
use crate::out::{self, BOLD, Text, TextTable};
use crate::units::{milliseconds, size};

/// A process as a JSON object.
#[derive(Serialize)]
struct ProcessObject<'a> {
    profile: &'a ProfileName,
    pid: i32,
    parent: i32,
    session: i32,
    /// How many of the listed processes are its ancestors.
    depth: usize,
    is_leader: bool,
    memory_bytes: u64,
    cpu_ms: u64,
    command: String,
}

/// Prints the processes of each gateway that is up.
pub fn run(context: &CommandContext, choice: &Choice) -> Outcome {
    let names = chosen(context, choice, NameScope::Slots, Unnamed::SelectedElseAll)?;
    let mut up = Vec::new();
    for name in &names {
        let observed = context.manager.observe(name)?;
        let pid = observed.and_then(|observed| observed.status).and_then(|status| status.pid);
        if let Some(pid) = pid {
            up.push((name, Leader { service: name.service_entry(), pid, may_have_group: true }));
        }
    }
    if up.is_empty() {
        let what = names.iter().map(ProfileName::as_str).collect::<Vec<_>>().join(", ");
        return Err(context.absent(format!("no process of {what} is there; `gatevisor status` says why")));
    }
    let leaders: Vec<Leader> = up.iter().map(|(_, leader)| leader.clone()).collect();
    let members = tree::members(context.manager.scandir(), &leaders);
    for (index, (name, leader)) in up.iter().enumerate() {
        let own = members.iter().filter(|(whose, _)| *whose == index).map(|(_, process)| process.clone());
        let own: Vec<Process> = own.collect();
        show(context, name, leader, &own, index > 0)?;
    }
    DONE
}

fn show(
    context: &CommandContext,
    name: &ProfileName,
    leader: &Leader,
    members: &[Process],
    is_next: bool,
) -> Result<(), CommandError> {
    let ordered = tree::in_order(members);
    if context.json {
        return ordered.iter().try_for_each(|(process, depth)| {
            out::json(&ProcessObject {
                profile: name,
                pid: process.pid,
                parent: process.parent,
                session: process.session,
                depth: *depth,
                is_leader: process.pid == leader.pid.get(),
                memory_bytes: tree::memory_bytes(process),
                cpu_ms: process.cpu_ms,
                command: process.words(),
            })
        });
    }
    if is_next {
        out::empty_line()?;
    }
    out::line(Text::default().styled(BOLD, name))?;
    let mut table = TextTable::new(["PID", "MEMORY", "CPU", "COMMAND"]);
    for (process, depth) in ordered {
        let command = format!("{}{}", "  ".repeat(depth), process.words());
        table.row([
            process.pid.to_string().into(),
            size(tree::memory_bytes(process)).into(),
            milliseconds(process.cpu_ms).into(),
            command.into(),
        ]);
    }
    out::lines(&table.lines())
}
