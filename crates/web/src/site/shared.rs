//! What all requests share.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};

use super::guard::Hosts;
use super::hub::Hub;
use super::question::{Backend, Role};
use super::wrong_tokens::WrongTokens;

/// The state of a server.
pub struct Site {
    /// The names under which it is meant.
    pub hosts: Hosts,
    /// The base path, without a slash at its end.
    pub base: String,
    /// `gatevisor`, with the port if one is known: a host's cookies go to all its ports.
    pub cookie: String,
    /// Whether nobody may change anything.
    pub read_only: bool,
    /// Answers questions, and knows the tokens.
    pub backend: Backend,
    /// Hands on what changes to those who follow it.
    pub hub: Arc<Hub>,
    /// How many wrong tokens there were.
    pub wrong: Mutex<WrongTokens>,
    /// A place for each question that is answered at the same time.
    pub answers: Arc<Semaphore>,
    /// A place for each thing that is done at the same time.
    pub actions: Arc<Semaphore>,
    /// A place for each drain that is under way.
    pub drains: Arc<Semaphore>,
    /// A place for each kB of a large answer that is being sent.
    pub bodies: Arc<Semaphore>,
    /// Told when a session has ended.
    pub ended: Notify,
    /// A place for each log that is followed at the same time.
    pub followed: Arc<Semaphore>,
}

impl Site {
    /// Returns what a role may do here.
    pub const fn allowed(&self, role: Role) -> Role {
        if self.read_only { Role::ReadOnly } else { role }
    }
}
