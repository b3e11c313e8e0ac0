//! *Lives here:* putting the parts of a fixed-size record together without counting offsets by
//! hand.
//!
//! *Does not live here:* any format.

/// Returns the parts one after another; what is missing is zero and what is too much is left out.
///
/// Every caller's parts add up to `N`, which its golden and round-trip tests see to.
pub(crate) fn join<const N: usize, const PARTS: usize>(parts: [&[u8]; PARTS]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    out
}
