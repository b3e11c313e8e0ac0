//! The environment of the programs that this process starts, and the directories in which they are
//! looked up.
//!
//! *Lives here:* the one rule for root and the one for everybody else; [`ProgramEnvironment`],
//! without which no program can be looked up by name.
//! *Does not live here:* executing (`process`), who owns a path (`trust`).
//!
//! **Root** looks only into directories that are root's alone. In a container, the environment was
//! meant for the agent as much as for root. There, root passes on no variable that makes a program
//! execute code, and no `HOME` that another user may write to, because programs load code from
//! there. Outside containers, the environment of root is root's own words.
//!
//! **Every other user** also searches the directories of [`USER_PATH`] that belong to that user,
//! before the system's.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::geteuid;

use crate::trust::{self, Distrust};
use crate::user;

/// A variable's name and value.
pub type Variable = (OsString, OsString);

/// The search path if `PATH` is not set.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The search path of a gateway if `PATH` is not set. It leaves out the directories of an
/// administrator's programs.
pub const GATEWAY_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The search path of s6's tools and execline if `PATH` is not set.
pub const S6_PATH: &str = "/usr/bin:/bin";

/// The variable that lists, separated by `:`, the directories which only programs of their owner
/// search.
pub const USER_PATH: &str = "GATEVISOR_USER_PATH";

/// The variables by which a supervisor asks a program to report its state. They are meant for that
/// program only.
///
/// **Source:** `sd_notify(3)`, `sd_watchdog_enabled(3)`.
pub const NOTIFY_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The variables by which a supervisor hands sockets to a program.
///
/// **Source:** `sd_listen_fds(3)`.
const LISTEN_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Exists in a container; the agent's own command line recognizes a container by it, too.
const CONTAINER: &str = "/run/s6/basedir";

/// Directories of the system; a user's own directories come before them.
const SYSTEM: [&[u8]; 6] =
    [b"/usr/local/sbin", b"/usr/local/bin", b"/usr/sbin", b"/usr/bin", b"/sbin", b"/bin"];

/// Variables that make programs execute something: files, directories of files, commands, options
/// that name either.
const CODE: &[&str] = &[
    // Shells.
    "IFS",
    "ENV",
    "BASH_ENV",
    "BASHOPTS",
    "SHELLOPTS",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "INPUTRC",
    "BASH_LOADABLES_PATH",
    "FPATH",
    "ZDOTDIR",
    "NULLCMD",
    "READNULLCMD",
    // The C library, and what it loads.
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NLSPATH",
    "RES_OPTIONS",
    "RESOLV_HOST_CONF",
    "MALLOC_TRACE",
    "TZDIR",
    "TMPDIR",
    "SHLIB_PATH",
    "LIBPATH",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TERMCAP",
    "TERMPATH",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
    "GSS_MECH_CONFIG",
    "KRB5_CONFIG",
    "GIO_MODULE_DIR",
    "GIO_EXTRA_MODULES",
    "GTK_PATH",
    "GTK_MODULES",
    "QT_PLUGIN_PATH",
    "XDG_CONFIG_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_DATA_HOME",
    "XDG_DATA_DIRS",
    "XDG_CACHE_HOME",
    // Interpreters.
    "PERL5LIB",
    "PERL5OPT",
    "PERL5DB",
    "PERLLIB",
    "PERLIO_DEBUG",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_REPL_EXTERNAL_MODULE",
    "RUBYLIB",
    "RUBYOPT",
    "GEM_HOME",
    "GEM_PATH",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "TCLLIBPATH",
    "GUILE_LOAD_PATH",
    "GUILE_LOAD_COMPILED_PATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "AWKPATH",
    "AWKLIBPATH",
    "R_PROFILE",
    "R_PROFILE_USER",
    "R_ENVIRON",
    "DOTNET_STARTUP_HOOKS",
    "VIRTUAL_ENV",
    // Tools that start others.
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "LESSOPEN",
    "LESSCLOSE",
    "BROWSER",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "MAKEFLAGS",
    "MAKEFILES",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_PAGER",
    "GIT_ASKPASS",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GIT_TEMPLATE_DIR",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "RSYNC_RSH",
    "TAR_OPTIONS",
    "PIP_CONFIG_FILE",
    "WGETRC",
];

