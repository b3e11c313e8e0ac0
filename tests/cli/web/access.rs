//! Who may ask the server, and what tokens, links and sessions are worth.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use serde_json::json;

use super::{Server, bearer};
use crate::home::Home;
use crate::support::soon;

#[test]
fn a_link_logs_one_browser_in_and_what_it_does_must_come_from_the_page() {
    let home = Home::new();
    home.run(["profile", "create", "coder"]).ok();
    let (server, link) = Server::first(&home);
    for name in ["", "token", "token-read-only"] {
        let mode = fs::metadata(home.path().join(".gatevisor-web").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    let answer = server.login(&link);
    assert_eq!((answer.code, &answer.json()["role"]), (200, &json!("full")), "{answer:?}");
    let key = answer.json()["key"].as_str().unwrap().to_owned();
    let cookie = &answer.headers["set-cookie"];
    for part in ["; Path=/;", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(server.login(&link).code, 401, "it is used up");
    let stolen = format!("Cookie: other=1; {}\r\n", cookie.split(';').next().unwrap());
    for wrong in ["", "X-Gatevisor-Key: \r\n", &format!("X-Gatevisor-Key: {link}\r\n")] {
        let answer = server.ask("GET", "/api/v1/home", &format!("{stolen}{wrong}"), "");
        assert_eq!(answer.code, 401, "a cookie is worth nothing without the key of its page: {wrong}");
    }
    let cookie = format!("{stolen}X-Gatevisor-Key: {key}\r\n");
    assert_eq!(server.ask("GET", "/api/v1/home", &cookie, "").code, 200);
    let origin = |origin: &str| format!("{cookie}Origin: {origin}\r\n");
    let stop = |headers: &str| server.ask("POST", "/api/v1/gateways/nobody/stop", headers, "").code;
    let page = format!("http://{}", server.address);
    assert_eq!(stop(&cookie), 403, "a browser says where a request comes from");
    assert_eq!(stop(&format!("{cookie}Sec-Fetch-Site: cross-site\r\n")), 403);
    for foreign in ["http://evil.example", "null", &format!("{page}0"), "http://localhost"] {
        assert_eq!(stop(&origin(foreign)), 403, "{foreign}");
    }
    assert_eq!(stop(&origin(&page)), 404, "there is no such profile");
    let later = home.says("web --link --read-only").ok();
    let (address, link) = later.trim_end().split_once("/#token=").unwrap();
    assert_eq!(address, page);
    assert_eq!(server.login(link).json()["role"], "read-only");
    let mut open = server.stream_with("/events", &cookie);
    let mut other = server.stream("/events", None);
    assert_eq!(server.ask("POST", "/api/v1/logout", &format!("{stolen}Origin: {page}\r\n"), "").code, 200);
    assert_eq!(server.ask("GET", "/api/v1/home", &cookie, "").code, 200, "only the page logs out");
    assert_eq!(server.ask("POST", "/api/v1/logout", &origin(&page), "").code, 200);
    assert_eq!(server.ask("GET", "/api/v1/home", &cookie, "").code, 401);
    open.until_end();
    other.until(|message| message.kind == "home");
    home.says("web --revoke").ok();
    other.until_end();
    server.end();
}

#[test]
fn whoever_may_not_ask_is_refused_and_the_right_token_is_always_accepted() {
    let home = Home::new();
    let (server, _) = Server::first(&home);
    let get = |headers: &str| server.ask("GET", "/api/v1/session", headers, "");
    let refused = get("");
    assert_eq!((refused.code, &*refused.headers["www-authenticate"]), (401, "Bearer"), "{refused:?}");
    for host in ["evil.example", "evil.example:80", "192.0.2.1", ""] {
        let headers = format!("Host: {host}\r\n{}", bearer(&server.token));
        assert_eq!(get(&headers).code, 403, "{host}");
    }
    let wrong = || get(&bearer("0123456789abcdef")).code;
    assert_eq!(wrong(), 401);
    // One more is judged every six seconds, and a busy machine may be as slow.
    let deadline = soon();
    while wrong() != 429 {
        assert!(Instant::now() < deadline, "there is no end of wrong tokens");
    }
    let right = get(&bearer(&server.token));
    assert_eq!((right.code, right.json()), (200, json!({ "role": "full" })), "{right:?}");
    for (header, value) in [("x-content-type-options", "nosniff"), ("cache-control", "no-store")] {
        assert_eq!(right.headers[header], value);
    }
    let page = server.ask("GET", "/", "", "");
    let policy = &page.headers["content-security-policy"];
    assert!(
        page.code == 200 && policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{page:?}"
    );
    let read_only = fs::read_to_string(home.path().join(".gatevisor-web/token-read-only")).unwrap();
    let read_only = bearer(read_only.trim_end());
    assert_eq!(get(&read_only).json(), json!({ "role": "read-only" }));
    for (method, path) in
        [("POST", "/gateways/default/stop"), ("DELETE", "/profiles/a"), ("POST", "/profiles")]
    {
        assert_eq!(server.ask(method, &format!("/api/v1{path}"), &read_only, "").code, 403, "{path}");
    }
    assert_eq!(server.api("POST", "/profiles", &"a".repeat(10 << 20)).code, 413);
    assert_eq!(server.api("POST", "/profiles", "{\"name\": \"a\", \"strange\": 1}").code, 400);
    assert_eq!(server.api("GET", "/nothing", "").code, 404);
    home.says("web --revoke").ok();
    assert_ne!(get(&bearer(&server.token)).code, 200);
    server.end();
    let looking = Server::start(&home, "--read-only --base-path /agents/ --allowed-host agents.example");
    let at = |path: &str, host: &str| {
        let headers = format!("Host: {host}\r\n{}", bearer(&looking.token));
        looking.ask("GET", path, &headers, "")
    };
    assert_eq!(at("/agents/api/v1/session", "agents.example").json(), json!({ "role": "read-only" }));
    // What it hands out counts for no more at a server that lets people change things.
    let token = json!({ "token": looking.token }).to_string();
    let login = looking.ask("POST", "/agents/api/v1/login", "", &token);
    let cookie = login.headers["set-cookie"].split(';').next().unwrap().to_owned();
    let key = login.json()["key"].as_str().unwrap().to_owned();
    let session = format!("Cookie: {cookie}\r\nX-Gatevisor-Key: {key}\r\n");
    assert_eq!(at("/agents", "agents.example").headers["location"], "/agents/");
    assert_eq!(at("/api/v1/session", "agents.example").code, 404);
    assert_eq!(at("/agents/api/v1/session", "other.example").code, 403);
    let stop = looking.ask("POST", "/agents/api/v1/gateways/a/stop", &bearer(&looking.token), "");
    assert_eq!(stop.code, 403);
    looking.end();
    let address = cookie.split_once('-').unwrap().1.split_once('=').unwrap().0.to_owned();
    let server = Server::start_at(&home, &format!("127.0.0.1:{address}"), "");
    assert_eq!(server.ask("GET", "/api/v1/session", &session, "").json(), json!({ "role": "read-only" }));
    server.end();
}

#[test]
fn the_token_of_a_file_outside_of_the_home_lets_a_program_look_and_a_new_one_counts_at_once() {
    let home = Home::new();
    let file = home.beside("token");
    let write = |token: &str| {
        fs::write(&file, token).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    };
    write("0123456789abcdef\n");
    let server = Server::start(&home, &format!("--read-only-token-file {}", file.display()));
    let role = |token: &str| server.ask("GET", "/api/v1/session", &bearer(token), "");
    assert_eq!(role("0123456789abcdef").json(), json!({ "role": "read-only" }));
    let stop = |token: &str| server.ask("POST", "/api/v1/gateways/a/stop", &bearer(token), "").code;
    assert_eq!(stop("0123456789abcdef"), 403);
    write("fedcba9876543210");
    assert_eq!(role("0123456789abcdef").code, 401);
    assert_eq!(role("fedcba9876543210").json(), json!({ "role": "read-only" }));
    assert_eq!(role(&server.token).json(), json!({ "role": "full" }));
    server.end();
}
