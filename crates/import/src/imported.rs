//! The result of reading a file.
//!
//! *Lives here:* the gateways of a file, the agent definition that follows from them, the errors.
//! *Does not live here:* reading a file (`pm2`, `supervisord`).

use crate::gateway::ImportedGateway;

/// The most gateways of one file.
pub(crate) const MAX_GATEWAYS: usize = 1000;

/// What was read from a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// The gateways, one for each program.
    pub gateways: Vec<ImportedGateway>,
    /// Settings without a counterpart that belong to no single gateway, one line each.
    pub lost: Vec<String>,
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is JavaScript, which would have to be executed.
    #[error(
        "it is JavaScript, which is not executed; `pm2 save` writes what runs now into ~/.pm2/dump.pm2, and that can be \
         imported"
    )]
    Program,
    /// It is not valid JSON.
    #[error("it is no JSON: {0}")]
    Json(serde_json::Error),
    /// It is JSON, but not a file of pm2.
    #[error("it has no list of applications, as pm2 writes it")]
    NotPm2,
    /// It is not a valid INI file.
    #[error("it is no INI file: {0}")]
    Ini(String),
    /// It is an INI file, but not one of supervisord.
    #[error("it has no section [program:NAME], as supervisord reads it")]
    NotSupervisord,
    /// It names no program.
    #[error("it names no program that could be run")]
    Empty,
    /// It names too many programs.
    #[error("it names more than {MAX_GATEWAYS} programs")]
    TooMany,
}

impl Imported {
    /// Returns an agent definition under which each gateway runs its own start script.
    pub fn definition(&self, origin: &str) -> String {
        let origin: String = origin.chars().filter(|character| !character.is_control()).collect();
        let longest = self.gateways.iter().filter_map(|gateway| gateway.stop_ms).max();
        let stop = longest
            .map_or_else(String::new, |ms| format!("stop-timeout-ms = {}\n", ms.clamp(1_000, 600_000)));
        format!(
            "# Made by `gatevisor import` from {origin}.\n\
             # Each profile has a script `start` and its variables in `.env`.\n\
             name = \"imported\"\n\
             \n\
             # The home itself has no program.\n\
             [default-profile]\n\
             gateway = false\n\
             \n\
             [profile]\n\
             marker = \"start\"\n\
             directories = [\"logs\"]\n\
             \n\
             [[profile.files]]\n\
             path = \"start\"\n\
             mode = \"0700\"\n\
             content = \"#!/bin/sh\\n# What this gateway executes.\\n\
             echo \\\"write the command of this gateway into $0\\\" >&2\\nexit 78\\n\"\n\
             \n\
             [[profile.files]]\n\
             path = \".env\"\n\
             mode = \"0600\"\n\
             content = \"\"\n\
             \n\
             [gateway]\n\
             command-default = [\"{{profile-home}}/start\"]\n\
             command-named = [\"{{profile-home}}/start\"]\n\
             directory = \"{{profile-home}}\"\n\
             environment-files = [\"{{profile-home}}/.env\"]\n\
             environment-export = true\n\
             state-file = \"gateway_state.json\"\n\
             log-directory = \"${{IMPORTED_HOME}}/logs/gateways/{{profile}}\"\n\
             boot-log = \"logs/boot.log\"\n\
             fail-codes = [78]\n\
             {stop}"
        )
    }
}
