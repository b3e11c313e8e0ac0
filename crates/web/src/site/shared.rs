//! What all requests share.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore};

use super::guard::Hosts;
use super::hub::Hub;
use super::question::{Backend, Role};
use super::wrong_tokens::WrongTokens;

/// The state of a server.
pub struct Site {
    /// The names that mean this server.
    pub hosts: Hosts,
    /// The base path, without a slash at its end.
    pub base: String,
    /// `gatevisor`, with the port if one is known: a host's cookies go to all its ports.
    pub cookie: String,
    /// Whether callers may only look.
    pub read_only: bool,
    /// Answers questions, and knows the tokens.
    pub backend: Backend,
    /// Hands on what changes to those who follow it.
    pub hub: Arc<Hub>,
    /// Counts wrong tokens.
    pub wrong: Mutex<WrongTokens>,
    /// A permit for each question that is answered at once.
    pub answers: Arc<Semaphore>,
    /// A permit for each action that is carried out at once.
    pub actions: Arc<Semaphore>,
    /// A permit for each drain.
    pub drains: Arc<Semaphore>,
    /// A permit for each kB of the large answers in memory.
    pub bodies: Arc<Semaphore>,
    /// It is notified when a session has ended.
    pub ended: Notify,
    /// A permit for each log that is followed.
    pub followed: Arc<Semaphore>,
}

impl Site {
    /// Returns what a role may do here.
    pub const fn allowed(&self, role: Role) -> Role {
        if self.read_only { Role::ReadOnly } else { role }
    }
}
