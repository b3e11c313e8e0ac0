//! `gatevisor web`: the page for operators, and its API.
//!
//! *Lives here:* where it can be reached, and links to log in. *Does not live here:* the server
//! (`gatevisor_web`), the answers (`answers`), the tokens (`keys`), and the last 24 hours
//! (`history`).

mod answers;
mod child;
mod history;
mod kept_events;
mod keys;
mod timeline;
mod tokens;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use gatevisor_doctor::quote;
use gatevisor_paths::by_path;
use gatevisor_web::{Backend, Role, SiteOptions, serve_site};
use gatevisor_wire::exit::error_chain;
use rustix::fs::{AtFlags, FileType, Mode, unlinkat};
use rustix::process::umask;

use crate::args::WebOptions;
use crate::context::CommandContext;
use crate::exit::{CommandError, DONE, Exit, Outcome};
use crate::out;
use answers::HomeAnswerer;
use history::HistoryStore;
use keys::KeyStore;
use tokens::Tokens;

/// Serves the page until the process is ended, prints a link, or revokes all tokens and sessions.
pub fn run(context: CommandContext, options: &WebOptions) -> Outcome {
    let root = context.manager.home().root();
    let (store, is_new) = KeyStore::open(root).map_err(|error| {
        let path = root.join(keys::DIRECTORY);
        failed(format!("cannot use the tokens in `{}`: {error}", path.display()))
    })?;
    if options.revoke {
        store.revoke().map_err(|error| failed(format!("cannot make new tokens: {error}")))?;
        out::say("the tokens are new, and all sessions have ended; `gatevisor web --link` prints a link");
        return DONE;
    }
    if options.link {
        let role = if options.read_only { Role::ReadOnly } else { Role::Full };
        let link = new_link(&store, role)?;
        if context.json {
            out::json(&serde_json::json!({ "link": link, "role": role.word() }))?;
        } else {
            out::line(link)?;
        }
        return DONE;
    }
    serve(context, options, store, is_new)
}

fn serve(context: CommandContext, options: &WebOptions, store: KeyStore, is_new: bool) -> Outcome {
    let base = base_path(&options.base_path)?;
    let socket = options.socket.as_deref().map(listen_at).transpose()?;
    let store = Arc::new(store);
    let site = SiteOptions {
        listen: options.listen,
        socket,
        allowed_hosts: options.allowed_hosts.clone(),
        base: base.clone(),
        read_only: options.read_only,
    };
    let history = HistoryStore::open(store.directory(), store.path());
    let history = history.inspect_err(|error| {
        let path = store.path().display();
        out::warn(&format!("no history is kept: cannot make a directory in `{path}`: {error}"));
    });
    let answerer = HomeAnswerer::new(context, history.ok());
    let keys = Tokens::new(store.clone(), options.read_only_token_file.as_deref());
    if let Some(why) = keys.problem() {
        out::warn(&why);
    }
    let backend = Backend { answerer: Arc::new(answerer), keys: Arc::new(keys) };
    let tell = |bound: Option<SocketAddr>| tell(options, &base, bound, &store, is_new);
    match serve_site(site, backend, tell) {
        Ok(never) => match never {},
        Err(error) => Err(failed(error_chain(&error))),
    }
}

/// Says where the page is, and how to log in.
fn tell(options: &WebOptions, base: &str, bound: Option<SocketAddr>, store: &KeyStore, is_new: bool) {
    let address = match (bound, options.allowed_hosts.first()) {
        (_, Some(host)) => format!("https://{host}{base}/"),
        (Some(bound), None) => format!("http://{}{base}/", reachable(bound)),
        (None, None) => format!("http://localhost{base}/"),
    };
    if let Err(error) = store.note_address(&address) {
        out::warn(&format!("cannot note the address for `gatevisor web --link`: {error}"));
    }
    match (bound, &options.socket) {
        (None, Some(socket)) => out::say(format_args!("the page is at the socket `{}`", socket.display())),
        (Some(bound), _) => {
            out::say(format_args!("the page is at http://{bound}{base}/"));
            if !bound.ip().is_loopback() {
                out::warn(
                    "others can reach this address, and what they send is not encrypted; whoever has a token \
                     can do what the owner of the home can; use a reverse proxy with TLS",
                );
            }
        }
        (None, None) => {}
    }
    if !is_new {
        out::say("`gatevisor web --link` prints a link to log in");
        return;
    }
    let role = if options.read_only { Role::ReadOnly } else { Role::Full };
    match new_link(store, role) {
        Ok(link) => out::say(format_args!("log in once, within ten minutes: {link}")),
        Err(error) => out::warn(&error.message),
    }
    let path = store.path().display();
    out::say(format_args!("the tokens for programs are in `{path}`, in `token` and `token-read-only`"));
}

/// Returns a link with a new one-time token. No browser sends a fragment to a server, so no log has
/// it.
fn new_link(store: &KeyStore, role: Role) -> Result<String, CommandError> {
    let token = store.link(role).map_err(|error| failed(format!("cannot make a link: {error}")))?;
    let address = store.address().unwrap_or_else(|| "http://127.0.0.1:9466/".to_owned());
    Ok(format!("{address}#token={token}"))
}

/// Returns an address that a browser on this machine can use.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Returns a base path without a slash at its end.
fn base_path(given: &str) -> Result<String, CommandError> {
    let base = given.trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./~".contains(&byte);
    let is_good =
        base.is_empty() || (base.starts_with('/') && !base.contains("//") && base.bytes().all(is_plain));
    if is_good {
        return Ok(base.to_owned());
    }
    let why = "--base-path takes a path such as /agents, of letters, digits, `-`, `_`, `.` and `~`";
    Err(CommandError::new(Exit::Usage, why))
}

/// Listens at a socket that only this user can connect to. A socket that has no listener any more
/// is replaced.
fn listen_at(path: &Path) -> Result<UnixListener, CommandError> {
    let cannot = |error: io::Error| failed(format!("cannot listen at `{}`: {error}", path.display()));
    let whole = std::path::absolute(path).map_err(cannot)?;
    let (directory, name) = by_path::parent(&whole).map_err(|errno| cannot(errno.into()))?;
    // The directory is named by its descriptor, so that what was checked is what is used.
    let at = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    match by_path::look_itself(&whole) {
        Ok(seen) if FileType::from_raw_mode(seen.mode).is_socket() => {
            let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if UnixStream::connect(&at).as_ref().is_err_and(refused) {
                unlinkat(&directory, name.as_bytes(), AtFlags::empty())
                    .map_err(|errno| cannot(errno.into()))?;
            }
        }
        Ok(_) => {
            let remedy = format!("something else is there; remove it with `rm {}`", quote(path));
            return Err(cannot(io::Error::other(remedy)));
        }
        Err(_) => {}
    }
    // No other thread makes files at this time.
    let before = umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(&at);
    umask(before);
    listener.map_err(cannot)
}

fn failed(why: String) -> CommandError {
    CommandError::new(Exit::System, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_plain_and_has_no_slash_at_its_end() {
        for (given, base) in [("", ""), ("/", ""), ("/agents", "/agents"), ("/a/b/", "/a/b")] {
            assert_eq!(base_path(given).unwrap(), base);
        }
        for bad in ["agents", "//a", "/a//b", "/a b", "/{a}", "/a;b", "/\u{e9}"] {
            assert!(base_path(bad).is_err(), "{bad}");
        }
    }
}
