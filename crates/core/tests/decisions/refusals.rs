//! Which refused entries are remembered.

use gatevisor_core::refusals::{MAX_BYTES_OF_OWNER, MAX_OF_OWNER, RefusalNews, RefusalRecords};

/// Names that are refused: enough to exceed a user's bytes.
const COUNT: u32 = if cfg!(miri) { 800 } else { 2000 };

fn name(number: u32) -> Vec<u8> {
    format!("{number:0>250}").into_bytes()
}

#[test]
fn a_refusal_is_news_once_and_again_when_its_reason_changes() {
    let mut records = RefusalRecords::default();
    for (entry, reason, expected) in [
        ("web", "locked", RefusalNews::New),
        ("web", "locked", RefusalNews::Again),
        ("web", "not a directory", RefusalNews::New),
        ("api", "locked", RefusalNews::New),
    ] {
        assert_eq!(records.refuse(entry.as_bytes(), reason, 1), expected, "{entry} {reason}");
    }
    assert!(records.forget(b"web") && !records.forget(b"web"));
    assert_eq!(records.names().count(), 1);
    assert_eq!(records.refuse(b"web", "not a directory", 1), RefusalNews::New);
}

#[test]
#[cfg_attr(miri, ignore = "the quantity takes Miri hours, and the crate has no unsafe code")]
fn what_is_kept_of_one_users_refused_names_is_bounded_in_bytes_and_others_have_theirs() {
    let mut records = RefusalRecords::default();
    let refuse = |records: &mut RefusalRecords, number| {
        records.refuse(&name(number), "others may write to it", 1) != RefusalNews::TooMany { is_first: false }
    };
    let news: Vec<u32> = (0..COUNT).filter(|&number| refuse(&mut records, number)).collect();
    // The last one is one too many. A message says that once.
    let kept = &news[..news.len() - 1];
    assert!((100..MAX_OF_OWNER).contains(&kept.len()), "{}", kept.len());
    assert_eq!(records.of_owner(1), kept.len());
    assert!(records.bytes_of_owner(1) <= MAX_BYTES_OF_OWNER);
    assert_eq!(records.refuse(b"web", "locked", 2), RefusalNews::New, "others have their own share");
    // With another reason, the same bytes are neither counted twice nor lost.
    for &number in kept {
        assert_eq!(records.refuse(&name(number), "others may read it", 3), RefusalNews::New);
    }
    assert!(kept.iter().all(|&number| records.forget(&name(number))) && records.forget(b"web"));
    assert_eq!([1, 2, 3].map(|owner| (records.of_owner(owner), records.bytes_of_owner(owner))), [(0, 0); 3]);
    assert_eq!(records.names().count(), 0);
}