/// What the names of such variables begin with.
const CODE_PREFIXES: &[&str] = &[
    "LD_",
    "_RLD",
    "LDR_",
    "DYLD_",
    "PYTHON",
    "BASH_FUNC_",
    "GIT_CONFIG",
    "NPM_CONFIG_",
    "npm_config_",
    "LUA_",
    "BUNDLE_",
    "JULIA_",
    "CORECLR_",
    "COR_PROFILER",
    "KRB5_",
];

/// Variables with such a prefix that hold nothing but a switch.
const SWITCHES: &[&str] = &[
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONNOUSERSITE",
    "PYTHONSAFEPATH",
    "PYTHONIOENCODING",
    "PYTHONUTF8",
    "PYTHONHASHSEED",
    "PYTHONFAULTHANDLER",
];

/// A directory that root does not search, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The directory as it is written in `PATH`.
    pub directory: OsString,
    /// Why root does not trust it.
    pub why: Distrust,
}

/// Returns whether a variable can make a program execute code that root did not intend.
pub fn runs_code(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return true };
    let is_code = CODE.contains(&name) || CODE_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_code && !SWITCHES.contains(&name)
}

/// Splits a search path into the directories that are root's alone, and the others.
pub fn for_root(path: &[u8]) -> (Vec<u8>, Vec<Dropped>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for directory in path.split(|&byte| byte == b':') {
        let name = OsStr::from_bytes(directory);
        match trust::root_only(Path::new(name)) {
            Ok(()) => kept.push(directory),
            Err(why) => dropped.push(Dropped { directory: name.to_owned(), why }),
        }
    }
    (kept.join(&b':'), dropped)
}

/// Returns a search path with the directories `own` before the system's, as far as they are this
/// user's.
fn with_own(path: &[u8], own: &[u8]) -> Vec<u8> {
    let mut directories: Vec<&[u8]> = path.split(|&byte| byte == b':').collect();
    let first_of_system = directories.iter().position(|directory| SYSTEM.contains(directory));
    let mut at = first_of_system.unwrap_or(directories.len());
    for directory in own.split(|&byte| byte == b':') {
        let is_new = !directories.contains(&directory);
        if is_new && trust::is_own(Path::new(OsStr::from_bytes(directory))) {
            directories.insert(at, directory);
            at = at.saturating_add(1);
        }
    }
    directories.join(&b':')
}

/// Returns the value of a variable.
pub fn get<'a>(variables: &'a [Variable], name: &str) -> Option<&'a OsStr> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
}

/// Gives a variable a value.
pub fn set(variables: &mut Vec<Variable>, name: &str, value: impl Into<OsString>) {
    let value = value.into();
    let mut is_set = false;
    variables.retain_mut(|(known, old)| {
        if known != name {
            return true;
        }
        old.clone_from(&value);
        !std::mem::replace(&mut is_set, true)
    });
    if !is_set {
        variables.push((name.into(), value));
    }
}

/// Returns the environment for programs of root, the names of the variables that were left out, and
/// the directories that root does not search.
pub fn inherited_by_root(mut variables: Vec<Variable>) -> (Vec<Variable>, Vec<OsString>, Vec<Dropped>) {
    let mut left_out = Vec::new();
    variables.retain(|(name, _)| {
        let keeps = !runs_code(name);
        if !keeps {
            left_out.push(name.clone());
        }
        keeps
    });
    if let Some(home) = get(&variables, "HOME")
        && trust::root_only(Path::new(home)).is_err()
    {
        let home = home_of_root();
        set(&mut variables, "HOME", home);
    }
    let dropped = clean_path(&mut variables);
    (variables, left_out, dropped)
}

/// Leaves only root's own directories in `PATH`, and returns the others.
fn clean_path(variables: &mut Vec<Variable>) -> Vec<Dropped> {
    let Some(path) = get(variables, "PATH") else { return Vec::new() };
    let (kept, dropped) = for_root(path.as_bytes());
    if !dropped.is_empty() {
        let kept = if kept.is_empty() { for_root(DEFAULT_PATH.as_bytes()).0 } else { kept };
        set(variables, "PATH", OsString::from_vec(kept));
    }
    dropped
}

