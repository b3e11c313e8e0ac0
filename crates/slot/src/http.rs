//! The part of HTTP that a readiness probe needs.
//!
//! *Lives here:* parsing a URL on this machine, the request, and the status line of the answer. No
//! I/O.
//! *Does not live here:* names that need a resolver, TLS, redirects, bodies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest path of a probe in bytes.
const MAX_PATH: usize = 1024;

/// A URL on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// The addresses to connect to; any of them may answer.
    pub addresses: Vec<SocketAddr>,
    /// The complete request.
    pub request: Vec<u8>,
}

/// Why a URL cannot be probed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is not `http`.
    #[error("`{0}` does not begin with http://")]
    Scheme(String),
    /// The host is another machine, or a name that would have to be looked up.
    #[error("`{0}` is not on this machine; only localhost, 127.0.0.0/8 and [::1] can be probed")]
    NotLocal(String),
    /// The port is not a port number.
    #[error("`{0}` has no valid port")]
    Port(String),
    /// The path cannot be sent.
    #[error(
        "`{0}` has a path with blanks, control characters or non-ASCII characters, or one that is too long"
    )]
    Path(String),
}

/// Returns the addresses and the request for `url`, such as `http://127.0.0.1:8642/health`.
pub fn parse_url(url: &str) -> Result<HttpTarget, UrlError> {
    let shown = || url.chars().take(80).collect::<String>();
    let scheme = url.get(..7).filter(|s| s.eq_ignore_ascii_case("http://"));
    let rest = scheme.and(url.get(7..)).ok_or_else(|| UrlError::Scheme(shown()))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    if path.len() > MAX_PATH || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(UrlError::Path(shown()));
    }
    if authority.contains('@') {
        return Err(UrlError::NotLocal(shown()));
    }
    let (host, port) = split_port(authority).ok_or_else(|| UrlError::Port(shown()))?;
    let addresses = local_addresses(host, port).ok_or_else(|| UrlError::NotLocal(shown()))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: gatevisor\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    Ok(HttpTarget { addresses, request: request.into_bytes() })
}

fn split_port(authority: &str) -> Option<(&str, u16)> {
    // In `[::1]:80`, only a colon after the bracket separates host and port.
    let after_host = authority.rfind(']').unwrap_or(0);
    match authority.get(after_host..)?.rfind(':') {
        None => Some((authority, 80)),
        Some(colon) => {
            let (host, port) = authority.split_at_checked(after_host.checked_add(colon)?)?;
            let digits = port.strip_prefix(':').filter(|p| p.bytes().all(|b| b.is_ascii_digit()))?;
            digits.parse().ok().filter(|port| *port != 0).map(|port| (host, port))
        }
    }
}

fn local_addresses(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let v4 = |ip: Ipv4Addr| SocketAddr::new(IpAddr::V4(ip), port);
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![v4(Ipv4Addr::LOCALHOST), v6]);
    }
    if host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).and_then(|h| h.parse::<Ipv6Addr>().ok())
        == Some(Ipv6Addr::LOCALHOST)
    {
        return Some(vec![v6]);
    }
    let ip: Ipv4Addr = host.parse().ok()?;
    ip.is_loopback().then(|| vec![v4(ip)])
}

/// Returns the status at the beginning of an answer, or `None` if it has not come yet or is not
/// HTTP.
pub fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let (_, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_on_this_machine_says_where_to_connect() {
        let table: [(&str, &[&str], &str); 7] = [
            (
                "http://127.0.0.1:8642/health",
                &["127.0.0.1:8642"],
                "GET /health HTTP/1.1\r\nHost: 127.0.0.1:8642\r\n",
            ),
            ("HTTP://localhost:1/", &["127.0.0.1:1", "[::1]:1"], "GET / HTTP/1.1\r\nHost: localhost:1\r\n"),
            ("http://localhost", &["127.0.0.1:80", "[::1]:80"], "GET / HTTP/1.1\r\nHost: localhost\r\n"),
            ("http://[::1]:99/a?b=c#d", &["[::1]:99"], "GET /a?b=c HTTP/1.1\r\n"),
            ("http://[::1]", &["[::1]:80"], "GET / HTTP/1.1\r\n"),
            ("http://127.8.8.8:5?x", &["127.8.8.8:5"], "GET /?x HTTP/1.1\r\n"),
            ("http://127.0.0.1:65535#x", &["127.0.0.1:65535"], "GET / HTTP/1.1\r\n"),
        ];
        for (url, addresses, start) in table {
            let target = parse_url(url).unwrap();
            let found: Vec<String> = target.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(found, addresses, "{url}");
            let request = String::from_utf8(target.request).unwrap();
            assert!(request.starts_with(start), "{request:?}");
            assert!(request.ends_with("\r\nConnection: close\r\n\r\n"), "{request:?}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (url, part) in [
            ("https://127.0.0.1/", "does not begin with http://"),
            ("", "does not begin"),
            ("127.0.0.1:80", "does not begin"),
            ("http://example.org/", "is not on this machine"),
            ("http://10.0.0.1/", "is not on this machine"),
            ("http://0.0.0.0/", "is not on this machine"),
            ("http://[::2]/", "is not on this machine"),
            ("http://u:p@localhost/", "is not on this machine"),
            ("http://localhost.:1/", "is not on this machine"),
            ("http://localhost:/", "no valid port"),
            ("http://localhost:0/", "no valid port"),
            ("http://localhost:65536/", "no valid port"),
            ("http://localhost:+1/", "no valid port"),
            ("http://localhost:1/a b", "a path with blanks"),
            ("http://localhost:1/a\r\nX: y", "a path with blanks"),
            ("http://localhost:1/ü", "a path with blanks"),
        ] {
            let message = parse_url(url).unwrap_err().to_string();
            assert!(message.contains(part), "{url}: {message}");
        }
    }

    #[test]
    fn the_status_is_in_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for no in [&b""[..], b"HTTP/1.1 20", b"HTTP/2 200", b"SSH-2.0", b"HTTP/1.1 abc", b"HTTP/1.1  20"] {
            assert_eq!(status(no), None);
        }
    }
}
