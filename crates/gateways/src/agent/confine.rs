//! *Lives here:* what an agent definition says about what its gateways may do and use.
//!
//! *Does not live here:* what each setting means (`gatevisor-slot`).

use std::collections::BTreeMap;

use gatevisor_slot::group::Bound;
use gatevisor_slot::{Landlock, LimitName, ResourceLimit, ServiceFile};
use schemars::JsonSchema;
use serde::Deserialize;

use super::fault::{Fault, fault};

/// What is added to a gateway's OOM score unless the definition sets it: a fifth of the machine's
/// memory.
const OOM_SCORE_RAISE: i32 = 200;

/// Restrictions of a gateway, named as in `run`, and the bounds of its control group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConfineDefinition {
    /// File mode creation mask in octal.
    pub umask: Option<String>,
    /// Scheduling priority.
    pub nice: Option<i32>,
    /// Forbids that any program gets more rights when it is executed (`no_new_privs`).
    pub no_new_privileges: bool,
    /// The OOM score adjustment, by which the kernel chooses what to kill when memory runs out.
    pub oom_score_adj: Option<i32>,
    /// How much is added to the OOM score with which the supervisor was started, so that the kernel
    /// kills a gateway before the supervisor; 0 adds nothing.
    pub oom_score_raise: Option<i32>,
    /// The capabilities that the gateway may have, and no others.
    pub capabilities: Option<Vec<String>>,
    /// The inherited variables that the gateway receives.
    pub environment_allow: Option<Vec<String>>,
    /// Whether a restriction that cannot be applied keeps the gateway from starting.
    pub strict: bool,
    /// Resource limits of each process.
    pub limits: BTreeMap<LimitName, ResourceLimit>,
    /// The paths in which it may write, read and execute.
    pub landlock: Option<Landlock>,
    /// Bounds for all its processes together.
    pub cgroup: CgroupDefinition,
}

/// Bounds of a gateway's control group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CgroupDefinition {
    /// Bytes of memory, beyond which a process of the gateway is killed.
    pub memory: Option<u64>,
    /// Bytes of memory, beyond which the gateway is slowed down.
    pub memory_high: Option<u64>,
    /// Percent of one processor.
    pub cpu_percent: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl CgroupDefinition {
    /// Returns the bounds that are set.
    pub fn bounds(&self) -> impl Iterator<Item = (Bound, u64)> {
        let number = |bound| match bound {
            Bound::Memory => self.memory,
            Bound::MemoryHigh => self.memory_high,
            Bound::CpuPercent => self.cpu_percent,
            Bound::Pids => self.pids,
        };
        Bound::ALL.into_iter().filter_map(move |bound| Some((bound, number(bound)?)))
    }
}

impl ConfineDefinition {
    /// Sets the restrictions in `run`; `filled` fills in each text.
    ///
    /// # Errors
    /// Errors of `filled`.
    pub fn set<E>(
        &self,
        file: &mut ServiceFile,
        filled: &dyn Fn(&String) -> Result<String, E>,
    ) -> Result<(), E> {
        let list = |texts: &[String]| texts.iter().map(filled).collect::<Result<Vec<_>, E>>();
        file.umask.clone_from(&self.umask);
        file.nice = self.nice;
        file.no_new_privileges = self.no_new_privileges;
        file.oom_score_adj = self.oom_score_adj;
        let usual = self.oom_score_adj.is_none().then_some(OOM_SCORE_RAISE);
        file.oom_score_raise = self.oom_score_raise.or(usual).filter(|raise| *raise != 0);
        file.capabilities.clone_from(&self.capabilities);
        file.environment_allow.clone_from(&self.environment_allow);
        file.strict = self.strict;
        file.limits.clone_from(&self.limits);
        file.landlock = match &self.landlock {
            Some(landlock) => Some(Landlock {
                write: list(&landlock.write)?,
                read: landlock.read.as_deref().map(list).transpose()?,
                execute: landlock.execute.as_deref().map(list).transpose()?,
            }),
            None => None,
        };
        Ok(())
    }
}

/// Returns the first value that is wrong; `filled` fills in the texts.
pub(super) fn check(
    confine: &ConfineDefinition,
    filled: &dyn Fn(&String) -> Result<String, Fault>,
) -> Result<(), Fault> {
    let mut file = ServiceFile::new(vec!["command".to_owned()]);
    confine.set(&mut file, filled)?;
    if let Err(error) = file.check() {
        return fault("gateway.confine", error.to_string());
    }
    for (bound, number) in confine.cgroup.bounds() {
        if let Err(reason) = bound.check(number) {
            return fault("gateway.confine.cgroup", format!("`{}` {reason}", bound.name()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::agent::{AgentDefinition, SMALL};

    fn with(confine: &str) -> Result<AgentDefinition, String> {
        AgentDefinition::parse(&format!("{SMALL}[gateway.confine]\n{confine}"), "my-agent.toml").map_err(
            |error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                format!("{error}{}", cause.unwrap_or_default())
            },
        )
    }

    #[test]
    fn a_definition_says_what_its_gateways_may_do_and_use() {
        let agent = with(
            "umask = \"077\"\nno-new-privileges = true\nlimits = { nofile = \"1024:4096\" }\n\
             landlock = { write = [\"{profile-home}\"] }\n[gateway.confine.cgroup]\npids = 50\ncpu-percent = 150\n",
        )
        .unwrap();
        let confine = agent.gateway.confine;
        assert!(confine.no_new_privileges && !confine.strict);
        assert_eq!(confine.cgroup.bounds().count(), 2);
    }

    #[test]
    fn a_restriction_that_makes_no_sense_is_named() {
        for (text, part) in [
            ("umask = \"9\"", "`gateway.confine`: `umask`: must be an octal mask"),
            ("capabilities = [\"X\"]", "`gateway.confine`: `capabilities`: `X` is no capability"),
            (
                "landlock = { write = [\"{unknown}\"] }",
                "`gateway.confine.landlock`: `{unknown}` is not known here",
            ),
            (
                "landlock = { read = [\"$HOME\"] }",
                "`gateway.confine.landlock`: `$HOME` is no variable; write ${NAME}",
            ),
            ("cgroup = { pids = 0 }", "`gateway.confine.cgroup`: `pids` must be at least 1"),
            ("cgroup = { pid = 1 }", "do you mean `pids`?"),
            ("limits = { nofile = \"x\" }", "must be a number"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.contains(part), "{error:?} should hold {part:?}");
        }
    }
}
