//! Who may ask: the checks that come before every route.
//!
//! *Lives here:* the names that mean this server (DNS rebinding), where a request comes from
//! (requests that another site forges), and the headers that every answer has.
//! *Does not live here:* tokens and sessions (`session`).
//!
//! **Source:** RFC 9110, section 7.2 (`Host`); RFC 6454, section 7 (`Origin`); Fetch Metadata
//! Request Headers, section 2 (`Sec-Fetch-Site`); Content Security Policy Level 3.

use std::net::IpAddr;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, Method};

/// What our page may load: only its own files, and no script that is written into the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

/// From where the server can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachability {
    /// From this machine only.
    Machine,
    /// From the network.
    Network,
}

/// The names in a `Host` header that mean the server.
#[derive(Debug, Clone)]
pub struct Hosts {
    reach: Reachability,
    allowed: Vec<String>,
}

impl Hosts {
    /// Returns the names of a server: addresses and `localhost`, and those that are allowed.
    pub fn new(reach: Reachability, allowed: Vec<String>) -> Self {
        Self { reach, allowed }
    }

    /// Returns why a request may not be answered; `None` if it may.
    pub fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let host = text(headers, &HOST).unwrap_or_default();
        if !self.means_us(host) {
            return Some(
                "this server is not known by the name in `Host`; ask it as localhost or by its address, or \
                 start it with --allowed-host NAME",
            );
        }
        if let Some(origin) = headers.get(ORIGIN) {
            let is_ours = origin.to_str().is_ok_and(|origin| is_same(origin, host));
            return (!is_ours).then_some("requests of other sites are not answered");
        }
        let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        let is_foreign = matches!(site, Some("cross-site" | "same-site"));
        (is_foreign && method != Method::GET).then_some("requests of other sites are not answered")
    }

    /// Returns whether a `Host` header means this server. An unknown name does not, because anybody
    /// can make a name that leads here. An address always does.
    fn means_us(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let by_address = |address: IpAddr| self.reach == Reachability::Network || address.is_loopback();
        name.eq_ignore_ascii_case("localhost")
            || name.parse().is_ok_and(by_address)
            || self
                .allowed
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(host))
    }
}

/// Returns whether an origin is the server that `host` means.
fn is_same(origin: &str, host: &str) -> bool {
    let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

/// Returns whether a request that was not refused comes from our page, by its headers.
pub fn is_from_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN)
        || headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin")
}

/// Returns whether the page was loaded over HTTPS, through a reverse proxy.
pub fn is_https(headers: &HeaderMap) -> bool {
    text(headers, &ORIGIN).is_some_and(|origin| origin.starts_with("https://"))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Adds the headers that every answer has.
pub fn protect(headers: &mut HeaderMap) {
    let set = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(hosts: &Hosts, method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        hosts.refusal(method, &headers).is_some()
    }

    #[test]
    fn a_name_that_somebody_let_lead_here_is_refused() {
        let here = Hosts::new(Reachability::Machine, vec!["agents.example".to_owned()]);
        let open = Hosts::new(Reachability::Network, Vec::new());
        for (host, on_machine, on_network) in [
            ("127.0.0.1:9466", false, false),
            ("localhost", false, false),
            ("LOCALHOST:1", false, false),
            ("[::1]:9466", false, false),
            ("192.0.2.1:9466", true, false),
            ("[2001:db8::1]", true, false),
            ("agents.example", false, true),
            ("Agents.Example:443", false, true),
            ("evil.example", true, true),
            ("localhost.evil.example", true, true),
            ("agents.example.evil.example", true, true),
            ("", true, true),
            ("[", true, true),
        ] {
            assert_eq!(refused(&here, &Method::GET, &[("host", host)]), on_machine, "{host}");
            assert_eq!(refused(&open, &Method::GET, &[("host", host)]), on_network, "{host}");
        }
        assert!(refused(&here, &Method::GET, &[]));
    }

    #[test]
    fn requests_of_other_sites_are_refused() {
        let hosts = Hosts::new(Reachability::Machine, Vec::new());
        let host = ("host", "localhost:9466");
        for (origin, is_refused) in [
            ("http://localhost:9466", false),
            ("https://localhost:9466", false),
            ("http://localhost:9467", true),
            ("http://127.0.0.1:9466", true),
            ("http://evil.example", true),
            ("http://localhost:9466.evil.example", true),
            ("null", true),
            ("", true),
        ] {
            for method in [Method::GET, Method::POST] {
                assert_eq!(refused(&hosts, &method, &[host, ("origin", origin)]), is_refused, "{origin}");
            }
        }
        for (site, on_post) in
            [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)]
        {
            let headers = [host, ("sec-fetch-site", site)];
            assert_eq!(refused(&hosts, &Method::POST, &headers), on_post, "{site}");
            assert!(!refused(&hosts, &Method::GET, &headers), "a link from elsewhere leads to the page");
        }
    }
}
