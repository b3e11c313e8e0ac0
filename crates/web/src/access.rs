//! Who may ask.
//!
//! *Lives here:* the bearer token, and the `Host` header, which tells a request for this server
//! from that of a page from elsewhere (DNS rebinding). *Does not live here:* reading a token.
//!
//! **Source:** RFC 6750, section 2.1; RFC 9110, section 7.2.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, StatusCode};
use constant_time_eq::constant_time_eq;

/// The fewest bytes of a token: fewer can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    token: Option<String>,
    is_loopback: bool,
}

/// Why a server may not listen at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is no token, so everybody on the network could ask.
    #[error("an address that others can reach needs a token: name a file that has one with --token-file")]
    Missing,
    /// The token is too easy to guess, or does not fit into a header.
    #[error(
        "the token must have at least {SHORTEST_TOKEN} characters, all of them printable ASCII without blanks"
    )]
    Weak,
}

/// Returns whether a token fits into a header, and is too long to be guessed.
pub fn is_strong(token: &str) -> bool {
    token.len() >= SHORTEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Access {
    /// Returns who may ask a server at this address with this token.
    ///
    /// # Errors
    /// There is no token although others can reach the address, or it is too short.
    pub fn new(address: SocketAddr, token: Option<&str>) -> Result<Self, TokenError> {
        let is_loopback = address.ip().is_loopback();
        match token {
            None if !is_loopback => Err(TokenError::Missing),
            Some(token) if !is_strong(token) => Err(TokenError::Weak),
            token => Ok(Self { token: token.map(str::to_owned), is_loopback }),
        }
    }

    /// Returns why a request is refused, if it is.
    pub(crate) fn refusal(&self, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        if self.is_loopback && !headers.get(HOST).is_some_and(|host| is_local(host.as_bytes())) {
            return Some((StatusCode::FORBIDDEN, "ask this server as localhost or by its address\n"));
        }
        let token = self.token.as_ref()?;
        let given = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())).unwrap_or_default();
        (!constant_time_eq(given, token.as_bytes()))
            .then_some((StatusCode::UNAUTHORIZED, "give the token: Authorization: Bearer TOKEN\n"))
    }
}

/// Returns the token of an `Authorization` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Returns whether a `Host` header names this machine by an address or as `localhost`. Every other
/// name is refused, because anybody can make a name that leads to this machine.
fn is_local(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const LOOPBACK: &str = "127.0.0.1:9465";
    const TOKEN: &str = "0123456789abcdef";

    fn refused(access: &Access, headers: &[(axum::http::HeaderName, &'static str)]) -> Option<u16> {
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        access.refusal(&headers).map(|(code, _)| code.as_u16())
    }

    #[test]
    fn an_address_that_others_can_reach_needs_a_token_that_cannot_be_guessed() {
        let access = |address: &str, token| Access::new(address.parse().unwrap(), token).map(drop);
        assert_eq!(access(LOOPBACK, None), Ok(()));
        assert_eq!(access("[::1]:1", None), Ok(()));
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            assert_eq!(access(open, None), Err(TokenError::Missing));
            assert_eq!(access(open, Some(TOKEN)), Ok(()));
        }
        for weak in ["", "short", "0123456789abcde\u{e9}", "0123456789abcde f"] {
            assert_eq!(access(LOOPBACK, Some(weak)), Err(TokenError::Weak), "{weak}");
        }
    }

    #[test]
    fn a_name_that_somebody_let_lead_here_is_refused() {
        let access = Access::new(LOOPBACK.parse().unwrap(), None).unwrap();
        for host in ["127.0.0.1:9465", "localhost", "LOCALHOST:1", "[::1]:9465", "127.1.2.3"] {
            assert_eq!(refused(&access, &[(HOST, host)]), None, "{host}");
        }
        for host in ["evil.example:9465", "", "[", "localhost.evil.example", "192.0.2.1"] {
            assert_eq!(refused(&access, &[(HOST, host)]), Some(403), "{host}");
        }
        assert_eq!(refused(&access, &[]), Some(403));
    }

    #[test]
    fn with_a_token_whoever_does_not_have_it_is_refused() {
        let access = Access::new("0.0.0.0:1".parse().unwrap(), Some(TOKEN)).unwrap();
        for right in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef"] {
            assert_eq!(refused(&access, &[(AUTHORIZATION, right)]), None);
        }
        for wrong in ["", "Bearer ", "Bearer 0123456789abcdeg", "Basic 0123456789abcdef", "0123456789abcdef"]
        {
            assert_eq!(refused(&access, &[(AUTHORIZATION, wrong)]), Some(401), "{wrong}");
        }
        assert_eq!(refused(&access, &[]), Some(401));
    }
}
