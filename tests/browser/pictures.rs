//! The pictures of the page in the documents.
//!
//! `make screenshots` has them written to docs/pictures. Otherwise they are only made, and it is
//! checked that they are small.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::webdriver::Browser;
use crate::{PHONE, Place};

/// The size of a window in a picture.
const SIZE: (u32, u32) = (1200, 720);
/// The most bytes of a picture.
const MOST: usize = 150_000;

fn keep(browser: &Browser, name: &str) {
    // The home of a test has a name that says nothing.
    browser.script("document.querySelector('#where').textContent = '/home/alice/agents'", &[]);
    browser.script("document.activeElement.blur()", &[]);
    let picture = browser.picture();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() <= MOST, "{name}: {} bytes", picture.len());
    if let Some(place) = std::env::var_os("GATEVISOR_PICTURES").map(PathBuf::from) {
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(name), picture).unwrap();
    }
}

#[test]
fn the_pictures_of_the_documents_are_small() {
    let place = Place::with_past();
    for name in ["researcher", "reviewer"] {
        place.home.run(["profile", "create", name, "--port", "auto"]).ok();
    }
    place.home.says("start researcher").ok();
    // It cannot use this port.
    fs::write(place.home.profile_dir("reviewer").join(".env"), "PORT=99999999\n").unwrap();
    place.home.says("start reviewer --no-wait").ok();
    place.home.says("wait researcher --live --timeout 60").ok();
    place.home.run(["gateway", "restart", "writer", "--reason", "a new model"]).ok();
    place.home.says("wait coder writer --live --timeout 60").ok();
    let browser = place.open(SIZE, &[]);
    browser.until_text("a.row[data-key=reviewer]", "failed to start");
    browser.until_text("#summary", "3 live");
    keep(&browser, "page-list.png");
    browser.click("a.row[data-key=writer]");
    browser.until_text(".log", "answers on port");
    browser.until("![...document.querySelectorAll('.note')].some((note) => note.innerText === 'Loading…')");
    keep(&browser, "page-gateway.png");
    let phone = Browser::open(PHONE, &[]);
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    phone.tools("Emulation.setEmulatedMedia", &dark);
    phone.go(&place.link());
    phone.until_text("a.row[data-key=reviewer]", "failed to start");
    phone.until_text("#summary", "3 live");
    keep(&phone, "page-phone.png");
}