fn home_of_root() -> OsString {
    let home = user::lookup_uid(0).map(|root| OsString::from_vec(root.home)).unwrap_or_default();
    if trust::root_only(Path::new(&home)).is_ok() { home } else { "/".into() }
}

/// Returns whether this is a container that we or s6-overlay booted.
fn is_container() -> bool {
    Path::new(CONTAINER).is_dir()
}

/// Returns variables without those that a supervisor meant for this process alone.
pub fn without_messages_to_us(mut variables: Vec<Variable>) -> Vec<Variable> {
    let is_ours = |name: &OsStr| NOTIFY_VARIABLES.iter().chain(&LISTEN_VARIABLES).any(|known| *known == name);
    variables.retain(|(name, _)| !is_ours(name));
    variables
}

/// Returns the environment for a program that runs as this process's user.
///
/// The variables by which a supervisor asks this process for reports are left out: the program is
/// not asked.
pub fn inherited(variables: Vec<Variable>) -> Vec<Variable> {
    handed_on(without_messages_to_us(variables))
}

/// Returns the environment for a program that this process becomes: a supervisor that asked this
/// process for reports gets them from the program.
pub fn handed_on(mut variables: Vec<Variable>) -> Vec<Variable> {
    if geteuid().is_root() {
        if is_container() {
            return inherited_by_root(variables).0;
        }
        clean_path(&mut variables);
        return variables;
    }
    let own = get(&variables, USER_PATH).filter(|own| !own.is_empty()).map(OsStr::to_owned);
    if let Some(own) = own {
        let path = get(&variables, "PATH").unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes().to_vec();
        set(&mut variables, "PATH", OsString::from_vec(with_own(&path, own.as_bytes())));
    }
    variables
}

/// An environment for executing a program and for looking it up.
#[derive(Debug, Clone)]
pub struct ProgramEnvironment {
    block: Vec<CString>,
    path: Vec<u8>,
    is_root: bool,
    dropped: Vec<Dropped>,
}

impl ProgramEnvironment {
    /// Makes the environment for a program of this process's user. `otherwise` is the search path
    /// if `PATH` is not set.
    ///
    /// # Errors
    /// A variable holds a NUL byte.
    pub fn new(variables: Vec<Variable>, otherwise: &str) -> Result<Self, Errno> {
        Self::exactly(inherited(variables), otherwise)
    }

    /// Makes an environment of exactly these variables. For root, `PATH` keeps only the directories
    /// that root may search.
    ///
    /// `otherwise` is the search path if `PATH` is not set.
    ///
    /// # Errors
    /// A variable holds a NUL byte.
    pub fn exactly(mut variables: Vec<Variable>, otherwise: &str) -> Result<Self, Errno> {
        let is_root = geteuid().is_root();
        let dropped = if is_root { clean_path(&mut variables) } else { Vec::new() };
        let path = get(&variables, "PATH").unwrap_or(OsStr::new(otherwise)).as_bytes().to_vec();
        let path = if is_root { for_root(&path).0 } else { path };
        Ok(Self { block: block(&variables)?, path, is_root, dropped })
    }

    /// Returns the environment block in the form that exec needs.
    pub fn block(&self) -> &[CString] {
        &self.block
    }

    /// Returns the search path: directories separated by `:`.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns the directories of `PATH` that are not searched.
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Returns whether this process may execute a file that was found in one of the directories.
    pub(crate) fn may_execute(&self, candidate: &[u8]) -> bool {
        !self.is_root || trust::root_only(Path::new(OsStr::from_bytes(candidate))).is_ok()
    }
}

/// Returns variables in the form that exec needs.
///
/// # Errors
/// A variable holds a NUL byte.
pub fn block(variables: &[Variable]) -> Result<Vec<CString>, Errno> {
    let pair = |(name, value): &Variable| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat());
    variables.iter().map(|variable| pair(variable).map_err(|_| Errno::INVAL)).collect()
}

