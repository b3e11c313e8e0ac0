//! A gateway with work under way is drained by a click.

use std::fs;

use crate::home::Home;
use crate::support::waiting;
use crate::{LIVE, Place, WIDE};

/// How a gateway is asked, and what it shows of its work. The test writes that, so that nothing
/// depends on time.
const DRAIN: &str = "[gateway.drain.marker]\nfile = \"drain.json\"\ncontent = '{\"epoch\": \"{epoch}\"}'\n\
     [gateway.drain.idle]\nfile = \"work.json\"\nturns = \"turns\"\nstate = \"state\"\ndraining = [\"draining\"]\n";

/// Shows so much work, as a gateway that is in this state.
fn show(home: &Home, state: &str, turns: u32) {
    let directory = home.profile_dir("coder");
    fs::write(directory.join("work.new"), format!("{{\"state\": \"{state}\", \"turns\": {turns}}}")).unwrap();
    fs::rename(directory.join("work.new"), directory.join("work.json")).unwrap();
}

fn until_asked(home: &Home, is_asked: bool) {
    let marker = home.profile_dir("coder").join("drain.json");
    waiting::polled("what the gateway is asked", || (marker.exists() == is_asked).then_some(()));
}

#[test]
fn a_gateway_under_a_turn_is_drained_by_a_click_and_stops_when_the_turn_is_over() {
    let live = LIVE.replace("POLICY", "warn").replace("[gateway.exit-meanings]", "");
    let drained = format!("{live}{DRAIN}\n[gateway.exit-meanings]");
    // What follows a drain may wait for it nearly as long as a stop may take.
    let stop = ("stop-timeout-ms = 5000", "stop-timeout-ms = 60000");
    let place = Place::of_agent(&[("[gateway.exit-meanings]", &drained), stop], |_| ());
    let home = &place.home;
    show(home, "running", 2);
    let browser = place.open(WIDE, &[]);
    browser.click("a.row[data-key=coder]");
    let drain = || {
        browser.click("#do-drain");
        browser.until_text("#dialog", "It takes no new work and ends what is under way.");
        browser.click("#dialog button[type=submit]");
        until_asked(home, true);
        browser.until_text("#detail-state", "draining");
    };
    let pid = home.pid("coder");
    drain();
    // Whoever changes their mind has it work again.
    browser.click("#do-cancel");
    until_asked(home, false);
    browser.until_text("#detail-state", "live");

    drain();
    show(home, "draining", 1);
    browser.until_text("section[aria-label=State]", "1 turn left");
    browser.until_text("section[aria-label=State]", "then stop");
    assert_eq!(home.pid("coder"), pid, "it was stopped in the middle of a turn");
    show(home, "draining", 0);
    browser.until_text("#detail-state", "down");
    assert_eq!(home.state("coder")["desired_state"], "stopped");
    browser.until_text("#toasts", "coder: drain: ");
}
