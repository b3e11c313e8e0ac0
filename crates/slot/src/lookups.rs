//! *Lives here:* the values of `${VAR}` at one start of a service, and the resulting settings for
//! following the service.
//!
//! *Does not live here:* the syntax of a text with variables (`expand`); the steps of a start
//! (`interpreter`).

use std::ffi::OsString;
use std::path::Path;

use gatevisor_wire::exit::Exit;
use rustix::io::Errno;

use crate::expand::{expand, is_truthy};
use crate::failure::FailedStart;
use crate::file::{Ready, ServiceFile};
use crate::live::Live;
use crate::{dotenv, os, readiness};

/// Milliseconds for which a start counts as one, if nobody looks whether the gateway works.
const UNWATCHED_MS: u64 = 5_000;

/// The sources of `${VAR}`: variables of dotenv files, the last file first, and the inherited
/// environment.
pub(crate) struct Lookups {
    from_files: Vec<(String, OsString)>,
    /// The variables that the command gets from the files.
    exported: Vec<(String, OsString)>,
    /// Why the service is started again, if that is known.
    pub restart_reason: Option<OsString>,
}

impl Lookups {
    pub fn read(file: &ServiceFile) -> Result<Self, FailedStart> {
        let mut from_files = Vec::new();
        for template in &file.environment_files {
            let path = expanded("environment-files", template, &|name| std::env::var_os(name))?;
            let stage = || format!("reading {}", path.display());
            match os::read_file(Path::new(&path), dotenv::MAX_BYTES) {
                Ok(read) if u64::try_from(read.bytes.len()).is_ok_and(|n| n <= dotenv::MAX_BYTES) => {
                    from_files.append(&mut dotenv::parse(&read.bytes));
                }
                Ok(_) => {
                    return Err(FailedStart::system(stage(), "larger than 1 MiB", Errno::FBIG));
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => {}
                    errno => {
                        let errno = errno.unwrap_or(Errno::IO);
                        return Err(FailedStart::system(stage(), "cannot read the file", errno));
                    }
                },
            }
        }
        let exported = if file.environment_export { from_files.clone() } else { Vec::new() };
        Ok(Self { from_files, exported, restart_reason: None })
    }

    /// Adds variables. Each has priority over known variables of the same name.
    pub fn add(&mut self, variables: impl IntoIterator<Item = (String, OsString)>) {
        self.from_files.extend(variables);
    }

    /// Returns the variables of the files that the command gets, the last file last.
    pub fn exported(&self) -> &[(String, OsString)] {
        &self.exported
    }

    pub fn in_files(&self, name: &str) -> Option<OsString> {
        self.from_files.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// Returns the value of a variable. A profile's own file has priority over the container's
    /// environment.
    pub fn get(&self, name: &str) -> Option<OsString> {
        self.in_files(name).or_else(|| std::env::var_os(name))
    }

    /// Returns how the service is followed in the life that begins.
    pub fn live(&self, live: &Live) -> Result<Live, FailedStart> {
        let lookup = |name: &str| self.get(name);
        let text = |key: &'static str, text: &str| {
            expanded(key, text, &lookup).map(|text| text.to_string_lossy().into_owned())
        };
        let mut live = live.with_texts(&text)?;
        live.check_expanded().map_err(|(key, message)| FailedStart {
            stage: format!("expanding {key}"),
            message,
            errno: None,
            exit: Exit::Usage,
        })?;
        live.retain_asked();
        Ok(live)
    }

    /// Returns for how many milliseconds this start counts as one if nothing shows its end before:
    /// if nobody looks, and at most. `None` if nothing ever shows it.
    pub fn start_span(&self, file: &ServiceFile) -> Option<(u64, u64)> {
        let is_probed = |ready: &Ready| match &ready.when {
            Some(when) => {
                expanded("ready.when", when, &|name| self.get(name)).is_ok_and(|when| is_truthy(&when))
            }
            None => true,
        };
        let is_announced = readiness::notification_number().is_some();
        let ready = file.ready.as_ref().filter(|ready| is_announced && is_probed(ready));
        let live = file.live.as_ref().and_then(|live| self.live(live).ok());
        let settings = live.filter(Live::looks).and_then(|live| live.settings());
        let deadline_ms = settings.map(|settings| settings.start_deadline_ms);
        match (ready, deadline_ms) {
            // Its prober looks, whether or not anybody else does.
            (Some(ready), deadline_ms) => {
                let longest_ms = ready.timeout_ms.max(deadline_ms.unwrap_or_default());
                Some((longest_ms, longest_ms))
            }
            (None, Some(deadline_ms)) => Some((deadline_ms.min(UNWATCHED_MS), deadline_ms)),
            (None, None) => None,
        }
    }
}

/// Returns the value of a text at this start; `what` is its key.
pub(crate) fn expanded(
    what: &str,
    template: &str,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Result<OsString, FailedStart> {
    expand(template, lookup)
        .map_err(|error| FailedStart::plain(format!("expanding {what}"), &error, Exit::System))
}
