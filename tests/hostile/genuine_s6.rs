//! The same attacks on s6 itself, with the owners that the images on s6-overlay have: a supervisor that is root, slots that the
//! agent may write.
//!
//! It is no fault of s6, which never promised to serve users who do not trust each other; it is what this design is for.

use crate::bed;

#[test]
fn under_genuine_s6_whoever_may_write_a_run_file_is_root() {
    bed::genuine_s6().loses("new; mv \"$S/.$N\" \"$D\"; rescan", "grep -qx 0 \"$T/ran\"");
}

#[test]
fn under_genuine_s6_a_link_to_a_directory_of_root_is_supervised() {
    bed::genuine_s6().loses("ln -s \"$V/service\" \"$D\"; rescan", "test -e \"$V/service/supervise/status\"");
}
