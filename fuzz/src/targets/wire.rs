//! The s6 format: what was decoded is encoded to the same bytes.

use gatevisor_wire::control::Control;
use gatevisor_wire::event::{self, ServiceEvent};
use gatevisor_wire::name::ServiceName;
use gatevisor_wire::policy::{self, PublishedPolicy};
use gatevisor_wire::scan::ScanCommand;
use gatevisor_wire::status::Status;
use gatevisor_wire::tai::Tai64n;
use gatevisor_wire::tally::{self, Death};
use gatevisor_wire::wait::WaitStatus;
use gatevisor_wire::{number, signal};

pub fn status(bytes: &[u8]) {
    let Ok(status) = Status::decode(bytes) else { return };
    assert!(matches!(bytes.len(), 35 | 43));
    assert_eq!(Status::decode(&status.encode()).as_ref(), Ok(&status));
    assert!(!(status.is_up() && status.pid.is_none()));
    assert!(!(status.never_started() && status.pid.is_some()));
}

pub fn death_tally(bytes: &[u8]) {
    let Ok(deaths) = tally::decode_all(bytes) else { return };
    assert!(deaths.len() <= tally::MAX && deaths.len() * tally::SIZE == bytes.len());
    assert_eq!(tally::encode_all(&deaths), bytes);
    for death in deaths {
        let _ = death.how().to_string();
        assert_eq!(Death::decode(death.encode()), Some(death));
    }
}

pub fn tai64n(bytes: &[u8]) {
    let binary = bytes.first_chunk().and_then(|bytes| Tai64n::decode(*bytes));
    for stamp in [binary, Tai64n::parse_hex(bytes)].into_iter().flatten() {
        assert_eq!(Tai64n::decode(stamp.encode()), Some(stamp));
        assert_eq!(Tai64n::parse_hex(&stamp.hex()), Some(stamp));
        assert!(stamp.nanos() < 1_000_000_000);
        assert_eq!(Tai64n::new(stamp.label(), stamp.nanos()), Some(stamp));
        let (seconds, nanos) = stamp.to_unix();
        assert_eq!(nanos, stamp.nanos());
        let _ = (Tai64n::from_unix(seconds, nanos), stamp.to_unix_ms(), stamp.to_string());
        if let Some(later) = stamp.checked_add(std::time::Duration::from_millis(1500)) {
            assert_eq!(later.since(stamp), Some(std::time::Duration::from_millis(1500)));
        }
    }
}

pub fn wait_status(bytes: &[u8]) {
    let Some(raw) = bytes.first_chunk() else { return };
    let how = WaitStatus::from_raw(i32::from_be_bytes(*raw));
    assert!(!(how.exit_code().is_some() && how.signal().is_some()));
    assert_eq!(how.success(), how.exit_code() == Some(0));
    assert!(!how.to_string().is_empty());
    assert_eq!(WaitStatus::from_raw(i32::from(how.raw())), how);
}

pub fn service_name(bytes: &[u8]) {
    let fits = (1..=251).contains(&bytes.len()) && bytes.first() != Some(&b'.');
    let fits = fits && !bytes.contains(&b'/') && !bytes.contains(&0);
    match ServiceName::new(bytes) {
        Ok(name) => {
            assert!(fits);
            assert_eq!(name.as_bytes(), bytes);
            assert!(!name.to_string().contains(char::is_control), "a name is shown on one line");
        }
        Err(error) => {
            assert!(!fits, "{error}");
        }
    }
}

pub fn control_bytes(bytes: &[u8]) {
    for &byte in bytes {
        if let Some(control) = Control::from_byte(byte) {
            assert_eq!(control.byte(), byte);
        }
        if let Some(command) = ScanCommand::from_byte(byte) {
            assert_eq!(command.byte(), byte);
        }
    }
}

pub fn event_bytes(bytes: &[u8]) {
    for &byte in bytes {
        if let Some(event) = ServiceEvent::from_byte(byte) {
            assert_eq!(event.byte(), byte);
        }
    }
    if event::is_subscriber_name(bytes) {
        assert_eq!(bytes.len(), 39);
        assert!(bytes.starts_with(b"ftrig1:@"));
    }
}

pub fn policy(bytes: &[u8]) {
    let Ok(policy) = PublishedPolicy::decode(bytes) else { return };
    let encoded = policy.encode();
    assert!(encoded.len() <= policy::MAX);
    assert_eq!(PublishedPolicy::decode(&encoded), Ok(policy));
}

pub fn small_number(bytes: &[u8]) {
    let Some(number) = number::parse(bytes) else { return };
    assert_eq!(number::parse(number.to_string().as_bytes()), Some(number));
}

pub fn signal_name(bytes: &[u8]) {
    let Some(number) = signal::parse(bytes) else { return };
    assert!((1..=64).contains(&number));
    if let Some(name) = signal::name(number) {
        assert_eq!(signal::parse(name.as_bytes()), Some(number));
    }
}
