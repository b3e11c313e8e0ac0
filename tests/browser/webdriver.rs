//! A browser for one test: headless Chromium, driven by chromedriver.
//!
//! *Lives here:* the few commands of `WebDriver` that are needed. *Does not live here:* the page.
//!
//! **Source:** W3C `WebDriver`; Chrome `DevTools` Protocol, *Emulation*.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::processes::process_id;
use crate::support::{WAIT_LIMIT, waiting};

/// What an element is called in answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Milliseconds that the page has for one answer, of the 30,000 that the driver gives a script.
const QUESTION_MS: u32 = 5_000;

/// A browser with one window.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// What the browser keeps.
    _place: TempDir,
}

impl Browser {
    /// Starts a browser of this size, with more options.
    pub fn open(size: (u32, u32), options: &[&str]) -> Self {
        let place = TempDir::new().unwrap();
        let said = place.path().join("driver.out");
        let mut command = Command::new("chromedriver");
        // The whole group is ended, whatever becomes of the test.
        command.arg("--port=0").env("TMPDIR", place.path()).process_group(0);
        command.stdin(Stdio::null()).stdout(File::create(&said).unwrap()).stderr(Stdio::null());
        let why = "no browser can be tested without it: apt-get install chromium chromium-driver";
        let driver = command.spawn().unwrap_or_else(|error| panic!("chromedriver: {error}; {why}"));
        let port = waiting::polled("the port of chromedriver", || {
            let said = std::fs::read_to_string(&said).unwrap();
            said.split_once("successfully on port ")?.1.split_once('.')?.0.parse().ok()
        });
        let mut browser = Self { driver, port, session: String::new(), _place: place };
        let (width, height) = size;
        let size = format!("--window-size={width},{height}");
        let usual = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &size];
        let words: Vec<&str> = usual.into_iter().chain(options.iter().copied()).collect();
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": words } });
        let begun = browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        begun["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser.resize((width, height));
        browser.colour("light");
        browser
    }

    /// Gives the window this size. A narrow one is a phone's.
    #[track_caller]
    pub fn resize(&self, (width, height): (u32, u32)) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.tools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Has the page shown in these colours, `light` or `dark`, without any transition: what is
    /// looked at in the middle of one has other colours.
    #[track_caller]
    pub fn colour(&self, scheme: &str) {
        let feature = |name: &str, value: &str| json!({ "name": name, "value": value });
        let features = [feature("prefers-color-scheme", scheme), feature("prefers-reduced-motion", "reduce")];
        self.tools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Sends a command, and returns what it answers.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|why| panic!("{method} {path} {body}: {why}"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let told = |error: std::io::Error| error.to_string();
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).map_err(told)?);
        // The driver waits for its browser, which may wait for a processor.
        stream.get_ref().set_read_timeout(Some(WAIT_LIMIT * 3)).map_err(told)?;
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        write!(stream.get_mut(), "{head}Connection: close\r\n\r\n{body}").map_err(told)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).map_err(told)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().map_err(|_| line.clone())?;
                }
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).map_err(told)?;
        let mut answer: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value.get("error") {
            Some(Value::String(error)) => Err(format!("{error}: {}", value["message"])),
            _ => Ok(value),
        }
    }

    #[track_caller]
    fn of_session(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Sends a command of the developers' tools.
    #[track_caller]
    pub fn tools(&self, command: &str, parameters: &Value) -> Value {
        self.of_session("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Goes to an address.
    #[track_caller]
    pub fn go(&self, address: &str) {
        self.of_session("POST", "/url", &json!({ "url": address }));
    }

    /// Loads the page anew.
    #[track_caller]
    pub fn reload(&self) {
        self.of_session("POST", "/refresh", &json!({}));
    }

    /// Runs a script in the page, and returns what it returns.
    #[track_caller]
    pub fn script(&self, script: &str, arguments: &[Value]) -> Value {
        self.of_session("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Runs a script that calls its last argument when it is done.
    #[track_caller]
    pub fn script_until_done(&self, script: &str) -> Value {
        self.of_session("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression of the page is true, and returns its value.
    #[track_caller]
    pub fn until(&self, expression: &str) -> Value {
        // A page that is left does not answer, so the next one is asked. Its error is no news.
        let found = waiting::found_often(|| self.true_soon(expression).ok().filter(|value| !value.is_null()));
        found.unwrap_or_else(|| {
            let last = self.true_soon(expression);
            let seen = self.script("return location.href + '\\n' + document.body.innerText", &[]);
            panic!("waited for {expression} ({last:?}), and saw: {}", seen.as_str().unwrap_or_default())
        })
    }

    /// Returns the value of an expression as soon as it is true; null if that lasts too long for
    /// one question. The page looks again whenever it changes.
    fn true_soon(&self, expression: &str) -> Result<Value, String> {
        // What is no change of the document (a focus, an address, a size) has no event in common.
        let script = format!(
            "const told = arguments[arguments.length - 1]; \
             const end = (value) => {{ changes.disconnect(); clearInterval(often); clearTimeout(last); told(value); }}; \
             const look = () => {{ const value = {expression}; if (value) end(value); }}; \
             const changes = new MutationObserver(look); \
             const [often, last] = [setInterval(look, 100), setTimeout(() => end(null), {QUESTION_MS})]; \
             changes.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }}); \
             look();"
        );
        let body = json!({ "script": script, "args": [] });
        self.try_call("POST", &format!("/session/{}/execute/async", self.session), &body)
    }

    /// Waits until an element has this text in it.
    #[track_caller]
    pub fn until_text(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!(
            "[...document.querySelectorAll({selector})].some((found) => found.innerText.includes({text}))"
        ));
    }

    /// Clicks on an element, as a person does, as soon as it is there.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        self.on(selector, "click", &json!({}));
    }

    /// Types into an element, as a person does, as soon as it is there.
    #[track_caller]
    pub fn types(&self, selector: &str, text: &str) {
        self.on(selector, "value", &json!({ "text": text }));
    }

    /// The page may draw an element anew at any time, so another attempt is made.
    #[track_caller]
    fn on(&self, selector: &str, what: &str, body: &Value) {
        self.until(&format!("document.querySelector({})", json!(selector)));
        let using = json!({ "using": "css selector", "value": selector });
        let mut last = String::new();
        let done = waiting::found_often(|| {
            let session = format!("/session/{}/element", self.session);
            let done = self.try_call("POST", &session, &using).and_then(|found| {
                let id = found[ELEMENT].as_str().unwrap_or_default().to_owned();
                self.try_call("POST", &format!("{session}/{id}/{what}"), body)
            });
            done.map_err(|why| last = why).ok()
        });
        assert!(done.is_some(), "{what} {selector}: {last}");
    }

    /// Returns what the window shows, as a PNG.
    #[track_caller]
    pub fn picture(&self) -> Vec<u8> {
        let text = self.of_session("GET", "/screenshot", &Value::Null);
        from_base64(text.as_str().unwrap())
    }

    /// Presses keys, one after the other, wherever the focus is.
    #[track_caller]
    pub fn presses(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.of_session("POST", "/actions", &json!({ "actions": [keyboard] }));
    }
}

/// **Source:** RFC 4648, section 4.
fn from_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().take_while(|byte| *byte != b'=') {
        let value = alphabet.iter().position(|known| *known == digit).expect("a digit of base64");
        bits = (bits << 6) | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.try_call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        if let Ok(pid) = i32::try_from(self.driver.id()) {
            let _ = kill_process_group(process_id(pid), Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}
