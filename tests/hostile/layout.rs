//! The differences between the two images, for cells and attacks.
//!
//! *Lives here:* where the home is, the environment, and how scripts of attacks are adapted to the
//! minimal image. *Does not live here:* what is in an image (`cell.sh`).

use crate::attack::Attack;

/// The file with the image's `PATH`, which cells have too.
const DOCKERFILE: &str = include_str!("../../image/Dockerfile");

/// The image of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    #[default]
    Hermes,
    /// An agent file and a home at `/data`. There are no Hermes, no hooks, no shims, and no
    /// accounts except root's and the agent's.
    Minimal,
}

impl Layout {
    /// Returns its name in `cell.sh`.
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
                // The attacker's programs, which the image does not have.
                line.replace("/command", "/command:/usr/bin:/bin").split(' ').map(str::to_owned).collect()
            }
        }
    }

    /// Returns whether the target of an attack exists. The minimal image's agent has no service of
    /// its own, and no files that `doctor` could find to be wrong.
    pub fn has(self, attack: &Attack) -> bool {
        let is_of_hermes = attack.does.contains("$S/main-hermes") || attack.name.contains("doctor");
        self == Self::Hermes || !is_of_hermes
    }

    /// Returns a script of an attack, which is written for Hermes, adapted to this image.
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
