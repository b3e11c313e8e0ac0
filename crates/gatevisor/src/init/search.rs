//! The directories in which root looks up programs in a container, and those in which only the
//! agent's own programs do.
//!
//! *Lives here:* separating the two at boot, and reporting that once.
//! *Does not live here:* the rule (`gatevisor_sys::environment`), which applies whenever a program
//! is executed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use gatevisor_boot::environment::{self, Variable};
use gatevisor_sys::environment::{DEFAULT_PATH, USER_PATH, for_root, runs_code};

use crate::exit::CommandError;
use crate::out;

/// Leaves in `PATH` only directories that are root's alone. Only the agent's own programs search
/// the others.
pub fn separate(variables: &mut Vec<Variable>) -> Result<(), CommandError> {
    let path = environment::get(variables, "PATH").unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes().to_vec();
    let (kept, dropped) = for_root(&path);
    if dropped.is_empty() {
        return Ok(());
    }
    let mut of_users = environment::get(variables, USER_PATH).unwrap_or_default().as_bytes().to_vec();
    for one in &dropped {
        let directory = one.directory.as_bytes();
        out::line(format_args!(
            "init: root does not look for programs in `{}` of PATH: {}",
            one.directory.display(),
            one.why
        ))?;
        let is_known = of_users.split(|&byte| byte == b':').any(|known| known == directory);
        if directory.starts_with(b"/") && !is_known {
            if !of_users.is_empty() {
                of_users.push(b':');
            }
            of_users.extend_from_slice(directory);
        }
    }
    let kept = if kept.is_empty() { for_root(DEFAULT_PATH.as_bytes()).0 } else { kept };
    environment::set(variables, "PATH", OsString::from_vec(kept));
    environment::set(variables, USER_PATH, OsString::from_vec(of_users));
    Ok(())
}

/// Reports the names of the variables that programs of root do not get.
pub fn say_what_root_is_not_told(variables: &[Variable]) -> Result<(), CommandError> {
    let hidden = variables.iter().map(|(name, _)| name).filter(|name| runs_code(name));
    let names: Vec<String> = hidden.map(|name| name.to_string_lossy().into_owned()).collect();
    if names.is_empty() {
        return Ok(());
    }
    out::line(format_args!(
        "init: what runs as root is not told {}, which make programs execute code; the agent's programs are",
        names.join(", ")
    ))
}
