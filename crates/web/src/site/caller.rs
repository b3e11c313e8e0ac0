//! The role of a caller, by the token or session of the request.
//!
//! *Lives here:* finding the role, and counting wrong tokens. *Does not live here:* reading headers
//! (`session`).

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;

use super::question::{Role, SiteRefusal};
use super::reply::blocking;
use super::session::{self, ShownKey};
use super::shared::Site;

/// Returns the role of the caller.
pub async fn caller(site: &Arc<Site>, headers: &HeaderMap) -> Result<Role, SiteRefusal> {
    match session::shown(headers, &site.cookie) {
        ShownKey::Nothing => Err(SiteRefusal::new(401, "log in with a link of `gatevisor web --link`")),
        ShownKey::Token(token) => {
            let keys = Arc::clone(&site.backend.keys);
            let found = blocking(move || keys.by_token(&token)).await?;
            found.ok_or_else(|| wrong_token(site))
        }
        ShownKey::Session(secret, key) => {
            let keys = Arc::clone(&site.backend.keys);
            let found = blocking(move || keys.by_session(&secret, &key)).await?;
            found.ok_or_else(|| SiteRefusal::new(401, "the session is over; log in again"))
        }
    }
}

/// Counts a wrong token, and returns the refusal.
pub fn wrong_token(site: &Site) -> SiteRefusal {
    let mut wrong = site.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if wrong.count(Instant::now()) {
        SiteRefusal::new(429, "there were too many wrong tokens; try again in a minute")
    } else {
        SiteRefusal::new(401, "the token is wrong, was used before, or is too old")
    }
}
