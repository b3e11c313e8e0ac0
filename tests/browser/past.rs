//! The last 24 hours of a home: its file, and what the page shows of them.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::time::{SystemTime, UNIX_EPOCH};

use gatevisor_web::history::{HistorySample, MINUTES, Ring, SampledState};
use serde_json::{Value, json};

use crate::home::Home;
use crate::{PHONE, Place, WIDE};

/// Writes a day of these gateways as a server that has ended would have. Each was live but for an
/// hour in which no server ran, 20 minutes of starting and, of the first one, 12 minutes without an
/// answer.
pub fn write(home: &Home, names: &[&str]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60;
    let now = u32::try_from(now).unwrap();
    let places = Ring::default().names().with(names, now - MINUTES).unwrap();
    let mut ring = Ring::default().renamed(places, now);
    for ago in (1..MINUTES).filter(|ago| !(900..960).contains(ago)) {
        let sample = |(number, name): (usize, &&str)| ((*name).to_owned(), sample(number, ago));
        let samples: Vec<_> = names.iter().enumerate().map(sample).collect();
        ring.put(now - ago, &samples);
    }
    let directory = home.path().join(".gatevisor-web/history");
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).unwrap();
    fs::write(directory.join("ring"), ring.bytes()).unwrap();
}

fn sample(number: usize, ago: u32) -> HistorySample {
    let word = match ago {
        350..362 if number == 0 => "unresponsive",
        880..900 => "starting",
        _ => "live",
    };
    let phase = (ago + 70 * u32::try_from(number).unwrap()) % 280;
    let noise = ago.wrapping_mul(2_654_435_761) % 60;
    let cpu = 2 * phase.min(280 - phase) + noise;
    let memory = 90 + (MINUTES - ago) / 20 + noise / 6;
    HistorySample {
        state: SampledState::named(word, true),
        cpu_permille: Some(cpu),
        memory_bytes: Some(u64::from(memory) << 20),
    }
}

#[test]
fn the_last_24_hours_are_a_strip_and_two_plots_and_a_screen_reader_is_told_the_same() {
    let place = Place::with_past();
    let browser = place.open(WIDE, &[]);
    browser.until("document.querySelector('a.row[data-key=coder] .strip .bad')");
    browser.until("document.querySelector('a.row[data-key=writer] .strip .good')");
    browser.until("!document.querySelector('a.row[data-key=writer] .strip .bad')");
    let label = "return document.querySelector('a.row[data-key=coder] .strip').getAttribute('aria-label')";
    let label = browser.script(label, &[]);
    let label = label.as_str().unwrap();
    assert!(label.starts_with("last 24 hours: live 9") && label.contains("unresponsive 12 min"), "{label}");
    browser.click("a.row[data-key=coder]");
    browser.until_text("#history", "unresponsive 12 min");
    // The hour in which no server ran is a gap: nothing in the strip, and each plot has two parts.
    browser.until("document.querySelectorAll('#history .plot').length === 2");
    for plot in [1, 2] {
        browser.until(&format!(
            "document.querySelectorAll('#history figure:nth-child({plot}) .line').length === 2"
        ));
    }
    let titles =
        "return [...document.querySelectorAll('#history .strip title')].map((one) => one.textContent)";
    let titles = browser.script(titles, &[]);
    let titles: Vec<&str> = titles.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!((270..=277).contains(&titles.len()), "{} of 288 steps", titles.len());
    assert!(titles.iter().any(|title| title.ends_with(": unresponsive")), "{titles:?}");
    let said =
        browser.script("return document.querySelector('#history .plot').getAttribute('aria-label')", &[]);
    assert!(said.as_str().unwrap().starts_with("CPU in the last 24 hours: "), "{said}");
}

#[test]
fn nothing_moves_when_the_last_24_hours_come() {
    let place = Place::with_past();
    let browser = place.open(WIDE, &[]);
    let height = |selector: &str| {
        let script = "return document.querySelector(arguments[0]).getBoundingClientRect().height";
        browser.script(script, &[json!(selector)])
    };
    browser.tools("Network.enable", &json!({}));
    let blocked = |urls: &[&str]| browser.tools("Network.setBlockedURLs", &json!({ "urls": urls }));
    for size in [WIDE, PHONE] {
        browser.resize(size);
        blocked(&["*/history"]);
        browser.reload();
        browser.until_text("a.row", "coder");
        let row = height("a.row[data-key=coder]");
        browser.script("location.hash = '#/gateway/coder'", &[]);
        browser.until("document.querySelector('#history .plot')");
        let panel = height("#history");
        browser.until("!document.querySelector('#history rect')");
        blocked(&[]);
        browser.reload();
        browser.until("document.querySelector('#history rect')");
        assert_eq!(height("#history"), panel);
        browser.script("location.hash = '#/'", &[]);
        browser.until("document.querySelector('a.row[data-key=coder] rect')");
        assert_eq!(height("a.row[data-key=coder]"), row);
    }
}
