//! What a container must be given, in words for the person who starts it.
//!
//! *Lives here:* finding out what is missing, and how to give it with Docker and Kubernetes.
//! *Does not live here:* what it is needed for.

use std::io;

use gatevisor_sys::Errno;
use gatevisor_sys::user::User;
use rustix::thread::{CapabilitySet, capabilities};

/// Capabilities that root needs: it makes files and starts processes that belong to the agent.
const NEEDED: [(CapabilitySet, &str); 3] =
    [(CapabilitySet::CHOWN, "CHOWN"), (CapabilitySet::SETGID, "SETGID"), (CapabilitySet::SETUID, "SETUID")];

/// Returns which capabilities root lacks for starting anything as this user, and how to give them;
/// `None` if it lacks none.
pub fn missing_capabilities(user: &User) -> Option<String> {
    let effective = capabilities(None).ok()?.effective;
    let missing = NEEDED.iter().filter(|(one, _)| !effective.contains(*one)).map(|(_, name)| *name);
    let missing: Vec<&str> = missing.collect();
    (!missing.is_empty()).then(|| without(&missing, user))
}

fn without(missing: &[&str], user: &User) -> String {
    let (uid, gid) = (user.uid, user.gid);
    let name = String::from_utf8_lossy(&user.name).escape_debug().to_string();
    let options: Vec<String> = missing.iter().map(|one| format!("--cap-add {one}")).collect();
    format!(
        "this container runs as root without the capabilities {}, so nothing in it can run as user `{name}`; start it as \
         that user: `--user {uid}:{gid}` (Kubernetes: `runAsUser: {uid}`, `runAsGroup: {gid}`, `fsGroup: {gid}`), or add \
         them: `{}` (Kubernetes: `securityContext.capabilities.add: [{}]`)",
        missing.join(", "),
        options.join(" "),
        missing.join(", ")
    )
}

/// Returns why there are no run-time files in `run`, and what to do.
pub fn run_time_files(run: &str, error: &io::Error) -> String {
    let hint = match Errno::from_io_error(error) {
        Some(Errno::ROFS) => {
            "the root file system is read-only; mount a writable file system there and on `/tmp`: with Docker \
             `--tmpfs /run --tmpfs /tmp`, in a Kubernetes pod a volume `emptyDir: {medium: Memory}` for each"
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            "whoever the container runs as must be able to write there: with Docker `--tmpfs /run`, in a Kubernetes pod a \
             volume `emptyDir: {medium: Memory}` and an `fsGroup`"
        }
        Some(Errno::NOSPC) => "its file system is full; make it larger: with Docker `--tmpfs /run:size=64m`",
        _ => "it must be a writable directory",
    };
    format!("cannot make the run-time files in `{run}`: {error}; {hint}")
}

#[cfg(test)]
mod tests {
    use super::{run_time_files, without};
    use gatevisor_sys::user::User;

    #[test]
    fn a_missing_capability_is_named_in_the_words_of_docker_and_of_kubernetes() {
        let user =
            User { uid: 10000, gid: 10001, name: b"hermes".to_vec(), home: Vec::new(), groups: vec![] };
        let text = without(&["CHOWN", "SETUID"], &user);
        for words in [
            "the capabilities CHOWN, SETUID",
            "`hermes`",
            "`--user 10000:10001`",
            "`runAsUser: 10000`",
            "`fsGroup: 10001`",
            "`--cap-add CHOWN --cap-add SETUID`",
            "`securityContext.capabilities.add: [CHOWN, SETUID]`",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn a_read_only_root_is_told_what_to_mount() {
        let text = run_time_files("/run", &std::io::Error::from_raw_os_error(30));
        for words in ["`--tmpfs /run --tmpfs /tmp`", "`emptyDir: {medium: Memory}`", "/run`: Read-only"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
