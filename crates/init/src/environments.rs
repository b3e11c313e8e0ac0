//! The environments of the programs that the supervisor starts: one for its own user's programs,
//! one for those of other users.
//!
//! *Lives here:* which of the two a program gets.
//! *Does not live here:* their contents, which the binary decides.

use std::ffi::CString;
use std::rc::Rc;

use gatevisor_sys::spawn::Environment;
use gatevisor_sys::user::User;
use gatevisor_wire::member;

use crate::Config;

/// Both environments. They are the same one if nothing is withheld from the supervisor's own user.
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

    /// Returns the environment of a program that runs as this user; `None` is our own user.
    pub(crate) fn of(&self, owner: Option<&User>) -> Rc<Environment> {
        Rc::clone(if owner.is_none() { &self.own } else { &self.others })
    }

    /// Returns the environment of the container's command, which becomes the agent's user by
    /// itself.
    pub(crate) fn of_command(&self) -> &Environment {
        &self.others
    }
}

/// Returns the environment of all services, without the variable that tells to which service the
/// supervisor itself belongs.
fn without_ours(inherited: &[CString]) -> Environment {
    let is_ours = |assignment: &[u8]| {
        assignment.strip_prefix(member::VARIABLE.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    Environment::new(inherited.iter().filter(|one| !is_ours(one.as_bytes())).cloned().collect())
}
