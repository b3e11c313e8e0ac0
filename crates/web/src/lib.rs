//! The HTTP server of Gatevisor.
//!
//! *Lives here:* listening, who may ask, and the routes.
//! *Does not live here:* what is answered, which the binary hands in.
//!
//! *May depend on it:* the binary alone.
#![forbid(unsafe_code)]

mod access;
mod server;

pub use access::{Access, TokenError};
pub use server::{MetricsRequest, MetricsText, Responder, ServeError, serve};
