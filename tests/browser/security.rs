//! What a browser protects, together with the server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::webdriver::Browser;
use crate::{Place, WIDE};

#[test]
fn a_wrong_token_is_refused_and_a_new_link_works_also_in_a_page_that_is_open() {
    let place = Place::new();
    let browser = Browser::open(WIDE, &[]);
    browser.go(&format!("{}/", place.address));
    browser.until_text("h1", "Log in");
    browser.types("#token", "0123456789abcdef.wrong");
    browser.click("main button[type=submit]");
    browser.until_text("#login-error", "the token is wrong");
    browser.go(&format!("{}/#token=0123456789abcdef.wrong", place.address));
    browser.until_text("#login-error", "the token is wrong");
    let link = place.link();
    // A link that is opened where the page is already.
    browser.script("location.hash = arguments[0]", &[link.split_once('#').unwrap().1.into()]);
    browser.until_text("a.row", "coder");
    assert_eq!(browser.script("return location.hash", &[]), "");
    // The same one does not work again, and who has logged in stays so.
    browser.go(&link);
    browser.until_text("#login-error", "was used before");
    browser.go(&format!("{}/#/", place.address));
    browser.reload();
    browser.until_text("a.row", "coder");
}

/// Serves a page at another port of this machine, which a browser takes for the same site: it sends
/// the cookie there.
fn other_port() -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
        while !head.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "the browser asked for nothing");
            head.extend_from_slice(&buffer[..read]);
        }
        let page = "<title>other</title>";
        let answer = format!("Content-Type: text/html\r\nContent-Length: {}\r\n", page.len());
        write!(stream, "HTTP/1.1 200 OK\r\n{answer}Connection: close\r\n\r\n{page}").unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, serving)
}

#[test]
fn another_port_gets_the_cookie_which_is_worth_nothing_and_its_page_reaches_nothing() {
    let place = Place::new();
    let browser = place.open(WIDE, &[]);
    let (address, serving) = other_port();
    browser.go(&address);
    let head = serving.join().unwrap();
    let cookie =
        head.lines().find_map(|line| line.strip_prefix("Cookie: ")).unwrap_or_else(|| panic!("{head}"));
    assert!(cookie.contains("gatevisor-"), "{cookie}");
    assert_eq!(browser.script("return Object.keys(localStorage).length", &[]), 0, "the key stays there");
    let asked = format!(
        "const done = arguments[arguments.length - 1]; \
         fetch('{}/api/v1/gateways/coder/stop', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }}) \
         .then((answer) => done(answer.type), (error) => done(String(error)))",
        place.address
    );
    // The browser does not tell this page what became of it.
    assert_ne!(browser.script_until_done(&asked), "basic");
    assert_eq!(place.home.state("coder")["desired_state"], "running");
    browser.go(&format!("{}/", place.address));
    browser.until_text("a.row[data-key=coder]", "live");
}

#[test]
fn a_name_that_somebody_lets_lead_here_reaches_nothing() {
    let place = Place::new();
    let browser = Browser::open(WIDE, &["--host-resolver-rules=MAP evil.example 127.0.0.1"]);
    let port = place.address.rsplit_once(':').unwrap().1.to_owned();
    browser.go(&format!("http://evil.example:{port}/"));
    browser.until_text("body", "this server is not known by the name");
    browser.go(&place.link());
    browser.until_text("a.row", "coder");
}
