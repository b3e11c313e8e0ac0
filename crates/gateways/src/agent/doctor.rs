//! *Lives here:* what a definition says for `gatevisor doctor`: what two gateways cannot share.
//!
//! *Does not live here:* the checks (`gatevisor-doctor`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::fault::{Fault, fault, file_name, variable};

/// What two gateways of an agent cannot share, and which files name a gateway's process.
///
/// The variables are read from the files that `gateway.environment-files` names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DoctorDefinition {
    /// Variables, such as those of tokens, that must differ between profiles.
    pub exclusive: Vec<String>,
    /// Ports that a gateway listens on.
    pub ports: Vec<PortDefinition>,
    /// Files in a profile's home that name the gateway's process: a number, or an object with
    /// `pid`.
    pub pid_files: Vec<String>,
}

/// A port that a gateway listens on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PortDefinition {
    /// The variable that sets the port.
    pub variable: String,
    /// The port if the variable is not set. Without it, there is no port then.
    pub default: Option<u16>,
    /// Variables of which at least one must be true. Without any, the gateway always listens.
    #[serde(default)]
    pub when: Vec<String>,
    /// How far apart the ports of two profiles are, for a gateway that uses some beside its own.
    #[serde(default = "one")]
    pub step: u16,
}

const fn one() -> u16 {
    1
}

/// Returns the first value that is wrong.
pub(super) fn check(doctor: &DoctorDefinition) -> Result<(), Fault> {
    doctor.exclusive.iter().try_for_each(|name| variable("doctor.exclusive", name))?;
    for port in &doctor.ports {
        variable("doctor.ports.variable", &port.variable)?;
        port.when.iter().try_for_each(|name| variable("doctor.ports.when", name))?;
        if port.step == 0 {
            return fault("doctor.ports.step", "use 1 or more");
        }
        if port.default == Some(0) {
            return fault("doctor.ports.default", "0 is no port; leave it out where there is no default");
        }
    }
    doctor.pid_files.iter().try_for_each(|name| file_name("doctor.pid-files", name))
}
