//! Which gateway serves which profile of a home.
//!
//! *Lives here:* the rules of an agent definition, applied to a home: the version of the installed
//! program, the settings of the agent, the last known facts if these cannot be read, and requests
//! to a gateway that serves several profiles.
//!
//! *Does not live here:* the definition itself (see [`crate::agent`]); what follows for slots
//! (`reconcile`), commands (`manager`) and reports (`inspect`).
//!
//! *May depend on it:* the rest of this crate, `doctor` and the binary.

mod config;
mod control;
mod decide;
mod kept;
mod known;
mod look;
mod park;
mod program;
mod version;

pub use decide::{DecidedProfile, ParkChange, SettingAnswer, decide};
pub use kept::KeptSetting;
pub use known::{KNOWN, KnownTopology};
pub use look::{TopologyReader, of_installed};
pub use version::{ProgramVersion, VersionRange, VersionRangeError};

pub(crate) use control::{ControlRequest, RequestError, request};