#[cfg(test)]
mod tests {
    use super::{for_root, inherited_by_root, runs_code, set, with_own};
    use std::ffi::{OsStr, OsString};
    use std::fs;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// A directory that everybody may write to.
    fn open_to_all() -> tempfile::TempDir {
        let open = tempfile::tempdir().unwrap();
        fs::set_permissions(open.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        open
    }

    #[test]
    fn root_searches_only_what_is_roots_alone() {
        let open = open_to_all();
        let path = format!("/usr/bin::.:bin:{}:/nonexistent/x:/bin", open.path().display());
        let (kept, dropped) = for_root(path.as_bytes());
        assert_eq!(String::from_utf8(kept).unwrap(), "/usr/bin:/nonexistent/x:/bin");
        let dropped: Vec<&OsStr> = dropped.iter().map(|one| one.directory.as_os_str()).collect();
        assert_eq!(dropped, ["", ".", "bin", open.path().to_str().unwrap()]);
    }

    #[test]
    fn what_root_searches_is_never_empty_or_the_working_directory() {
        let open = open_to_all();
        let (told, _, dropped) =
            inherited_by_root(variables(&[("PATH", &format!("{}:", open.path().display()))]));
        assert_eq!(dropped.len(), 2);
        assert!(
            told.iter().any(|(name, value)| name == "PATH" && value.to_str().unwrap().contains("/usr/bin"))
        );
    }

    #[test]
    fn root_is_told_of_nothing_that_makes_programs_execute_what_it_did_not_mean() {
        let open = open_to_all();
        let home = open.path().to_str().unwrap();
        let all = variables(&[
            ("LD_PRELOAD", "/opt/data/x.so"),
            ("PYTHONPATH", "/opt/data"),
            ("PYTHONUNBUFFERED", "1"),
            ("BASH_FUNC_ls%%", "() { id; }"),
            ("GIT_TOKEN", "kept"),
            ("NODE_OPTIONS", "-r /opt/data/x.js"),
            ("HOME", home),
            ("ANTHROPIC_API_KEY", "kept"),
        ]);
        let (told, left_out, _) = inherited_by_root(all);
        let names: Vec<&OsStr> = told.iter().map(|(name, _)| name.as_os_str()).collect();
        assert_eq!(names, ["PYTHONUNBUFFERED", "GIT_TOKEN", "HOME", "ANTHROPIC_API_KEY"]);
        assert_eq!(left_out, ["LD_PRELOAD", "PYTHONPATH", "BASH_FUNC_ls%%", "NODE_OPTIONS"]);
        assert!(told.iter().any(|(name, value)| name == "HOME" && value != home));
    }

    #[test]
    fn a_variable_whose_name_is_not_utf8_is_left_out() {
        use std::os::unix::ffi::OsStrExt;
        assert!(runs_code(OsStr::from_bytes(b"X\xff")));
        assert!(!runs_code(OsStr::new("HERMES_HOME")) && !runs_code(OsStr::new("PATH")));
    }

    #[test]
    fn a_users_own_directories_come_before_the_systems() {
        if rustix::process::geteuid().is_root() {
            // A directory that is root's own must not be searched by anybody else.
            assert_eq!(with_own(b"/a:/usr/bin", b"/root/.local/bin"), b"/a:/root/.local/bin:/usr/bin");
        }
        let own = tempfile::tempdir().unwrap();
        fs::create_dir(own.path().join("bin")).unwrap();
        let own = own.path().to_str().unwrap();
        let path =
            |path: &str, own: &str| String::from_utf8(with_own(path.as_bytes(), own.as_bytes())).unwrap();
        assert_eq!(path("/a:/usr/bin:/bin", &format!("{own}/bin")), format!("/a:{own}/bin:/usr/bin:/bin"));
        assert_eq!(path("/a", &format!("{own}/not/yet")), format!("/a:{own}/not/yet"));
        let there = format!("{own}/bin:/usr/bin");
        assert_eq!(path(&there, &format!("{own}/bin")), there);
        assert_eq!(path("/usr/bin", "bin:.::"), "/usr/bin");
    }

    #[test]
    fn a_variable_keeps_its_place_and_has_one_value() {
        let mut all = variables(&[("A", "1"), ("B", "2"), ("A", "3")]);
        set(&mut all, "A", "4");
        set(&mut all, "C", "5");
        assert_eq!(all, variables(&[("A", "4"), ("B", "2"), ("C", "5")]));
    }
}
