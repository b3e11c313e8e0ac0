//! The table of `docs/guides/agents.md` that says how each case ends with each agent.
//!
//! *Lives here:* reading it. *Does not live here:* what is seen; each test of an agent compares
//! that with its own column.
#![allow(dead_code, reason = "each suite uses its own part of this")]

use std::fs;
use std::path::Path;

/// The cases, in the order in which they are tried.
pub const CASES: [&str; 9] =
    ["start", "ready", "freeze", "crash", "own restart", "drain", "stop", "supervisor killed", "upgrade"];
/// The agents.
pub const COLUMNS: [&str; 4] = ["Hermes 0.19", "Hermes 0.22", "OpenClaw 2026.9.6", "asyncio bot"];

/// Returns the lines of the table, each with its cells, the head first.
pub fn table() -> Vec<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/agents.md");
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip_while(|line| *line != "<!-- tried:begin -->");
    let lines = lines.take_while(|line| *line != "<!-- tried:end -->").filter(|line| line.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    lines.map(cells).filter(|cells| cells.iter().any(|cell| cell.contains(|c| c != '-'))).collect()
}

/// Returns what the table says of a case with an agent.
#[track_caller]
pub fn documented(case: &str, column: &str) -> String {
    let table = table();
    let at = table[0].iter().position(|name| name == column).unwrap();
    table.iter().find(|cells| cells[0] == case).unwrap()[at].clone()
}
