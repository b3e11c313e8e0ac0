//! One program for all targets, so it is built only once. `GATEVISOR_FUZZ_TARGET` names the target.
#![no_main]

use std::sync::OnceLock;

use gatevisor_fuzz::targets::{Target, named};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("GATEVISOR_FUZZ_TARGET").expect("GATEVISOR_FUZZ_TARGET names a target");
        named(&name).unwrap_or_else(|| panic!("`{name}` is no target; src/targets/mod.rs lists them"))
    });
    (target.check)(bytes);
});
