//! *Lives here:* the check whether a supervisor runs, and which.
//!
//! *Does not live here:* finding that out.

use gatevisor_slot::home_lock::Standing;

use crate::commands::TAKE_OVER;
use crate::facts::{Facts, Presence, Supervision, Victims};
use crate::finding::{Check, Finding, Severity, shown};

const BOOTING: &str =
    "this container is still booting, and its supervisor comes at the end of that; ask again in a moment";

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let supervision = &facts.supervision;
    let scandir = shown(&supervision.scandir);
    let finding = |severity, what: &str, why: &str| {
        Finding::new(Check::Supervisor, severity, what, why).at(&supervision.scandir)
    };
    let wanted = facts.profiles.iter().filter(|profile| profile.should_run()).count();
    // It is no problem that a home inside another program has no supervisor at the moment, if no
    // gateway should run.
    let is_container = supervision.is_container || supervision.marker.is_some();
    let severity = if wanted > 0 || is_container { Severity::Error } else { Severity::Warning };
    let consequence = match wanted {
        0 => "no gateway runs or can be started".to_owned(),
        1 => "one gateway is desired running, and nobody starts it".to_owned(),
        many => format!("{many} gateways are desired running, and nobody starts them"),
    };
    let nobody = |what: &str| match facts.home_taken() {
        _ if supervision.lost.is_some() => {
            let why = supervision.lost_words().unwrap_or_default();
            finding(severity, what, &format!("{consequence}; {why}")).fix(facts.caller.command(["down"]))
        }
        Some(lock) => finding(Severity::Note, what, &lock.runs_gateways()),
        // A second instance would replace the first, which its unit starts again.
        None if facts.units_that_run().next().is_some() => {
            finding(Severity::Warning, what, &run_by_units(facts)).fix(facts.caller.command(TAKE_OVER))
        }
        None => finding(severity, what, &explained(facts, &consequence)).fix(facts.caller.command(["up"])),
    };
    match &supervision.presence {
        Presence::NoScandir => {
            found.push(nobody(&format!("there is no scandir `{scandir}`, so nobody supervises")));
        }
        Presence::Unsupervised => {
            found.push(nobody(&format!("no supervisor runs on the scandir `{scandir}`")));
        }
        Presence::Booting => {
            let what = format!("no supervisor runs on the scandir `{scandir}` yet");
            found.push(finding(Severity::Note, &what, BOOTING));
        }
        Presence::Unknown(why) => {
            let what = format!("whether anybody supervises `{scandir}` cannot be told as uid {}", facts.uid);
            let why = format!("{why}; ask as root or as the user who owns it");
            found.push(finding(Severity::Warning, &what, &why));
        }
        Presence::Supervised => supervised(facts, &scandir, found),
    }
}

/// Returns which units of systemd run gateways of the home.
fn run_by_units(facts: &Facts) -> String {
    let named =
        facts.units_that_run().map(|(unit, profile)| format!("`{unit}` runs the gateway of {profile}"));
    format!(
        "units of systemd run gateways without a supervisor: {}; leave it so, or have one unit supervise the home; \
         `gatevisor up` would run these gateways twice",
        named.collect::<Vec<_>>().join(", ")
    )
}

/// Returns the consequence together with the problem of the container, if this is one.
fn explained(facts: &Facts, consequence: &str) -> String {
    if !facts.left.is_empty() {
        let named = facts.left.iter().map(|(name, pid)| format!("{name} (process {pid})"));
        return format!(
            "{consequence}; the last supervisor was killed, and what it left still runs: {}",
            named.collect::<Vec<_>>().join(", ")
        );
    }
    let supervision = &facts.supervision;
    match (supervision.marker, &supervision.first) {
        (Some(marker), Some(first)) if !matches!(&**first, "gatevisor" | "s6-svscan") => format!(
            "{consequence}; `{marker}` says that this is a container, and its process 1 is `{first}`: start it with the \
             entry point of its image, `/init`, and without --entrypoint"
        ),
        _ => consequence.to_owned(),
    }
}

