//! *Lives here:* profiles: their names, where they are, making, deleting and listing them.
//!
//! *Does not live here:* their gateways (see [`crate::manager`]), and what an agent keeps in a
//! profile.

mod allot;
mod found;
mod home;
mod name;
mod store;
pub(crate) mod wanted_ports;

pub use allot::{AllotError, Assignments, OwnVariables, PortChoice};
pub use found::found_in;
pub use home::{Home, HomePathError, LOCK, PROFILES, VARIABLE as HOME_VARIABLE};
pub use name::{DEFAULT, MAX, ProfileName, ProfileNameError, SERVICE_PREFIX};
pub use store::{
    Candidate, CreateError, Created, DeleteError, ListProfilesError, Profile, ShowError, create, create_with,
    delete, list, scan, show,
};
pub(crate) use store::{candidate, directories, list_except};
