//! The two images, as far as cells and attacks tell them apart.
//!
//! *Lives here:* where the home is, the environment, and the words of attacks for the minimal image. *Does not live here:* what is
//! in an image (`cell.sh`).

use crate::attack::Attack;

/// Where the image's `PATH` is, which is the cells' too.
const DOCKERFILE: &str = include_str!("../../image/Dockerfile");

/// Which image a cell is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    #[default]
    Hermes,
    /// An agent file and a home at `/data`: no Hermes, no hooks, no shims, and nobody but root and the agent in its accounts.
    Minimal,
}

impl Layout {
    /// Returns what `cell.sh` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::Minimal => "minimal",
        }
    }

    pub const fn home(self) -> &'static str {
        match self {
            Self::Hermes => "/opt/data",
            Self::Minimal => "/data",
        }
    }

    /// Returns the variables of the image, `NAME=value`.
    pub fn variables(self) -> Vec<String> {
        let mut paths = DOCKERFILE
            .lines()
            .map(|line| line.trim().trim_start_matches("ENV ").trim_end_matches('\\').trim())
            .filter(|line| line.starts_with("PATH="));
        match self {
            Self::Hermes => {
                let path = paths.next_back().expect("the image has a PATH");
                vec!["HERMES_HOME=/opt/data".to_owned(), path.to_owned()]
            }
            Self::Minimal => {
                let line = paths.next().expect("the image has a PATH");
                // The programs of the attacker's, which the image does not have.
                line.replace("/command", "/command:/usr/bin:/bin").split(' ').map(str::to_owned).collect()
            }
        }
    }

    /// Returns whether there is what an attack aims at: the minimal image's agent has no service of its own, and no files of which
    /// `doctor` could say that they lie.
    pub fn has(self, attack: &Attack) -> bool {
        let is_of_hermes = attack.does.contains("$S/main-hermes") || attack.name.contains("doctor");
        self == Self::Hermes || !is_of_hermes
    }

    /// Returns words of an attack, which are written for Hermes, as they are here.
    pub fn spoken(self, words: &str) -> String {
        match self {
            Self::Hermes => words.to_owned(),
            Self::Minimal => words
                .replace("/opt/data", "/data")
                .replace("SOUL.md", "agent.conf")
                .replace("gateway_state.json", "state.json"),
        }
    }
}
