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

/// Adds a gateway that is live, and one that cannot start, to the two of a place.
fn add_two(place: &Place) {
    for name in ["researcher", "reviewer"] {
        place.home.run(["profile", "create", name, "--port", "auto"]).ok();
    }
    place.home.says("start researcher").ok();
    // It cannot use this port.
    fs::write(place.home.profile_dir("reviewer").join(".env"), "PORT=99999999\n").unwrap();
    place.home.says("start reviewer --no-wait").ok();
    place.home.says("wait researcher --live --timeout 60").ok();
}

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
    add_two(&place);
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
    browser.resize(PHONE);
    browser.colour("dark");
    browser.click(".crumb");
    browser.until_text("a.row[data-key=reviewer]", "failed to start");
    browser.until_text("#summary", "3 live");
    browser.until("document.querySelector('a.row[data-key=coder] .strip rect')");
    keep(&browser, "page-phone.png");
}

#[test]
fn each_view_fits_windows_of_every_width_and_nothing_in_the_list_overlaps() {
    let place = Place::with_past();
    add_two(&place);
    let browser = place.open(SIZE, &[]);
    browser.until_text("a.row[data-key=reviewer]", "failed to start");
    for size in [(360, 740), (800, 1000), (1000, 800), (1280, 900)] {
        let (width, _) = size;
        browser.resize(size);
        for colours in ["light", "dark"] {
            browser.colour(colours);
            browser.script("location.hash = '#/'", &[]);
            browser.until("document.querySelector('a.row[data-key=coder] .strip rect')");
            // It has no reason while it starts.
            let whole = "(() => { const why = document.querySelector('a.row[data-key=reviewer] .why'); \
                 return why.innerText.includes('no valid port') && why.scrollWidth <= why.clientWidth + 1 && why.scrollHeight <= why.clientHeight + 1; })()";
            browser.until(whole);
            look(&browser, &format!("list-{width}-{colours}"));
            browser.script("location.hash = '#/gateway/coder'", &[]);
            browser.until("document.querySelector('#history rect')");
            browser.until_text(".log", "answers on port");
            look(&browser, &format!("gateway-{width}-{colours}"));
            browser.script("location.hash = '#/timeline'", &[]);
            browser.until_text("main", "shall be running");
            look(&browser, &format!("timeline-{width}-{colours}"));
        }
    }
}

/// Checks that nothing is wider than the window or covers its neighbour, and keeps a picture for a
/// person who looks, if `GATEVISOR_LOOKS` names a directory.
fn look(browser: &Browser, name: &str) {
    browser.until("document.documentElement.scrollWidth <= innerWidth");
    // The top line reaches the edge, or the bar that scrolls, also on a page without much on it.
    browser.until(
        "document.querySelector('header.top').getBoundingClientRect().right === document.documentElement.clientWidth",
    );
    let covered = "return [...document.querySelectorAll('a.row')].flatMap((row) => { \
         const boxes = [...row.children].map((one) => one.getBoundingClientRect()) \
             .filter((box) => box.width > 0 && box.height > 0); \
         return boxes.flatMap((a, at) => boxes.slice(at + 1).filter((b) => \
             a.right > b.left + 1 && b.right > a.left + 1 && a.bottom > b.top + 1 && b.bottom > a.top + 1) \
             .map(() => row.dataset.key)); })";
    assert_eq!(browser.script(covered, &[]), json!([]), "{name}");
    if let Some(place) = std::env::var_os("GATEVISOR_LOOKS").map(PathBuf::from) {
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(format!("{name}.png")), browser.picture()).unwrap();
    }
}
