//! What becomes of an entry of the scandir: each line is what happens and what follows.

use gatevisor_core::ServiceInput;
use gatevisor_core::entry::{DirectoryIdentity, EntryAction, EntryMachine, ServiceRole};
use gatevisor_wire::control::Control;

/// Plays a table for an entry whose directory is `a`. The events: `look DIRECTORY` and `loss
/// DIRECTORY`, where `-` is none; `ended main DIRECTORY`; `revived main` and `lost main`;
/// `released`; and `shutdown`, from which on a shutdown is under way.
fn check(has_logger: bool, is_logged: bool, table: &str) {
    let logger = has_logger.then_some("logger");
    let mut entry = EntryMachine::new(identity("a").expect("it is one"), Some("main"), logger, is_logged);
    let mut is_running = true;
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (event, expected) = line.split_once("=>").unwrap_or((line, "nothing"));
        let words: Vec<&str> = event.split_ascii_whitespace().collect();
        let action = match words.as_slice() {
            ["shutdown"] => {
                is_running = false;
                EntryAction::Nothing
            }
            ["look", there] => EntryMachine::look(Some(&mut entry), identity(there), is_running),
            ["loss", there] => entry.look_for_loss(identity(there), is_running),
            ["ended", half, there] => entry.ended(role(half), || identity(there), is_running),
            ["revived", "main"] => entry.revived(ServiceRole::Main, Some("main"), is_running),
            ["revived", "logger"] => entry.revived(ServiceRole::Logger, Some("logger"), is_running),
            ["lost", half] => entry.revived(role(half), None, is_running),
            ["released"] => entry.log_is_released(is_running),
            _ => panic!("`{words:?}` means nothing"),
        };
        assert_eq!(show(&action), expected.trim(), "in `{line}`");
    }
}

fn identity(name: &str) -> Option<DirectoryIdentity> {
    (name != "-").then(|| DirectoryIdentity { device: 1, inode: name.bytes().map(u64::from).sum() })
}

fn role(half: &str) -> ServiceRole {
    if half == "main" { ServiceRole::Main } else { ServiceRole::Logger }
}

fn show(action: &EntryAction<&str>) -> String {
    match action {
        EntryAction::Nothing => "nothing".to_owned(),
        EntryAction::ForgetRefusal => "forget-refusal".to_owned(),
        EntryAction::Adopt => "adopt".to_owned(),
        EntryAction::Tell(who, ServiceInput::Withdraw(ms)) => format!("withdraw {who} {ms}"),
        EntryAction::Tell(who, ServiceInput::Drain(ms)) => format!("drain {who} {ms}"),
        EntryAction::Tell(who, ServiceInput::Control(Control::Exit)) => format!("exit {who}"),
        EntryAction::Tell(who, other) => format!("{other:?} {who}"),
        EntryAction::Revive(ServiceRole::Main) => "revive main".to_owned(),
        EntryAction::Revive(ServiceRole::Logger) => "revive logger".to_owned(),
        EntryAction::Recheck => "recheck".to_owned(),
        EntryAction::ReleaseLog => "release-log".to_owned(),
        EntryAction::Free { look_again: true } => "free, look again".to_owned(),
        EntryAction::Free { look_again: false } => "free".to_owned(),
    }
}

#[test]
fn what_is_there_is_adopted_unless_a_shutdown_has_begun() {
    let look = |there, is_running| show(&EntryMachine::look(None, identity(there), is_running));
    assert_eq!(look("a", true), "adopt");
    assert_eq!(look("a", false), "nothing");
    assert_eq!(
        (look("-", true), look("-", false)),
        ("forget-refusal".to_owned(), "forget-refusal".to_owned())
    );
}

#[test]
fn a_directory_that_was_replaced_under_its_name_is_let_go_before_the_new_one_is_looked_at() {
    for there in ["b", "-"] {
        check(
            false,
            false,
            &format!(
                "
                look a           => nothing
                look {there}     => withdraw main 5000
                look {there}     => nothing
                look a           => nothing
                ended main a     => free, look again
                "
            ),
        );
        check(false, false, &format!("loss a => nothing \n loss {there} => withdraw main 5000"));
    }
}

#[test]
fn a_service_whose_supervision_ends_while_its_directory_stays_is_supervised_anew() {
    check(
        true,
        false,
        "
        ended main a   => revive main
        revived main   => nothing
        ended logger a => revive logger
        revived logger => nothing
        look a         => nothing
        ",
    );
}

#[test]
fn a_service_that_cannot_be_supervised_anew_takes_its_logger_with_it() {
    check(
        true,
        false,
        "
        ended main a   => revive main
        lost main      => drain logger 5000
        ended logger a => free, look again
        ",
    );
    check(true, false, "ended main b => drain logger 5000 \n ended logger b => free, look again");
}

#[test]
fn a_lost_logger_is_tried_again_at_each_scan_while_its_service_goes_on() {
    check(
        true,
        false,
        "
        ended logger a => revive logger
        lost logger    => recheck
        look a         => revive logger
        lost logger    => recheck
        look a         => revive logger
        revived logger => nothing
        look a         => nothing
        ended logger a => revive logger
        lost logger    => recheck
        loss a         => nothing
        look -         => withdraw main 5000
        look a         => nothing
        ended main -   => free, look again
        ",
    );
}

#[test]
fn a_name_is_free_when_the_logger_has_gone_and_the_log_daemon_has_let_go_of_the_pipe() {
    check(
        false,
        true,
        "
        look -         => withdraw main 5000
        ended main -   => release-log
        released       => free, look again
        ",
    );
    check(
        true,
        true,
        "
        look -         => withdraw main 5000
        ended main -   => drain logger 5000
        ended logger - => release-log
        released       => free, look again
        ",
    );
    // The logger may go first, and the log daemon may release the pipe at any time.
    check(
        true,
        true,
        "
        look -         => withdraw main 5000
        ended logger - => nothing
        released       => nothing
        ended main -   => free, look again
        ",
    );
}

#[test]
fn in_a_shutdown_nothing_is_supervised_anew_and_loggers_end_at_once() {
    check(
        true,
        false,
        "
        shutdown       =>  nothing
        ended main a   => exit logger
        ended logger a => free
        ",
    );
    check(true, false, "shutdown \n ended logger a => nothing \n ended main a => free");
    check(false, true, "shutdown \n ended main a => release-log \n released => free");
}
