//! *Lives here:* whether the container that we are in still boots.
//!
//! *Does not live here:* the boot (`gatevisor_boot`). It ends when process 1 executes itself as
//! the supervisor, so the command line of process 1 tells.

use std::fs;
use std::path::Path;

use super::process;

/// Returns whether process 1 is this program and boots a container, which has no supervisor yet.
pub fn container_boots() -> bool {
    let Ok(own) = gatevisor_sys::process::own_program().and_then(fs::canonicalize) else { return false };
    boots(&process::words(1), |path| fs::canonicalize(path).is_ok_and(|found| found == own))
}

/// Returns whether these words boot a container. Other programs are called `init`, too.
fn boots(words: &[String], is_ours: impl Fn(&Path) -> bool) -> bool {
    let [first, rest @ ..] = words else { return false };
    let path = Path::new(first);
    match path.file_name().and_then(|name| name.to_str()) {
        Some("gatevisor") => rest.first().is_some_and(|verb| verb == "init"),
        Some("init" | "tini") => path.is_absolute() && is_ours(path),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::boots;
    use std::path::Path;

    #[test]
    fn a_container_boots_until_its_first_process_is_the_supervisor() {
        let ours = |path: &Path| path == Path::new("/init") || path == Path::new("/usr/bin/tini");
        for (words, expected) in [
            ("/init gateway run", true),
            ("/usr/bin/tini -g -- /init", true),
            ("gatevisor init", true),
            ("/usr/local/bin/gatevisor init sh", true),
            ("gatevisor supervise --label-output /run/service", false),
            ("/sbin/init splash", false),
            ("init", false),
            ("/usr/local/bin/gatevisor", false),
            ("sleep init", false),
            ("", false),
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            assert_eq!(boots(&words, ours), expected, "{words:?}");
        }
        assert!(!boots(&[], ours));
    }
}
