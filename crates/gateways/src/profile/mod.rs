//! *Lives here:* profiles: their names, where they are, making, deleting and listing them.
//!
//! *Does not live here:* their gateways (see [`crate::manager`]), and what an agent keeps in a profile.

mod home;
mod name;
mod store;

pub use home::{Home, HomePathError, LOCK, PROFILES};
pub use name::{DEFAULT, MAX, ProfileName, ProfileNameError, SERVICE_PREFIX};
pub use store::{
    Candidate, CreateError, Created, DeleteError, ListProfilesError, Profile, ShowError, create, delete,
    list, scan, show,
};
pub(crate) use store::{candidate, directories};
