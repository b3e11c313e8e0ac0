//! *Lives here:* what `gatevisor doctor` has to know of an agent: what two of its gateways cannot share.
//!
//! *Does not live here:* the checks (`gatevisor-doctor`).

use serde::Deserialize;

use super::fault::{Fault, fault, file_name, variable};

/// What two gateways of an agent cannot share, and where they say who they are.
///
/// The variables are looked for in the files that `gateway.environment-files` names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DoctorDefinition {
    /// Variables, such as those of tokens, of which no two profiles may have the same value.
    pub exclusive: Vec<String>,
    /// Ports that a gateway listens on.
    pub ports: Vec<PortDefinition>,
    /// Files in a profile's home in which a gateway says which process it is: a number, or an object with `pid`.
    pub pid_files: Vec<String>,
}

/// A port that a gateway listens on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PortDefinition {
    /// The variable that says which.
    pub variable: String,
    /// Which it is where the variable is not set; without one, none.
    pub default: Option<u16>,
    /// Variables of which one must say something other than no; without any, it always listens.
    #[serde(default)]
    pub when: Vec<String>,
}

/// Returns the first value that makes no sense.
pub(super) fn check(doctor: &DoctorDefinition) -> Result<(), Fault> {
    doctor.exclusive.iter().try_for_each(|name| variable("doctor.exclusive", name))?;
    for port in &doctor.ports {
        variable("doctor.ports.variable", &port.variable)?;
        port.when.iter().try_for_each(|name| variable("doctor.ports.when", name))?;
        if port.default == Some(0) {
            return fault("doctor.ports.default", "0 is no port; leave it out where there is no default");
        }
    }
    doctor.pid_files.iter().try_for_each(|name| file_name("doctor.pid-files", name))
}
