//! Capabilities that the command can never have.
//!
//! *Lives here:* the bounding set, and preventing that anything is inherited beyond it.
//! *Does not live here:* the names (`settings`).
//!
//! **Source:** capabilities(7).

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::Cannot;
use super::settings::capability;

/// Removes every capability but `kept` from the bounding set.
///
/// That needs `CAP_SETPCAP`. If `no_gain` is true, nothing is lost without it: a process that has
/// no capabilities and can gain none by executing a program needs no bound.
pub(crate) fn bound(kept: &[String], no_gain: bool) -> Result<(), Cannot> {
    let kept =
        kept.iter().filter_map(|name| capability(name)).fold(CapabilitySet::empty(), CapabilitySet::union);
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !kept.contains(one) => {}
            Ok(_) => continue,
            // The kernel knows no further capabilities.
            Err(_) => break,
        }
        let Err(errno) = remove_capability_from_bounding_set(one) else { continue };
        if no_gain && has_none(kept) {
            return Ok(());
        }
        let remedy =
            "dropping them needs CAP_SETPCAP; set `no-new-privileges` as well, with which none can be gained";
        return Err(Cannot::new("capabilities", errno, remedy));
    }
    Ok(())
}

/// Returns whether this process has no capabilities except perhaps some of `kept`.
fn has_none(kept: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| kept.contains(sets.permitted))
}

/// Empties the other sets by which capabilities are inherited.
pub(crate) fn let_none_be_inherited() -> Result<(), Cannot> {
    let inherit_none = || -> Result<(), Errno> {
        clear_ambient_capability_set()?;
        let present = capabilities(None)?;
        set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..present })
    };
    inherit_none().map_err(|errno| Cannot::new("capabilities", errno, "inherited ones cannot be dropped"))
}
