//! How a caller is identified: a bearer token, or the cookie of a session with the key of its page.
//!
//! *Lives here:* reading and writing these headers. *Does not live here:* where tokens and sessions
//! are kept, and comparing them, which the implementation of `Keys` does.
//!
//! **Source:** RFC 6750, section 2.1; RFC 6265bis, sections 4.1 and 5.6.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use constant_time_eq::constant_time_eq;

/// How long a session lasts, in seconds: 30 days.
pub const SESSION_SECONDS: u32 = 30 * 86_400;
/// The most characters of a token or a session's secret.
const LONGEST: usize = 256;

/// The header in which the page sends its key. No other site can send it, and no other port
/// receives it.
pub const PAGE_KEY: &str = "x-gatevisor-key";

/// What identifies the caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShownKey {
    /// A token, as programs and links have it.
    Token(String),
    /// The secret of a session, and the key of the page.
    Session(String, String),
    /// Nothing identifies the caller.
    Nothing,
}

/// Returns what identifies the caller. A token counts before a session, because it was given for
/// this request.
pub fn shown(headers: &HeaderMap, cookie: &str) -> ShownKey {
    if let Some(token) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.to_str().ok()?)) {
        return ShownKey::Token(token.to_owned());
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(name, _)| *name == cookie).map(|(_, value)| value);
    let key = headers.get(PAGE_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    found
        .filter(|value| is_possible(value))
        .map_or(ShownKey::Nothing, |value| ShownKey::Session(value.to_owned(), key.to_owned()))
}

/// Returns whether two secrets are equal, in a time that does not depend on where they differ.
pub fn same_secret(shown: &str, known: &str) -> bool {
    constant_time_eq(shown.as_bytes(), known.as_bytes())
}

/// Returns whether a text has the form of a token or a secret of ours.
pub fn is_possible(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns the token of an `Authorization` header.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    (scheme.eq_ignore_ascii_case("Bearer ")).then_some(token).filter(|token| is_possible(token))
}

/// Returns the header that gives a browser the cookie of a session, or takes it away.
pub fn set_cookie(name: &str, secret: Option<&str>, path: &str, is_https: bool) -> String {
    // The age is that of a session, or 0 to remove the cookie.
    let (value, age) = secret.map_or(("", 0), |secret| (secret, SESSION_SECONDS));
    let secure = if is_https { "; Secure" } else { "" };
    format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_token_and_a_cookie_are_read_as_they_are_sent() {
        let of = |headers: &[(axum::http::HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            shown(&headers.collect(), "gatevisor")
        };
        let token = |text: &str| ShownKey::Token(text.to_owned());
        let session = |text: &str| ShownKey::Session(text.to_owned(), String::new());
        assert_eq!(of(&[(AUTHORIZATION, "Bearer abc")]), token("abc"));
        assert_eq!(of(&[(AUTHORIZATION, "bearer abc"), (COOKIE, "gatevisor=x")]), token("abc"));
        for nothing in ["", "Bearer ", "Basic abc", "Bearer a b", "abc"] {
            assert_eq!(of(&[(AUTHORIZATION, nothing)]), ShownKey::Nothing, "{nothing}");
        }
        assert_eq!(of(&[(COOKIE, "a=b; gatevisor=x; c")]), session("x"));
        assert_eq!(of(&[(COOKIE, "a=b"), (COOKIE, "gatevisor=x")]), session("x"));
        let key = axum::http::HeaderName::from_static(PAGE_KEY);
        let both = ShownKey::Session("x".to_owned(), "y".to_owned());
        assert_eq!(of(&[(COOKIE, "gatevisor=x"), (key, "y")]), both);
        for nothing in ["", "gatevisor", "gatevisor=", "xgatevisor=x", "gatevisor =x"] {
            assert_eq!(of(&[(COOKIE, nothing)]), ShownKey::Nothing, "{nothing}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_site_and_no_script() {
        let set = set_cookie("gatevisor", Some("x"), "/p/", true);
        assert!(set.starts_with("gatevisor=x; Path=/p/; Max-Age="), "{set}");
        assert!(set.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{set}");
        assert_eq!(
            set_cookie("gatevisor", None, "/", false),
            "gatevisor=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
        );
    }
}
