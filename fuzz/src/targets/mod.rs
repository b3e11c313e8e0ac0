//! The targets by name.

mod container;
mod logs;
mod machine;
mod manager;
mod paths;
mod scripts;
mod slot;
mod wire;

/// A decoder, and what must hold for any bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its directory below `seeds/`.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub check: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident::$name:ident)+) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), check: $module::$name }),+];
    };
}

targets! {
    wire::status
    wire::death_tally
    wire::tai64n
    wire::wait_status
    wire::service_name
    wire::control_bytes
    wire::event_bytes
    wire::policy
    wire::small_number
    wire::signal_name
    machine::service_control
    machine::scandir_changes
    slot::run_file
    slot::log_run_file
    slot::group_number
    slot::dotenv
    slot::expand
    slot::health_url
    slot::health_answer
    manager::gateway_state
    manager::agent_file
    manager::profile_name
    logs::log_lines
    logs::log_stream
    logs::log_packet
    scripts::log_directives
    scripts::log_script
    scripts::log_composer
    container::account_files
    container::environment_dump
    paths::paths
}

/// Returns the target of this name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
