//! What the programs that the supervisor starts are told: its own user's, and those of other users.
//!
//! *Lives here:* which of the two a program gets. *Does not live here:* what is in them; the binary
//! decides that.

use std::ffi::CString;
use std::rc::Rc;

use gatevisor_sys::spawn::Environment;
use gatevisor_sys::user::User;
use gatevisor_wire::member;

use crate::Config;

/// Both environments, which are one where nothing is kept from the supervisor's own user.
#[derive(Debug)]
pub(crate) struct Environments {
    own: Rc<Environment>,
    others: Rc<Environment>,
}

impl Environments {
    pub(crate) fn new(config: &Config) -> Self {
        let others = Rc::new(without_ours(&config.environment));
        let own = match &config.own_environment {
            Some(own) => Rc::new(without_ours(own)),
            None => Rc::clone(&others),
        };
        Self { own, others }
    }

    /// Returns that of a program which runs as this user; as ours where that is none.
    pub(crate) fn of(&self, owner: Option<&User>) -> Rc<Environment> {
        Rc::clone(if owner.is_none() { &self.own } else { &self.others })
    }

    /// Returns that of the container's command, which becomes the agent's user by itself.
    pub(crate) fn of_command(&self) -> &Environment {
        &self.others
    }
}

/// Returns the environment that all services have: what we belong to ourselves is not what they
/// belong to.
fn without_ours(inherited: &[CString]) -> Environment {
    let is_ours = |assignment: &[u8]| {
        assignment.strip_prefix(member::VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    Environment::new(inherited.iter().filter(|one| !is_ours(one.as_bytes())).cloned().collect())
}
