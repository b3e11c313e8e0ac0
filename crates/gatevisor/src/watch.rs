//! `gatevisor profile-watcher`: makes slots for new profiles and removes those of vanished ones, as
//! long as it runs.
//!
//! *Lives here:* the watcher's subject, and reporting its actions.
//! *Does not live here:* watching (`gatevisor_gateways::watch`), and which container runs the
//! gateways (`takeover`).
//!
//! In a container it is an ordinary service of the agent's user, in the container that runs the
//! gateways of its home. Beside `gatevisor up`, another process keeps it running. That process ends
//! with the supervisor, and the supervisor replaces it if it ends before.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatevisor_client::Waiter;
use gatevisor_gateways::manager::ServiceManager;
use gatevisor_gateways::watch::{ProfileNotice, ProfileWatcher, WatchProfilesError};

use gatevisor_sys::process::end_with;
use rustix::process::Pid;

use crate::args::Common;
use crate::context::{CommandContext, MissingHome};
use crate::exit::{CommandError, Exit, Outcome};
use crate::keeper::{self, Kept};
use crate::{alerts, declared, live, out, page_server};

/// The name of the service and of the verb.
pub const NAME: &str = "profile-watcher";
/// The name of the verb that a supervisor outside of a container runs beside it.
pub const BESIDE: &str = "beside";

/// What comes before the address of the page, where `up` was told to serve it.
const WEB: &str = "--web=";

/// How long a new supervisor may take to supervise the slots.
const SUPERVISED_WITHIN: Duration = Duration::from_secs(30);

/// Returns the words with which the supervisor, which this process becomes, runs [`run`] beside it.
pub fn words(context: &CommandContext, web: Option<SocketAddr>) -> Vec<OsString> {
    let supervisor = rustix::process::getpid().as_raw_nonzero().to_string();
    let mut words: Vec<OsString> = vec!["gatevisor".into(), BESIDE.into()];
    words.extend(web.map(|address| format!("{WEB}{address}").into()));
    words.push(supervisor.into());
    words.extend(context.words());
    words
}

/// Keeps the watchers of the profiles and of the gateways of a home running, and the server of its
/// page if that is wanted, as long as its supervisor runs.
pub fn run(words: &[OsString]) -> Outcome {
    let web = words.first().and_then(|word| word.to_str()?.strip_prefix(WEB));
    let words = words.get(usize::from(web.is_some())..).unwrap_or_default();
    let [supervisor, home, scandir, agent @ ..] = words else {
        return Err(CommandError::new(Exit::Usage, "only `gatevisor up` has its supervisor call this"));
    };
    let common = Common {
        profile: None,
        home: Some(home.into()),
        scandir: Some(scandir.into()),
        agent: agent.first().map(Into::into),
        json: false,
    };
    let context = CommandContext::new(&common, MissingHome::IsMade, false)?.at_boot();
    let parent = supervisor.to_str().and_then(|number| Pid::from_raw(number.parse().ok()?));
    if !parent.is_some_and(end_with) {
        return Err(CommandError::new(
            Exit::System,
            "the supervisor of this home has not started this process",
        ));
    }
    let job = Box::new(|| watch(&context));
    let mut all = vec![
        Kept { what: "the process that watches the profiles", job, pulse: None, is_wanted: None },
        live::kept(&context.manager),
        alerts::kept(&context.manager),
        declared::kept(&context.manager),
    ];
    all.extend(web.map(|address| page_server::kept(&context, address)));
    // The parent is the supervisor itself, of which others say that a signal has stopped it.
    keeper::keep(&all, None)
}

/// Watches the profiles; returns an exit code when that is no longer possible.
fn watch(context: &CommandContext) -> i32 {
    let manager = &context.manager;
    let watcher = ProfileWatcher::new(Arc::new(manager.clone()), tell);
    // Changes since then are handled when there is a supervisor.
    let first = manager.list().ok().and_then(|names| names.into_iter().next());
    if let Some(mut waiter) = first.and_then(|name| Waiter::subscribe(&manager.slot(&name)).ok()) {
        let _ = waiter.supervised(Instant::now().checked_add(SUPERVISED_WITHIN));
    }
    let error = match watcher {
        Ok(watcher) => {
            watcher.remembering().honouring_stops().map_or_else(|error| error, ProfileWatcher::run)
        }
        Err(error) => error,
    };
    i32::from(out::fail(&failure(&error)))
}

/// Reports an action of a watcher.
#[expect(clippy::needless_pass_by_value, reason = "it is what a watcher tells")]
pub fn tell(notice: ProfileNotice) {
    out::say(format_args!("{notice}"));
}

/// Returns the error with which a watcher ended.
pub fn failure(error: &WatchProfilesError) -> CommandError {
    CommandError::of(Exit::System, error)
}
