//! `notification-fd`.

use crate::bed::{Bed, cases, state};
use crate::support::service::Service;

/// Executes each line that comes through `go`, as the shell would.
const OBEYS: &str = "while read line < go; do eval \"$line\"; echo >> done; done";

fn obedient(bed: &Bed, notification_fd: &str) -> Service {
    let mut service =
        bed.service("web").run(OBEYS).gate("go").file("notification-fd", notification_fd).place();
    service.receive("su");
    service
}

/// Has the service run these words and waits until it has.
fn has_done(service: &Service, count: usize, words: &str) {
    service.pass("go", words);
    service.until_lines("done", count);
}

cases! {
    fn a_line_on_the_descriptor_makes_a_service_ready(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "3\n");
        assert_eq!(state(&service), "up, wanted");
        has_done(&service, 1, "echo >&3");
        service.receive("U");
        assert_eq!(state(&service), "up, wanted, ready");
        let status = service.status();
        assert!(status.ready_at.since(status.changed).is_some());
    }

    fn what_comes_before_the_end_of_the_line_does_not_count(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "3\n");
        has_done(&service, 1, "printf 'not yet' >&3");
        assert_eq!((state(&service).as_str(), service.further_events().as_str()), ("up, wanted", ""));
        has_done(&service, 2, "printf '!\\\\nmore' >&3");
        service.receive("U");
        assert_eq!(state(&service), "up, wanted, ready");
    }

    #[skip(with_s6_as_supervisor, "s6 2.11 waits for the rest of a half line and reads no command until it comes")]
    fn half_a_line_does_not_keep_commands_from_being_obeyed(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "3\n");
        has_done(&service, 1, "printf 'not yet' >&3");
        assert_eq!(bed.svc_and_see(&service, "-O"), "up");
        bed.svc(&service, "-d");
        service.receive("dD");
    }

    fn further_lines_mean_nothing(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "3\n");
        has_done(&service, 1, "printf '\\\\n\\\\n\\\\n' >&3");
        service.receive("U");
        assert_eq!(bed.svc_and_see(&service, "-u"), "up, wanted, ready");
        assert_eq!(service.further_events(), "");
    }

    fn a_descriptor_that_is_closed_without_a_line_does_not_make_ready(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "3\n");
        has_done(&service, 1, "exec 3>&-");
        assert_eq!(bed.svc_and_see(&service, "-u"), "up, wanted");
        assert_eq!(service.further_events(), "");
    }

    fn any_number_of_a_descriptor_will_do(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "9");
        has_done(&service, 1, "echo >&9");
        service.receive("U");
    }

    fn standard_output_can_be_the_descriptor(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("echo; exec sleep 3600").file("notification-fd", "1\n").place();
        service.receive("suU");
    }

    fn readiness_ends_with_the_process(pairing) {
        let bed = pairing.started();
        let mut service = obedient(&bed, "3\n");
        has_done(&service, 1, "echo >&3");
        service.receive("U");
        bed.svc(&service, "-d");
        service.receive("dD");
        bed.svc(&service, "-u");
        service.receive("u");
        assert_eq!(state(&service), "up after signal f, wanted");
    }

    fn a_line_written_just_before_death_still_counts(pairing) {
        let bed = pairing.started();
        let mut service =
            bed.service("web").run("echo >&3; exit 0").file("notification-fd", "3\n").down().place();
        service.receive("s");
        for _ in 0..20 {
            bed.svc(&service, "-o");
            service.receive("u");
            // s6 does not promise which it sees first, the line or the death, but it sees both.
            let next = service.next();
            service.receive(if next == 'U' { "dD" } else { "D" });
            assert_eq!(state(&service), "down, ready");
        }
    }

    fn without_the_file_no_descriptor_is_given(pairing) {
        let bed = pairing.started();
        let mut service = bed.service("web").run("(echo >&3) 2> /dev/null || echo none > said; exec sleep 3600").place();
        service.receive("su");
        assert_eq!(service.until_lines("said", 1), ["none"]);
    }
}