fn supervised(facts: &Facts, scandir: &str, found: &mut Vec<Finding>) {
    let supervision = &facts.supervision;
    let finding = |severity, what: &str, why: &str| {
        Finding::new(Check::Supervisor, severity, what, why).at(&supervision.scandir)
    };
    if let Some(pid) = supervision.stopped {
        let what = format!("the supervisor (process {pid}) is stopped by a signal");
        let why = "until it goes on, nothing is started or stopped, and nobody learns of a death";
        found.push(finding(Severity::Error, &what, why).fix(format!("kill -CONT {pid}")));
    }
    found.extend(unwatched(facts));
    if let Some(program) = supervision.program.as_ref().filter(|_| !supervision.is_ours()) {
        let what = format!("`{program}` supervises `{scandir}`, not Gatevisor");
        let why = "everything works, but a gateway that keeps dying is started each second, and nobody says why a slot is \
                   refused or a start fails";
        found.push(finding(Severity::Note, &what, why));
    }
    if supervision.is_container
        && supervision.pid.is_some_and(|pid| pid != 1)
        && let (Some(pid), Some(first)) = (supervision.pid, &supervision.first)
    {
        let what = format!("process 1 of this container is `{first}`, not the supervisor (process {pid})");
        let why = "gateways are supervised, but the agent's own command line looks for the supervisor at process 1; start \
                   the container without --init, --pid and --entrypoint";
        found.push(finding(Severity::Warning, &what, why));
    }
    if supervision.victims == Victims::Anybody {
        let what = "the supervisor may be killed when the container's memory is used up";
        let why = "what agents put into /dev/shm and other files of memory counts for no process, so the kernel may choose the \
                   supervisor, and the container ends; start it with a --shm-size well below --memory and with \
                   --cap-add SYS_RESOURCE. A gateway whose service directory says `oom-score-raise`, as those do that gatevisor made, is \
                   chosen sooner, which helps against accidents alone";
        found.push(finding(Severity::Warning, what, why));
    }
    if supervision.without_gateways {
        let why = "the container's command is another long-lived program of the agent; gateways are another container's";
        found.push(finding(Severity::Note, "this container runs no gateways", why));
    }
    found.extend(standing(facts));
}

/// Returns that nobody watches whether the gateways work, if somebody should.
fn unwatched(facts: &Facts) -> Option<Finding> {
    let supervision = &facts.supervision;
    let is_here = supervision.is_ours() && !supervision.elsewhere && !supervision.without_gateways;
    let silent = supervision.unwatched.as_ref().filter(|_| is_here)?;
    let why = format!(
        "{silent}; until one reports again, no gateway that does not work is found or ended, and new \
         profiles may be missed"
    );
    let what = "nobody watches whether the gateways work";
    let finding = Finding::new(Check::Supervisor, Severity::Warning, what, &why).at(&supervision.scandir);
    // It is killed, because it may be stopped. Without such a service, the supervisor replaces it.
    let again = |keeper| facts.caller.tool(["s6-svc", "-ku"], keeper);
    let fix = supervision.keeper.as_deref().filter(|_| supervision.is_container).map(again);
    Some(finding.fix(fix))
}

/// Returns the problem of this container with the lock of the home.
fn standing(facts: &Facts) -> Option<Finding> {
    let supervision = &facts.supervision;
    let gateways = facts.services.iter().filter(|service| service.observed.profile.is_some());
    let running = gateways.filter(|service| service.report.pid.is_some()).count();
    if supervision.standing.allows() || supervision.without_gateways && running == 0 {
        return None;
    }
    let (severity, what) = match running {
        0 if supervision.elsewhere => (Severity::Note, "the gateways of this home run in another container"),
        0 => (Severity::Warning, "no gateway can be started here"),
        _ => {
            (Severity::Error, "gateways run here although this container does not hold the lock of the home")
        }
    };
    let why = format!("{}{}", supervision.standing, keeper_state(supervision, running > 0));
    let finding = Finding::new(Check::Supervisor, severity, what, &why).at(&supervision.scandir);
    // It is killed, because it may be paused. Its supervisor starts it again, and it stops the
    // gateways or takes the lock.
    let again = |keeper| facts.caller.tool(["s6-svc", "-ku"], keeper);
    let fix = supervision.keeper.as_deref().filter(|_| severity != Severity::Note).map(again);
    Some(finding.fix(fix))
}

/// Returns which program should have started the supervisor.
fn keeper_state(supervision: &Supervision, gateways_run: bool) -> String {
    let Some(keeper) = &supervision.keeper else {
        return "; no service of this container keeps or waits for it".to_owned();
    };
    let keeper = shown(keeper);
    match (&supervision.standing, gateways_run) {
        (_, true) => format!("; `{keeper}` should have stopped them, and is down or does not work"),
        (Standing::NeverHeld { .. } | Standing::Replaced { .. }, _) => {
            format!("; `{keeper}` takes over when that one is gone")
        }
        (_, false) => format!("; `{keeper}` is down or does not work"),
    }
}
