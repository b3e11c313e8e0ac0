//! What the programs that the supervisor starts are told: its own user's, and those of other users.
//!
//! *Lives here:* which of the two a program gets. *Does not live here:* what is in them; the binary decides that.

use std::rc::Rc;

use gatevisor_sys::spawn::Environment;
use gatevisor_sys::user::User;

use crate::{Config, survivors};

/// Both environments, which are one where nothing is kept from the supervisor's own user.
#[derive(Debug)]
pub(crate) struct Environments {
    own: Rc<Environment>,
    others: Rc<Environment>,
}

impl Environments {
    pub(crate) fn new(config: &Config) -> Self {
        let others = Rc::new(survivors::environment(&config.environment));
        let own = match &config.own_environment {
            Some(own) => Rc::new(survivors::environment(own)),
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
