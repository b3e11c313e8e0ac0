//! *Lives here:* which gateways the table shows, and in which order; its columns.
//!
//! *Does not live here:* drawing it.

use std::cmp::{Ordering, Reverse};

use crate::history::Sample;
use crate::row::Row;

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Gateways that need attention come first.
    #[default]
    State,
    Name,
    Cpu,
    Memory,
    Uptime,
    Restarts,
}

impl Order {
    const ALL: [Self; 6] = [Self::State, Self::Name, Self::Cpu, Self::Memory, Self::Uptime, Self::Restarts];

    /// Returns the next one.
    pub fn next(self) -> Self {
        let mut all = Self::ALL.iter().cycle().skip_while(|order| **order != self);
        all.nth(1).copied().unwrap_or_default()
    }

    /// Returns its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Uptime => "uptime",
            Self::Restarts => "restarts",
        }
    }

    /// Compares two gateways. For numbers, the highest comes first.
    pub fn compare(self, one: (&Row, Sample), other: (&Row, Sample)) -> Ordering {
        let ((a, used), (b, also_used)) = (one, other);
        let by_column = match self {
            Self::State => a.rank.cmp(&b.rank),
            Self::Name => Ordering::Equal,
            Self::Cpu => Reverse(used.cpu_tenths).cmp(&Reverse(also_used.cpu_tenths)),
            Self::Memory => Reverse(used.memory_bytes).cmp(&Reverse(also_used.memory_bytes)),
            Self::Uptime => {
                b.up_for(b.seen_at_s.max(a.seen_at_s)).cmp(&a.up_for(a.seen_at_s.max(b.seen_at_s)))
            }
            Self::Restarts => Reverse(a.restarts).cmp(&Reverse(b.restarts)),
        };
        by_column.then_with(|| a.name.cmp(&b.name))
    }
}

/// The widths of the columns; the table has a space between two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    pub name: usize,
    pub state: usize,
    pub desired: usize,
    pub uptime: usize,
    pub restarts: usize,
    pub cpu: usize,
    pub memory: usize,
    /// The width of each of the two sparklines; none if there is no room for them.
    pub line: usize,
}

impl Columns {
    /// Returns the columns of a table of this width, whose longest name has `longest_name` columns.
    pub fn of(width: usize, longest_name: usize) -> Self {
        const WIDE: usize = 130;
        let (desired, uptime, restarts, cpu, memory) = (8, 7, 8, 6, 7);
        let line = if width >= WIDE { 24 } else { 0 };
        let lines = if line > 0 { 2 * (line + 1) } else { 0 };
        let fixed = desired + uptime + restarts + cpu + memory + lines + 6;
        let rest = width.saturating_sub(fixed);
        let name = longest_name.clamp(8, rest.saturating_sub(12).max(8));
        let state = rest.saturating_sub(name).clamp(8, 32);
        Self { name, state, desired, uptime, restarts, cpu, memory, line }
    }
}
