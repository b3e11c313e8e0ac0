//! The same attacks on s6 itself, with the owners of images on s6-overlay: the supervisor is root,
//! and the agent may write to the slots.
//!
//! This is no fault of s6, which never promised to serve users who do not trust each other. It is
//! the reason for our design.

use crate::bed;

#[test]
fn under_genuine_s6_whoever_may_write_a_run_file_is_root() {
    bed::genuine_s6().loses("new; mv \"$S/.$N\" \"$D\"; rescan", "grep -qx 0 \"$T/ran\"");
}

#[test]
fn under_genuine_s6_a_link_to_a_directory_of_root_is_supervised() {
    bed::genuine_s6().loses("ln -s \"$V/service\" \"$D\"; rescan", "test -e \"$V/service/supervise/status\"");
}
