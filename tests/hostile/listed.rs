//! docs/design/attacks.md names exactly the attacks that exist.

use std::collections::BTreeSet;

#[test]
fn every_attack_has_a_name_of_its_own_and_is_in_the_document() {
    let names: Vec<&str> = super::GROUPS.iter().copied().flatten().map(|attack| attack.name).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len(), "two attacks have one name");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design/attacks.md");
    let text = std::fs::read_to_string(path).unwrap();
    let listed: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(listed, distinct, "docs/design/attacks.md lists other attacks than there are");
}
