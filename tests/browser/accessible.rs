//! A phone, a keyboard alone, a screen reader.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::webdriver::Browser;
use crate::{PHONE, Place, WIDE};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// Returns the text of axe-core, which finds what a screen reader cannot tell.
fn axe() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/axe-core.sh");
    let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "scripts/axe-core.sh has installed nothing: {output:?}");
    fs::read_to_string(String::from_utf8(output.stdout).unwrap().trim_end()).unwrap()
}

/// Checks what is on the page now.
#[track_caller]
fn check(browser: &Browser, axe: &str, what: &str) {
    browser.until("!document.getAnimations().length");
    // By the developers' tools, because the policy of the page allows no other script.
    browser.tools("Runtime.evaluate", &json!({ "expression": axe }));
    let found = browser.script_until_done(
        "const done = arguments[arguments.length - 1]; axe.run(document).then((found) => \
         done(found.violations.map((one) => one.id + ': ' + one.nodes.map((node) => node.html).join(' '))), \
         (error) => done([String(error)]))",
    );
    assert_eq!(found, json!([]), "{what}");
}

#[test]
fn a_screen_reader_finds_names_for_everything_on_each_view_also_in_the_dark() {
    let (place, axe) = (Place::new(), axe());
    let browser = Browser::open(WIDE, &[]);
    browser.go(&format!("{}/", place.address));
    for colours in ["light", "dark"] {
        browser.colour(colours);
        browser.until_text("h1", "Log in");
        check(&browser, &axe, "the login");
        browser.go(&place.link());
        browser.until_text("a.row", "coder");
        check(&browser, &axe, "the list");
        browser.click("#create");
        browser.until("document.querySelector('#dialog').open");
        check(&browser, &axe, "a dialog");
        browser.presses(&[ESCAPE]);
        browser.click("a.row[data-key=coder]");
        browser.until_text(".log", "answers on port");
        browser
            .until("![...document.querySelectorAll('.note')].some((note) => note.innerText === 'Loading…')");
        check(&browser, &axe, "a gateway");
        for view in ["doctor", "timeline", "boot-log"] {
            browser.click(&format!("#views a[href='#/{view}']"));
            browser.until(&format!(
                "location.hash === '#/{view}' && !document.querySelector('main').innerText.includes('Loading…')"
            ));
            check(&browser, &axe, view);
        }
        browser.click("#logout");
    }
}

#[test]
fn everything_fits_a_phone() {
    let place = Place::new();
    let browser = place.open(PHONE, &[]);
    let fits = "document.documentElement.scrollWidth <= innerWidth";
    browser.until(fits);
    browser.click("a.row[data-key=coder]");
    browser.until_text(".log", "answers on port");
    browser.until(fits);
    browser.click("#do-stop");
    browser.until("document.querySelector('#dialog').open");
    browser.until(fits);
    let small: Value = browser.script(
        "return [...document.querySelectorAll('#dialog button')].map((one) => one.getBoundingClientRect().height)",
        &[],
    );
    let heights = small.as_array().unwrap().iter().filter_map(Value::as_f64);
    assert!(heights.clone().count() == 2 && heights.fold(f64::MAX, f64::min) >= 24.0, "{small}");
}

/// Presses Tab until the focus is on what is wanted.
#[track_caller]
fn tab_to(browser: &Browser, selector: &str) {
    let is_there = format!("return document.activeElement.matches({})", json!(selector));
    for _ in 0..60 {
        if browser.script(&is_there, &[]) == true {
            return;
        }
        browser.presses(&[TAB]);
    }
    panic!("{selector} is not reached with the keyboard alone");
}

#[test]
fn a_keyboard_alone_is_enough() {
    let place = Place::new();
    let browser = place.open(WIDE, &[]);
    browser.presses(&["/"]);
    browser.until("document.activeElement.matches('input.filter')");
    browser.presses(&["c", "o", "d"]);
    browser.until("document.querySelectorAll('a.row').length === 1");
    tab_to(&browser, "a.row[data-key=coder]");
    browser.presses(&[ENTER]);
    browser.until_text("h1", "coder");
    browser.until("document.querySelector('#do-stop')");
    tab_to(&browser, "#do-stop");
    browser.presses(&[ENTER]);
    browser.until("document.activeElement.matches('#dialog input')");
    browser.presses(&[ESCAPE]);
    browser.until("!document.querySelector('#dialog').open && document.activeElement.matches('#do-stop')");
    browser.presses(&[ENTER]);
    browser.until("document.activeElement.matches('#dialog input')");
    browser.presses(&[ENTER]);
    browser.until_text("#detail-state", "down");
}
