//! What a person does with the page, and sees.

use rustix::process::Signal;

use crate::support::{WAIT_LIMIT, processes};
use crate::{Place, WIDE, serve};

#[test]
fn a_person_logs_in_by_a_link_sees_two_gateways_and_stops_one() {
    let place = Place::new();
    let browser = place.open(WIDE, &[]);
    browser.until_text("#summary", "3 gateways: 2 live");
    assert_eq!(browser.script("return location.hash", &[]), "", "the token is not in the address");
    browser.click("a.row[data-key=coder]");
    browser.click("#do-stop");
    browser.types("#dialog input[name=reason]", "seen in a browser");
    browser.click("#dialog button[type=submit]");
    browser.until_text("#detail-state", "down");
    let state = place.home.state("coder");
    assert_eq!(
        (&state["desired_state"], &state["desired_reason"]),
        (&"stopped".into(), &"seen in a browser".into())
    );
    browser.click("#do-start");
    browser.until_text("#detail-state", "live");
    browser.click(".crumb");
    browser.until_text("a.row", "writer");
    place.home.says("stop writer").ok();
    browser.until_text("a.row[data-key=writer]", "down");
}

#[test]
fn a_gateway_that_does_not_respond_is_shown_with_the_reason() {
    let place = Place::new();
    place.home.says("wait coder --live --timeout 60").ok();
    let browser = place.open(WIDE, &[]);
    browser.click("a.row[data-key=coder]");
    browser.until_text("#detail-state", "live");
    let pid = place.home.pid("coder");
    processes::signal(pid, Signal::STOP);
    browser.until_text("#detail-state", "unresponsive");
    browser.until_text("section[aria-label=Why]", "stopped");
    processes::signal(pid, Signal::CONT);
    browser.until_text("#detail-state", "live");
}

#[test]
fn a_gateway_that_was_ended_because_it_did_not_respond_is_shown_with_its_incident() {
    let place = Place::with_policy("restart");
    place.home.says("wait coder --live --timeout 60").ok();
    let browser = place.open(WIDE, &[]);
    browser.click("a.row[data-key=coder]");
    browser.until_text("#detail-state", "live");
    processes::signal(place.home.pid("coder"), Signal::STOP);
    browser.until("document.querySelector('section[aria-label=Incidents] details')");
    browser.click("section[aria-label=Incidents] summary");
    browser.until_text("section[aria-label=Incidents] summary", "log.txt");
    browser.until_text("#detail-state", "live");
    // What is open stays open when the page is told of something else.
    browser.click("section[aria-label=Incidents] details details summary");
    browser.until("document.querySelector('section[aria-label=Incidents] pre').innerText !== 'Loading…'");
    browser.script("window.before = document.querySelector('section[aria-label=Incidents] details')", &[]);
    place.home.says("stop coder").ok();
    browser.until("document.querySelector('section[aria-label=Incidents] details') !== window.before");
    browser.until("document.querySelector('section[aria-label=Incidents] details details').open");
    browser.until("document.querySelector('section[aria-label=Incidents] pre').innerText !== 'Loading…'");
}

#[test]
fn a_log_is_followed_and_searched_and_a_search_that_is_none_is_told() {
    let place = Place::new();
    let browser = place.open(WIDE, &[]);
    browser.click("a.row[data-key=coder]");
    browser.until_text(".log", "answers on port");
    browser.types("#log-search", "answers on [0-9p]ort");
    browser.until("document.querySelector('.log mark')?.innerText.startsWith('answers on port')");
    browser.until(
        "![...document.querySelectorAll('.log > div')].some((line) => line.innerText.includes('GET'))",
    );
    browser.types("#log-search", "[");
    browser.until_text("#log-problem", "regular expression");
    browser.script("document.querySelector('#log-search').value = ''", &[]);
    browser.types("#log-search", "answers");
    browser.until("document.querySelector('#log-problem').innerText === ''");
    // Each start prints it anew.
    let before = browser.until("document.querySelectorAll('.log > div').length");
    place.home.says("gateway restart coder").ok();
    browser.until(&format!("document.querySelectorAll('.log > div').length > {before}"));
}

#[test]
fn a_profile_is_created_and_deleted_after_a_question() {
    let place = Place::new();
    let browser = place.open(WIDE, &[]);
    browser.click("#create");
    browser.types("#dialog input[name=name]", "no/name");
    browser.click("#dialog button[type=submit]");
    browser.until_text("#dialog [role=alert]", "cannot be a name");
    browser.script("document.querySelector('#dialog input[name=name]').value = ''", &[]);
    browser.types("#dialog input[name=name]", "poet");
    browser.click("#dialog input[name=start]");
    browser.click("#dialog button[type=submit]");
    browser.until_text("h1", "poet");
    assert!(place.home.profile_dir("poet").is_dir());
    browser.click("#do-delete");
    browser.types("#dialog input[name=name]", "coder");
    browser.click("#dialog button[type=submit]");
    browser.until_text("#dialog [role=alert]", "This is not poet.");
    assert!(place.home.profile_dir("poet").is_dir());
    browser.script("document.querySelector('#dialog input[name=name]').value = ''", &[]);
    browser.types("#dialog input[name=name]", "poet");
    browser.click("#dialog button[type=submit]");
    browser.until_text("h1", "Gateways");
    browser.until("![...document.querySelectorAll('a.row')].some((row) => row.dataset.key === 'poet')");
    assert!(!place.home.profile_dir("poet").exists());
}

#[test]
fn a_page_that_loses_its_server_says_so_and_goes_on_when_it_is_back() {
    let place = Place::new();
    let browser = place.open(WIDE, &[]);
    browser.until_text("#summary", "2 live");
    let (home, address, ports) = place.end_server();
    browser.until_text("#stale", "Stale since");
    home.says("stop writer").ok();
    let (server, _) = serve(&home, address.strip_prefix("http://").unwrap());
    browser.until("document.querySelector('#stale').innerText === ''");
    browser.until_text("a.row[data-key=writer]", "down");
    // In the middle of an update, too.
    let restart = home.start(["restart", "coder"]);
    browser.reload();
    browser.until_text("a.row", "coder");
    restart.ended(WAIT_LIMIT * 2).ok();
    browser.until_text("a.row[data-key=coder]", "live");
    // Whoever logs out in one tab is logged out.
    browser.click("#logout");
    browser.until_text("h1", "Log in");
    browser.reload();
    browser.until_text("h1", "Log in");
    server.signal(Signal::TERM);
    server.ended(WAIT_LIMIT);
    drop((home, ports));
}
