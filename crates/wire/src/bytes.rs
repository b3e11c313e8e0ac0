//! *Lives here:* joining the parts of a fixed-size record without counting offsets by hand.
//!
//! *Does not live here:* any format.

/// Returns the parts one after another. Missing bytes are zero. A part that does not fit is left
/// out, with all parts behind it.
///
/// Each caller's parts add up to `N`; its golden and round-trip tests check that.
pub(crate) fn join<const N: usize, const PARTS: usize>(parts: [&[u8]; PARTS]) -> [u8; N] {
    let mut out = [0; N];
    let mut rest = out.as_mut_slice();
    for part in parts {
        let Some((to, behind)) = rest.split_at_mut_checked(part.len()) else { break };
        to.copy_from_slice(part);
        rest = behind;
    }
    out
}
