//! What keys and news do, and what is on the screen then.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use gatevisor_top::{Action, Effect, Input, Look, PaneKind, Row, Sample, Tone, TopKey, View, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

fn look() -> Look {
    let span = |seconds| format!("{seconds}s");
    let size = |bytes| format!("{} MB", bytes >> 20);
    Look { colours: true, unicode: true, span, size }
}

fn row(name: &str, state: &str) -> Row {
    let (tone, rank) = match state {
        "ready" => (Tone::Good, 7),
        "down" => (Tone::Quiet, 7),
        _ => (Tone::Bad, 0),
    };
    Row {
        name: name.to_owned(),
        state: state.to_owned(),
        tone,
        rank,
        desired: if state == "down" { "stopped" } else { "running" }.to_owned(),
        up_for_s: (state == "ready").then_some(60),
        seen_at_s: 0,
        restarts: Some(0),
        note: (tone == Tone::Bad).then(|| format!("{name} has no key")),
    }
}

/// Returns a view of these gateways, each with its state.
fn view(gateways: &[(&str, &str)]) -> View {
    let mut view = View::new("/home/agents".to_owned(), look());
    let rows = gateways.iter().map(|(name, state)| row(name, state)).collect();
    view.handle(Input::All(rows, Some(format!("{} gateways", gateways.len()))));
    view
}

fn four() -> View {
    view(&[("coder", "ready"), ("default", "down"), ("tester", "failed"), ("writer", "ready")])
}

/// Types keys, and returns the effects.
fn press(view: &mut View, keys: &str) -> Vec<Effect> {
    let key = |character| match character {
        '\n' => TopKey::Enter,
        '\t' => TopKey::Tab,
        '\u{1b}' => TopKey::Escape,
        character => TopKey::Char(character),
    };
    keys.chars().flat_map(|character| view.handle(Input::Key(key(character)))).collect()
}

/// Returns the screen as text, with rows without anything at their ends.
fn screen(view: &mut View, columns: u16, rows: u16) -> String {
    view.handle(Input::Resized { columns, rows });
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(view, frame)).unwrap();
    let shown = terminal.backend().to_string();
    let lines = shown.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

fn line(view: &mut View, row: usize) -> String {
    screen(view, 80, 24).lines().nth(row).unwrap().to_owned()
}

fn used(view: &mut View, samples: &[(&str, u64, u64)]) {
    let sample = |(name, cpu, mb): &(&str, u64, u64)| {
        let sample = Sample { cpu_tenths: Some(*cpu), memory_bytes: Some(*mb << 20) };
        ((*name).to_owned(), sample)
    };
    view.handle(Input::Samples(samples.iter().map(sample).collect()));
}

#[test]
fn the_table_at_80_by_24() {
    let mut view = four();
    used(&mut view, &[("coder", 3, 95), ("writer", 1000, 40)]);
    used(&mut view, &[("coder", 1000, 99), ("writer", 500, 41)]);
    view.handle(Input::Tick(5));
    insta::assert_snapshot!(screen(&mut view, 80, 24));
}

#[test]
fn the_table_and_a_log_at_200_by_60() {
    let mut view = four();
    for step in 0..30 {
        used(&mut view, &[("coder", step * 30, 90 + step), ("writer", 1000 - step * 30, 40)]);
    }
    press(&mut view, "l");
    let lines = (0..60).map(|number| format!("2026-11-30 10:00:{number:02}Z  step {number}")).collect();
    view.handle(Input::PaneLines(lines));
    insta::assert_snapshot!(screen(&mut view, 200, 60));
}

#[test]
fn a_question_a_pane_and_a_supervisor_that_has_gone_at_80_by_24() {
    let mut view = four();
    press(&mut view, "e");
    let report = [
        "tester: it has no key",
        "",
        "because  the variable KEY is not set, so it ends with exit code 78 each time",
    ];
    view.handle(Input::PaneLines(report.map(str::to_owned).to_vec()));
    view.handle(Input::PaneEnded);
    view.handle(Input::Supervisor(Some("no supervisor is running; `gatevisor up` starts one".to_owned())));
    press(&mut view, "r");
    insta::assert_snapshot!(screen(&mut view, 80, 24));
}

