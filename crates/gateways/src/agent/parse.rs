//! *Lives here:* reading an agent definition, and why there is none.
//!
//! *Does not live here:* the types (`agent`), and the rules for their values (`check`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use gatevisor_wire::exit::{Exit, ExitError};

use super::built_in::{self, BUILT_IN};
use super::check;
use super::examine::{DefinitionProblem, examine};
use super::{AgentDefinition, MAX_BYTES, SYSTEM_FILE};
use crate::files::{ReadFileError, read_bounded};

/// Why there is no agent definition.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message says what the fields without a doc are")]
pub enum AgentError {
    /// The file does not exist.
    #[error("there is no agent definition `{}`; check --agent, or the variable GATEVISOR_AGENT", path.display())]
    Missing { path: PathBuf },
    /// The file could not be read.
    #[error("cannot read the agent definition `{}`", path.display())]
    Read {
        /// Where the text comes from.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: ReadFileError,
    },
    /// The text is not UTF-8.
    #[error("the agent definition `{origin}` is not UTF-8")]
    NotUtf8 {
        /// Where the text comes from.
        origin: String,
    },
    /// The text is not a definition.
    #[error("the agent definition `{origin}` is not valid: {first}{}", MoreProblems { count: *more, origin })]
    Invalid {
        /// Where the text comes from.
        origin: String,
        /// What is wrong.
        first: DefinitionProblem,
        /// The number of other problems.
        more: usize,
    },
}

impl ExitError for AgentError {
    fn exit(&self) -> Exit {
        match self {
            Self::Read { source: ReadFileError::Io(_), .. } => Exit::System,
            Self::Missing { .. } | Self::Read { .. } | Self::NotUtf8 { .. } | Self::Invalid { .. } => {
                Exit::Usage
            }
        }
    }
}

impl AgentDefinition {
    /// Returns the definition in `file`, or the built-in one of that name. Without `file`, returns
    /// the system's, and if there is none, the built-in one of Hermes.
    ///
    /// # Errors
    /// A named file must exist. A file that is found must be a valid definition.
    pub fn load(file: Option<&Path>) -> Result<Self, AgentError> {
        if let Some((name, text)) = file.and_then(built_in::named) {
            return Self::parse(text, &format!("built in: {name}"));
        }
        let (path, named) = match file {
            Some(path) => (path, true),
            None => (Path::new(SYSTEM_FILE), false),
        };
        let bytes = match read_bounded(path, MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) if named => return Err(AgentError::Missing { path: path.to_owned() }),
            Ok(None) => return Self::built_in(),
            Err(source) => return Err(AgentError::Read { path: path.to_owned(), source }),
        };
        let origin = path.display().to_string();
        match str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &origin),
            Err(_) => Err(AgentError::NotUtf8 { origin }),
        }
    }

    /// Returns the definition that is built into this program.
    ///
    /// # Errors
    /// None in practice: a test proves that the built-in definition is valid.
    pub fn built_in() -> Result<Self, AgentError> {
        Self::parse(BUILT_IN, "built in")
    }

    /// Returns the definition in a text; `origin` names the text in errors.
    pub fn parse(text: &str, origin: &str) -> Result<Self, AgentError> {
        let read = toml::from_str::<Self>(text).ok().map(Self::completed);
        match read.filter(|definition| check::faults(definition).is_empty()) {
            Some(definition) => Ok(definition),
            None => Err(Self::refusal(text, origin)),
        }
    }

    fn refusal(text: &str, origin: &str) -> AgentError {
        let mut problems = examine(text).into_iter();
        let unknown = || DefinitionProblem { line: 1, column: 1, what: "it cannot be read".to_owned() };
        let first = problems.next().unwrap_or_else(unknown);
        AgentError::Invalid { origin: origin.to_owned(), first, more: problems.count() }
    }

    /// Returns the definition with the values that older definitions have in other places.
    pub(super) fn completed(mut self) -> Self {
        self.topology = std::mem::take(&mut self.topology).with_older_words(&self.gateway);
        self
    }
}

impl FromStr for AgentDefinition {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, "text")
    }
}

/// The message about further problems.
struct MoreProblems<'a> {
    count: usize,
    origin: &'a str,
}

impl fmt::Display for MoreProblems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => Ok(()),
            count => write!(f, "; and {count} more: gatevisor agents check '{}'", self.origin),
        }
    }
}
