//! The HTTP server of Gatevisor.
//!
//! *Lives here:* listening, who may ask, the routes, the page for operators (`site`), and what it
//! shows of the last 24 hours (`history`).
//! *Does not live here:* the answers, which the binary hands in.
//!
//! *May depend on it:* the binary alone.
#![forbid(unsafe_code)]

mod access;
pub mod history;
mod server;
mod site;

pub use access::{Access, TokenError, is_strong};
pub use server::{MetricsRequest, MetricsText, Responder, ServeError, serve};
pub use site::{
    ActionRequest, Answer, Answerer, Backend, DrainRequest, GatewayAction, Keys, Lines, LogPick, NewSession,
    ProfileRequest, Role, SESSION_SECONDS, SiteOptions, SiteQuestion, SiteRefusal, Then, same_secret,
    serve_site,
};