#[test]
fn help_at_80_by_24() {
    let mut view = four();
    press(&mut view, "?");
    insta::assert_snapshot!(screen(&mut view, 80, 24));
}

#[test]
fn it_draws_on_a_screen_of_any_size() {
    let mut view = four();
    used(&mut view, &[("coder", 3, 95)]);
    for keys in ["", "l", "?", "\u{1b}x", "n/"] {
        press(&mut view, keys);
        for columns in [1, 2, 7, 20, 79, 131] {
            for rows in [1, 2, 3, 5, 6, 9, 12] {
                screen(&mut view, columns, rows);
            }
        }
    }
}

#[test]
fn what_failed_is_first_and_stays_selected_until_somebody_moves() {
    let mut view = four();
    assert_eq!(view.visible(), ["tester", "coder", "default", "writer"]);
    view.handle(Input::Changed(vec![row("coder", "failed")], None));
    assert_eq!(view.visible()[0], "coder");
    assert_eq!(press(&mut view, "l"), [Effect::Open(PaneKind::Log, "coder".to_owned())]);
}

#[test]
fn a_selected_gateway_stays_selected_when_the_order_changes() {
    let mut view = four();
    press(&mut view, "jjj");
    view.handle(Input::Changed(vec![row("writer", "failed")], None));
    assert_eq!(view.visible(), ["tester", "writer", "coder", "default"]);
    assert_eq!(press(&mut view, "e"), [Effect::Open(PaneKind::Explain, "writer".to_owned())]);
}

#[test]
fn an_action_asks_what_it_names_and_only_y_does_it() {
    let mut view = four();
    let questions = [
        ("s", Action::Start, "start tester: it runs now"),
        ("x", Action::Stop, "stop tester: it ends now"),
        ("r", Action::Restart, "restart tester: its process ends now"),
        ("d", Action::Drain, "drain tester: it gets no new work"),
    ];
    for (key, action, question) in questions {
        for no in ["n", "\u{1b}", "q", " "] {
            assert_eq!(press(&mut view, key), []);
            assert!(line(&mut view, 23).starts_with(question), "{}", line(&mut view, 23));
            assert_eq!(press(&mut view, no), [], "{no:?}");
        }
        press(&mut view, key);
        assert_eq!(press(&mut view, "y"), [Effect::Act(action, "tester".to_owned())]);
        assert_eq!(press(&mut view, "y"), []);
    }
    view.handle(Input::Acted(Tone::Bad, "tester: it failed".to_owned()));
    assert_eq!(line(&mut view, 23), "tester: it failed");
}

#[test]
fn a_question_is_about_the_gateway_that_was_selected_when_it_was_asked() {
    let mut view = four();
    press(&mut view, "x");
    view.handle(Input::Changed(vec![row("coder", "failed")], None));
    assert_eq!(press(&mut view, "y"), [Effect::Act(Action::Stop, "tester".to_owned())]);
}

#[test]
fn a_filter_shows_what_has_the_text_in_its_name_or_state() {
    let mut view = four();
    press(&mut view, "/");
    press(&mut view, "RE");
    assert_eq!(view.visible(), ["coder", "writer"], "ready");
    assert_eq!(line(&mut view, 23), "filter: RE");
    press(&mut view, "\n");
    assert!(line(&mut view, 0).contains("with `RE`: 2 of 4"), "{}", line(&mut view, 0));
    press(&mut view, "/zzz\u{1b}");
    assert_eq!(view.visible(), ["coder", "writer"], "escape brings back the filter before");
    press(&mut view, "\u{1b}");
    assert_eq!(view.visible().len(), 4);
    press(&mut view, "/zzz\n");
    assert_eq!((view.visible().len(), press(&mut view, "x")), (0, Vec::new()));
}

#[test]
fn o_sorts_by_the_next_column() {
    let mut view = four();
    used(&mut view, &[("coder", 10, 50), ("writer", 20, 40)]);
    let mut by = |keys: &str| {
        press(&mut view, keys);
        (line(&mut view, 0).rsplit("by ").next().unwrap().to_owned(), view.visible()[0].clone())
    };
    let of = |order: &str, first: &str| (order.to_owned(), first.to_owned());
    assert_eq!(by("o"), of("name", "coder"));
    assert_eq!(by("O"), of("name, reversed", "writer"));
    assert_eq!(by("Oo"), of("cpu", "writer"));
    assert_eq!(by("o"), of("memory", "coder"));
    assert_eq!(by("ooo"), of("state", "tester"));
}

