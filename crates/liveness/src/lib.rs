//! Every decision about whether a gateway works, and about the consequences if it does not, without
//! any input or output.
//!
//! *Lives here:* the watcher's own time ([`clock`]), the evidence that a gateway works
//! ([`evidence`]), one gateway ([`service`]) and its states ([`state`]), all gateways of a home and
//! their order ([`fleet`]), the settings ([`settings`]), and a drain ([`drain`]).
//!
//! *Does not live here:* clocks, files, sockets, processes. Time and findings are arguments; the
//! actions are returned as a list of effects.
//!
//! *May depend on it:* `slot`, `gateways` and `metrics`, and the binary for printing. Never `init`.
//!
//! A false restart is worse than a late one. So every sign of life counts, only a gateway that is
//! known to have worked before is ended, and time during which the watcher itself did not run does
//! not count.
#![forbid(unsafe_code)]

pub mod clock;
pub mod drain;
pub mod evidence;
pub mod fleet;
pub mod service;
pub mod settings;
pub mod state;

pub use clock::{Attended, Attention, ClockReading, WakeUp};
pub use drain::{Drain, DrainEffect, DrainEnd, DrainEvent, DrainSettings, DrainStage, WorkShown};
pub use evidence::{Beat, BeatAge, BeatMark, EvidenceKind, Hindrance, LiveFinding};
pub use fleet::{Fleet, LiveEffect};
pub use service::FollowedService;
pub use settings::{LivePolicy, LiveSettings};
pub use state::{Life, Liveness, SupervisorSays};
