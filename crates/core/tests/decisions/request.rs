//! What signals and commands ask the supervisor for.

use gatevisor_core::request::{RequestPolicy, SIGNALS, SupervisorRequest, script_of};
use gatevisor_core::scan_queue::ScanScope;
use gatevisor_wire::scan::ScanCommand;
use gatevisor_wire::signal;

fn show(request: SupervisorRequest) -> String {
    let name = |number| signal::name(number).expect("it has a name");
    match request {
        SupervisorRequest::Ignore => "-".to_owned(),
        SupervisorRequest::Scan(ScanScope::Whole) => "scan-all".to_owned(),
        SupervisorRequest::Scan(ScanScope::Changes) => "scan".to_owned(),
        SupervisorRequest::Reap => "reap".to_owned(),
        SupervisorRequest::ShutDown(Some(by)) => format!("shut-down:{}", name(by)),
        SupervisorRequest::ShutDown(None) => "shut-down".to_owned(),
        SupervisorRequest::Quit => "quit".to_owned(),
        SupervisorRequest::Abandon => "abandon".to_owned(),
        SupervisorRequest::Forward(number) => format!("forward:{}", name(number)),
        SupervisorRequest::SayNotObeyed => "say-not-obeyed".to_owned(),
    }
}

#[test]
fn a_signal_means_what_it_does_to_s6_and_in_a_container_the_command_gets_those_meant_for_it() {
    // Without a container, in one that only serves, and in one with a command.
    let table = "
        SIGCHLD   -                  -                  -
        SIGTERM   shut-down:SIGTERM  shut-down:SIGTERM  shut-down:SIGTERM
        SIGINT    shut-down:SIGINT   shut-down:SIGINT   shut-down:SIGINT
        SIGQUIT   quit               quit               forward:SIGQUIT
        SIGHUP    scan-all           scan-all           forward:SIGHUP
        SIGALRM   scan               scan               scan
        SIGABRT   abandon            abandon            abandon
        SIGUSR1   -                  -                  forward:SIGUSR1
        SIGUSR2   -                  -                  forward:SIGUSR2
        SIGPWR    -                  shut-down:SIGTERM  shut-down:SIGTERM
        SIGWINCH  -                  -                  forward:SIGWINCH
    ";
    let mut known = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = signal::parse(words[0].as_bytes()).expect("well formed");
        let said = [None, Some(false), Some(true)].map(|command| {
            let policy = RequestPolicy::new(command);
            show(policy.signal(number))
        });
        assert_eq!(said.as_slice(), &words[1..], "{line}");
        known.push(number);
    }
    assert_eq!(known, SIGNALS, "the table has every signal");
}

#[test]
fn a_script_is_named_after_its_signal_and_three_signals_never_have_one() {
    for number in SIGNALS {
        let found = script_of(number).map(|script| script.to_str().expect("it is text").to_owned());
        let has_none = [signal::CHLD, signal::ALRM, signal::ABRT].contains(&number);
        let expected =
            (!has_none).then(|| format!(".s6-svscan/{}", signal::name(number).expect("it has a name")));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_command_to_end_is_obeyed_only_from_a_fifo_that_nobody_else_may_write_to_and_scans_from_any() {
    // To a FIFO that only the supervisor's user may write to, and to one that others may write to.
    let table = "
        a scan      scan
        n scan      scan
        N scan      scan
        h scan-all  scan-all
        z reap      reap
        t shut-down say-not-obeyed
        i shut-down say-not-obeyed
        q quit      say-not-obeyed
        b abandon   say-not-obeyed
    ";
    let mut lines = 0;
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let command = ScanCommand::from_byte(words[0].as_bytes()[0]).expect("well formed");
        let said = [false, true].map(|is_open| show(RequestPolicy::new(None).command(command, || is_open)));
        assert_eq!(said.as_slice(), &words[1..], "{line}");
        lines += 1;
    }
    assert_eq!(lines, ScanCommand::ALL.len(), "the table has every command");
}

#[test]
fn a_command_that_is_not_obeyed_is_reported_once() {
    let mut policy = RequestPolicy::new(None);
    let mut said = |command| show(policy.command(command, || true));
    assert_eq!(said(ScanCommand::Quit), "say-not-obeyed");
    assert_eq!((said(ScanCommand::Quit), said(ScanCommand::Abort)), ("-".to_owned(), "-".to_owned()));
    assert_eq!(said(ScanCommand::Rescan), "scan");
}
