//! The files of pm2: `dump.pm2`, the list of the programs that ran, and `ecosystem.config.json`,
//! the list of those that shall run.
//!
//! *Lives here:* the meaning of their keys. *Does not live here:* any other format.
//!
//! **Source:** pm2's page *Ecosystem File*, and its `lib/API/schema.json`.

use serde_json::{Map, Value};

use crate::gateway::{ImportedGateway, name_profiles};
use crate::{ImportError, Imported};

/// Keys without a counterpart, each with what is done here instead.
const WITHOUT_COUNTERPART: [(&str, &str); 16] = [
    ("watch", "nothing is restarted because a file has changed"),
    ("max_memory_restart", "limit memory with `[gateway.confine]` in the definition"),
    ("cron_restart", "use a timer that calls `gatevisor restart NAME`"),
    ("max_restarts", "a gateway is started again with growing pauses, without an end"),
    ("min_uptime", "`healthy-after-ms` in the definition is the same for all gateways"),
    ("restart_delay", "the first restart is at once, and the pauses grow from 250 ms to 60 s"),
    ("exp_backoff_restart_delay", "the pauses between restarts grow from 250 ms to 60 s"),
    ("stop_exit_codes", "`fail-codes` in the definition is the same for all gateways"),
    ("wait_ready", "use `[gateway.ready]` in the definition"),
    ("listen_timeout", "use `[gateway.ready]` in the definition"),
    ("out_file", "each gateway's log is in logs/gateways of the home"),
    ("error_file", "each gateway's log is in logs/gateways of the home"),
    ("log_date_format", "`gatevisor logs` shows when each line came"),
    ("uid", "gateways run as the user who calls `gatevisor up`"),
    ("gid", "gateways run as the user who calls `gatevisor up`"),
    ("post_update", "nothing is updated"),
];

/// Reads such a file.
pub fn read(text: &str, directory: &str) -> Result<Imported, ImportError> {
    let whole: Value = serde_json::from_str(text).map_err(ImportError::Json)?;
    let apps = match &whole {
        Value::Array(apps) => apps,
        Value::Object(object) => match object.get("apps") {
            Some(Value::Array(apps)) => apps,
            _ => return Err(ImportError::NotPm2),
        },
        _ => return Err(ImportError::NotPm2),
    };
    let mut imported = Imported::default();
    for app in apps {
        match app.as_object().and_then(|app| gateway(app, directory)) {
            Some(gateway) => imported.gateways.push(gateway),
            None => imported.lost.push("an application without `script` has nothing to run".to_owned()),
        }
    }
    if whole.get("deploy").is_some() {
        imported.lost.push("deploy: nothing is deployed".to_owned());
    }
    name_profiles(&mut imported.gateways);
    Ok(imported)
}

fn gateway(app: &Map<String, Value>, beside: &str) -> Option<ImportedGateway> {
    let text = |key: &str| app.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let script = text("pm_exec_path").or_else(|| text("script"))?;
    let file = script.rsplit('/').next().unwrap_or(script);
    let called = text("name").unwrap_or(file);
    let directory = text("pm_cwd").or_else(|| text("cwd")).map(|cwd| absolute(cwd, beside));
    let base = directory.as_deref().unwrap_or(beside);
    let interpreter = text("exec_interpreter").or_else(|| text("interpreter"));
    let mut words: Vec<String> = Vec::new();
    if let Some(interpreter) = interpreter.map_or_else(|| usual_interpreter(script), of_name) {
        words.push(interpreter.to_owned());
        words.extend(
            ["node_args", "interpreter_args"]
                .iter()
                .find_map(|key| app.get(*key))
                .map(list)
                .unwrap_or_default(),
        );
    }
    let is_path = script.contains('/') || file.contains('.');
    words.push(if is_path { absolute(script, base) } else { script.to_owned() });
    words.extend(app.get("args").map(list).unwrap_or_default());
    let mut gateway = ImportedGateway::new(called, words);
    gateway.directory = Some(base.to_owned());
    gateway.is_wanted = !matches!(text("status"), Some("stopped" | "errored"));
    gateway.stop_ms = app.get("kill_timeout").and_then(number);
    for (name, value) in app.get("env").and_then(Value::as_object).into_iter().flatten() {
        // pm2 adds settings of its modules, and an id of the process.
        let is_pm2s = name == "unique_id" || name == called;
        if let Some(value) = plain(value).filter(|_| !is_pm2s) {
            gateway.variable(name, &value);
        }
    }
    note_lost(app, &mut gateway);
    Some(gateway)
}

/// Notes the settings without a counterpart.
fn note_lost(app: &Map<String, Value>, gateway: &mut ImportedGateway) {
    let instances = app.get("instances").and_then(plain).filter(|count| count != "1");
    if let Some(count) = instances {
        gateway.lose("instances", &count, "one is made; copy the profile for each further one");
    }
    if app.get("exec_mode").and_then(Value::as_str).is_some_and(|mode| mode.starts_with("cluster")) {
        gateway.lose("exec_mode", "cluster", "each gateway is one process, which has its port alone");
    }
    if app.get("autorestart") == Some(&Value::Bool(false)) {
        gateway.lose(
            "autorestart",
            "false",
            "what ends is started again, unless it ends with 78 or is stopped",
        );
    }
    for (key, why) in WITHOUT_COUNTERPART {
        let said = app.get(key).filter(|value| !matches!(value, Value::Null | Value::Bool(false)));
        if let Some(value) = said.map(|value| plain(value).unwrap_or_else(|| value.to_string()))
            && value != "0"
        {
            gateway.lose(key, &value, why);
        }
    }
    for key in app.keys().filter(|key| key.starts_with("env_") || key.starts_with("env-")) {
        gateway.lose(key, "…", "only `env` is taken; set others with `gatevisor profile env`");
    }
}

/// Returns the interpreter that pm2 chooses by the script's name.
fn usual_interpreter(script: &str) -> Option<&'static str> {
    match script.rsplit('/').next()?.rsplit_once('.')?.1 {
        "js" | "cjs" | "mjs" => Some("node"),
        "py" => Some("python3"),
        "sh" => Some("bash"),
        "rb" => Some("ruby"),
        "pl" => Some("perl"),
        "php" => Some("php"),
        _ => None,
    }
}

fn of_name(interpreter: &str) -> Option<&str> {
    (interpreter != "none").then_some(interpreter)
}

/// Returns the words of a list, or of a text as a shell splits it.
fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(words) => words.iter().filter_map(plain).collect(),
        Value::String(words) => shlex::split(words).unwrap_or_else(|| vec![words.clone()]),
        _ => Vec::new(),
    }
}

/// Returns a value as the text that a program would be given.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_so) => Some(is_so.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn absolute(path: &str, base: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", base.trim_end_matches('/')) }
}
