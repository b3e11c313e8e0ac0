//! Every decision about whether a gateway works, and about what follows if it does not, without any input or output.
//!
//! *Lives here:* the watcher's own time ([`clock`]), what a gateway shows of itself ([`evidence`]), one gateway ([`service`]),
//! all gateways of a home and whose turn it is ([`fleet`]), the settings ([`settings`]).
//! *Does not live here:* clocks, files, sockets, processes. Time is an argument; what was found is an argument; what must
//! happen is returned as a list of effects.
//!
//! *May depend on it:* `slot` and `gateways`, and the binary for printing. Never `init`.
//!
//! A false restart is worse than a late one. So whatever shows life counts, only what is known to have worked before can
//! fail, and no time counts in which the watcher itself did not run.
#![forbid(unsafe_code)]

pub mod clock;
pub mod evidence;
pub mod fleet;
pub mod service;
pub mod settings;

pub use clock::{Attended, Attention, ClockReading, WakeUp};
pub use evidence::{Beat, BeatAge, BeatMark, EvidenceKind, Hindrance, LiveFinding};
pub use fleet::{Fleet, LiveEffect};
pub use service::{FollowedService, Life, Liveness};
pub use settings::{LivePolicy, LiveSettings};