#[test]
fn a_log_is_paused_and_searched_and_closed() {
    let mut view = four();
    press(&mut view, "l");
    view.handle(Input::PaneLines((0..50).map(|number| format!("step {number}")).collect()));
    assert!(screen(&mut view, 80, 24).contains("step 49"));
    press(&mut view, " ");
    view.handle(Input::PaneLines(vec!["newest".to_owned()]));
    let shown = screen(&mut view, 80, 24);
    assert!(shown.contains("log tester  paused") && !shown.contains("newest"), "{shown}");
    press(&mut view, "/step 1\n");
    assert!(screen(&mut view, 80, 24).contains("step 19\n"));
    press(&mut view, "N");
    assert!(screen(&mut view, 80, 24).contains("step 18\n"));
    press(&mut view, "/nowhere\n");
    assert_eq!(line(&mut view, 23), "no further line with `nowhere`");
    press(&mut view, " ");
    assert!(screen(&mut view, 80, 24).contains("newest"));
    assert_eq!(press(&mut view, "\u{1b}"), [Effect::ClosePane]);
    assert!(!screen(&mut view, 80, 24).contains("newest"));
}

#[test]
fn tab_goes_to_the_table_while_a_pane_is_open() {
    let mut view = four();
    press(&mut view, "l\tj");
    assert_eq!(press(&mut view, "l"), [Effect::Open(PaneKind::Log, "coder".to_owned())]);
}

#[test]
fn a_report_is_printed_again_when_its_gateway_changes_and_once_for_several_changes() {
    let mut view = four();
    let again = [Effect::Open(PaneKind::Explain, "tester".to_owned())];
    assert_eq!(press(&mut view, "e"), again);
    let changed = || Input::Changed(vec![row("tester", "failed")], None);
    assert_eq!(view.handle(changed()), [], "it is being printed");
    assert_eq!(view.handle(changed()), []);
    assert_eq!(view.handle(Input::PaneEnded), again);
    assert_eq!(view.handle(Input::PaneEnded), []);
    assert_eq!(view.handle(changed()), again);
    let other = Input::Changed(vec![row("coder", "failed")], None);
    assert_eq!(view.handle(other), []);
}

#[test]
fn uptimes_go_on_between_looks() {
    let mut view = four();
    view.handle(Input::Tick(30));
    assert!(line(&mut view, 4).contains(" 90s "), "{}", line(&mut view, 4));
}

#[test]
fn only_what_is_on_the_screen_is_visible_and_the_selected_one_is_always() {
    let names: Vec<String> = (0..500).map(|number| format!("g{number:03}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "ready")).collect();
    let mut view = view(&all);
    view.handle(Input::Resized { columns: 80, rows: 24 });
    assert_eq!(view.visible().len(), 19);
    view.handle(Input::Key(TopKey::PageDown));
    assert_eq!((view.visible()[0].as_str(), view.visible().len()), ("g000", 19));
    view.handle(Input::Key(TopKey::PageDown));
    assert_eq!(view.visible()[18], "g036");
    press(&mut view, "G");
    assert_eq!(view.visible()[18], "g499");
    press(&mut view, "g");
    assert_eq!(view.visible()[0], "g000");
}

#[test]
fn without_colours_nothing_has_one() {
    for colours in [true, false] {
        let mut view = View::new(String::new(), Look { colours, ..look() });
        view.handle(Input::All(vec![row("coder", "failed"), row("writer", "ready")], None));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(&view, frame)).unwrap();
        let cells = terminal.backend().buffer().content();
        assert_eq!(cells.iter().any(|cell| cell.fg != Color::Reset), colours);
    }
}

#[test]
fn the_keys_end_it_and_suspend_it() {
    let mut view = four();
    assert_eq!(press(&mut view, "q"), [Effect::Quit]);
    assert_eq!(view.handle(Input::Key(TopKey::Ctrl('c'))), [Effect::Quit]);
    assert_eq!(view.handle(Input::Key(TopKey::Ctrl('z'))), [Effect::Suspend]);
    assert_eq!(view.handle(Input::Key(TopKey::Ctrl('l'))), [Effect::Redraw]);
}
