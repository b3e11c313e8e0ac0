//! The page with gateways of the real Hermes.

use std::time::Duration;

use rustix::process::Signal;

use crate::WIDE;
use crate::real_hermes::{configure, with_hermes};
use crate::support::{WAIT_LIMIT, processes, set_wait_limit};
use crate::webdriver::Browser;

#[test]
fn real_hermes_gateways_are_seen_stopped_and_frozen_on_the_page() {
    // Two gateways of Hermes and a browser need their time on a busy machine.
    set_wait_limit(Duration::from_mins(2));
    let mut home = with_hermes();
    // A frozen one is seen after two seconds, and is ended eight seconds later.
    for (name, value) in [("INTERVAL_MS", "500"), ("MISSES", "4"), ("GRACE_MS", "8000")] {
        home.set(format!("GATEVISOR_LIVE_{name}"), value);
    }
    let _ports = ["coder", "writer"].map(|name| {
        home.run(["profile", "create", name]).ok();
        configure(&home, name)
    });
    home.up_quietly();
    let (server, _) = crate::serve(&home, "127.0.0.1:0");
    for name in ["coder", "writer"] {
        home.start(["gateway", "start", name, "--no-wait"]).ended(WAIT_LIMIT).ok();
    }
    let browser = Browser::open(WIDE, &[]);
    browser.go(home.says("web --link").ok().trim_end());
    for name in ["coder", "writer"] {
        browser.until_text(&format!("a.row[data-key={name}]"), "live");
    }

    browser.click("a.row[data-key=writer]");
    browser.click("#do-stop");
    browser.types("#dialog input[name=reason]", "no work today");
    browser.click("#dialog button[type=submit]");
    browser.until_text("#detail-state", "down");
    assert_eq!(home.state("writer")["desired_reason"], "no work today");

    browser.click(".crumb");
    browser.until_text("a.row[data-key=writer]", "down");
    browser.click("a.row[data-key=coder]");
    browser.until_text("#detail-state", "live");
    let frozen = home.pid("coder");
    processes::signal(frozen, Signal::STOP);
    // It is ended with evidence, and another one runs. How long it is seen as unresponsive depends
    // on how soon it ends, so that is looked for where it stays.
    browser.until("document.querySelector('section[aria-label=Incidents] details')");
    browser.click("section[aria-label=Incidents] summary");
    browser.until_text("section[aria-label=Incidents] details", "log.txt");
    browser.until_text("#detail-state", "live");
    browser.until_text("section[aria-label=Why]", "did not work");
    assert_ne!(home.pid("coder"), frozen);
    browser.click("#views a[href='#/timeline']");
    browser.until_text("main", "evidence was collected");
    browser.until_text("main", "unresponsive");
    drop(browser);
    server.signal(Signal::TERM);
    server.ended(WAIT_LIMIT);
    let ended = home.down();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
