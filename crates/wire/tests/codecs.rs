//! What holds for every value and for all bytes: what is encoded decodes to itself, and no bytes
//! make a decoder panic.
#![expect(clippy::unwrap_used, reason = "a panic in a test says what is wrong")]

use gatevisor_wire::{
    Pid, event,
    name::ServiceName,
    number,
    policy::{self, AskedFor, PublishedPolicy, RestartPhase},
    signal,
    status::{self, Status},
    tai::{self, Tai64n},
    tally::{self, Death},
    wait::WaitStatus,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::time::Duration;

fn stamps() -> impl Strategy<Value = Tai64n> {
    let labels = prop_oneof![
        any::<u64>(),
        (-4_000_000_000i64..=4_000_000_000).prop_map(|s| tai::LEAP.wrapping_add_signed(s))
    ];
    (labels, 0..1_000_000_000u32).prop_map(|(label, nanos)| Tai64n::new(label, nanos).unwrap())
}

fn statuses() -> impl Strategy<Value = Status> {
    let pids = option::of((1..=i32::MAX).prop_map(|raw| Pid::new(raw).unwrap()));
    (stamps(), stamps(), pids, any::<u16>(), any::<[bool; 4]>()).prop_map(
        |(changed, ready_at, pid, last, [paused, finishing, want_up, ready])| Status {
            changed,
            ready_at,
            pid,
            last: WaitStatus::from_raw(i32::from(last)),
            paused,
            finishing,
            want_up,
            ready,
        },
    )
}

fn policies() -> impl Strategy<Value = PublishedPolicy> {
    (
        select(RestartPhase::ALL.to_vec()),
        any::<u64>(),
        any::<u64>(),
        proptest::collection::vec(any::<bool>(), 0..20),
        any::<u32>(),
        option::of(any::<u64>()),
        option::of(stamps()),
        option::of(any::<String>()),
    )
        .prop_map(|(phase, restarts, commanded, asked, failures, ran_ms, until, reason)| {
            PublishedPolicy {
                phase,
                restarts,
                commanded,
                asked: asked.into_iter().fold(AskedFor::default(), |mut asked, is_asked_for| {
                    asked.push(is_asked_for);
                    asked
                }),
                failures,
                ran_ms,
                until,
                reason,
            }
        })
}

proptest! {
    #[test]
    fn a_stamp_survives_bytes_and_hexadecimal(stamp in stamps()) {
        prop_assert_eq!(Tai64n::decode(stamp.encode()), Some(stamp));
        prop_assert_eq!(Tai64n::parse_hex(&stamp.hex()), Some(stamp));
        prop_assert_eq!(Tai64n::parse_hex(stamp.to_string().as_bytes()), Some(stamp));
    }

    #[test]
    fn a_stamp_survives_unix_time_where_unix_time_can_hold_it(secs in -(1i64 << 62)..=i64::MAX, nanos in 0..1_000_000_000u32) {
        prop_assert_eq!(Tai64n::from_unix(secs, nanos).to_unix(), (secs, nanos));
    }

    #[test]
    fn stamps_order_as_their_bytes_do_and_differ_by_the_time_between(a in stamps(), b in stamps()) {
        prop_assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
        match (a.since(b), b.since(a)) {
            (Some(time), None) => prop_assert_eq!(b.checked_add(time), Some(a)),
            (None, Some(time)) => prop_assert_eq!(a.checked_add(time), Some(b)),
            (Some(Duration::ZERO), Some(Duration::ZERO)) => prop_assert_eq!(a, b),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_status_survives_its_bytes(status in statuses()) {
        prop_assert_eq!(Status::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn any_bytes_are_a_status_or_refused(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(status) = Status::decode(&bytes) {
            prop_assert!(matches!(bytes.len(), status::SIZE | status::SIZE_2_13));
            prop_assert_eq!(Status::decode(&status.encode()), Ok(status));
        }
    }

    #[test]
    fn any_35_bytes_with_sane_times_and_pid_are_a_status(
        mut bytes in any::<[u8; 32]>(), rest in any::<[u8; 3]>(), a in 0..1_000_000_000u32, b in 0..1_000_000_000u32,
    ) {
        bytes[8..12].copy_from_slice(&a.to_be_bytes());
        bytes[20..24].copy_from_slice(&b.to_be_bytes());
        bytes[24..28].fill(0);
        bytes[28] &= 0x7f;
        let bytes = [&bytes[..], &rest[..2], &[rest[2] & 0xf]].concat();
        prop_assert_eq!(Status::decode(&bytes).map(|status| status.encode().to_vec()), Ok(bytes));
    }

    #[test]
    fn a_death_tally_survives_its_bytes(deaths in vec((stamps(), any::<u8>(), any::<u8>()), 0..40)) {
        let deaths: Vec<Death> =
            deaths.into_iter().map(|(at, exit_code, signal)| Death { at, exit_code, signal }).collect();
        prop_assert_eq!(tally::decode_all(&tally::encode_all(&deaths)), Ok(deaths));
    }

    #[test]
    fn any_bytes_are_a_death_tally_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(deaths) = tally::decode_all(&bytes) {
            prop_assert_eq!(tally::encode_all(&deaths), bytes);
        }
    }

    #[test]
    fn a_policy_survives_its_bytes_with_its_reason_on_one_line(policy in policies()) {
        let bytes = policy.encode();
        prop_assert!(bytes.len() <= policy::MAX);
        let reason = policy.reason.as_deref().map(policy::one_line);
        prop_assert_eq!(PublishedPolicy::decode(&bytes), Ok(PublishedPolicy { reason, ..policy }));
    }

    #[test]
    fn any_bytes_are_a_policy_or_refused(
        bytes in vec(prop_oneof![any::<u8>(), select(b"phase until reason restarts failures backoff 123@\n ".to_vec())], 0..600),
    ) {
        if let Ok(policy) = PublishedPolicy::decode(&bytes) {
            prop_assert_eq!(PublishedPolicy::decode(&policy.encode()), Ok(policy));
        }
    }

    #[test]
    fn one_line_is_one_line_and_does_not_change_again(text in any::<String>()) {
        let line = policy::one_line(&text);
        prop_assert!(line.len() <= policy::REASON_MAX);
        prop_assert!(!line.chars().any(char::is_control));
        prop_assert_eq!(policy::one_line(&line), line);
    }

    #[test]
    fn any_bytes_are_a_service_name_or_refused(bytes in vec(any::<u8>(), 0..260)) {
        if let Ok(name) = ServiceName::new(&bytes) {
            prop_assert_eq!(name.as_bytes(), &bytes[..]);
            prop_assert!(!name.to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn a_number_is_read_as_it_is_written(value in any::<u32>(), junk in vec(any::<u8>(), 0..20)) {
        let text = [value.to_string().as_bytes(), b"\n", &junk].concat();
        prop_assert_eq!(number::parse(&text), Some(value));
        // Any bytes at all: a number or nothing.
        let _ = (number::parse(&junk), signal::parse(&junk));
    }

    #[test]
    fn every_subscriber_name_that_is_made_is_recognized(at in stamps(), random in any::<[u8; 6]>()) {
        let name = event::subscriber_name(at, random);
        prop_assert!(event::is_subscriber_name(&name));
        prop_assert!(!name.contains(&b'/') && !name.contains(&0));
        prop_assert_eq!(Tai64n::parse_hex(&name[7..32]), Some(at));
    }

    #[test]
    fn every_wait_status_says_how_the_process_ended(raw in any::<u16>()) {
        let status = WaitStatus::from_raw(i32::from(raw));
        prop_assert!(status.exit_code().is_none() || status.signal().is_none());
        prop_assert_eq!(status.raw(), raw);
        prop_assert!(!status.to_string().is_empty());
    }
}
