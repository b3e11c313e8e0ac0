//! *Lives here:* the placeholders of a definition that are filled in when a slot is made.
//!
//! *Does not live here:* `${VARIABLE}`, which is expanded when a gateway starts (see
//! `gatevisor-slot`).

use crate::profile::ProfileName;

/// The values of a definition's placeholders for one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholders {
    profile: String,
    profile_home: String,
}

impl Placeholders {
    /// Returns the placeholders for a profile. At run time, `home_variable` holds the home.
    pub fn new(profile: &ProfileName, home_variable: &str) -> Self {
        let home = format!("${{{home_variable}}}");
        let profile_home =
            if profile.is_root() { home } else { format!("{home}/{}/{profile}", crate::profile::PROFILES) };
        Self { profile: profile.to_string(), profile_home }
    }
}

/// Why a text of a definition cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error("`{{{0}}}` is not known here; {{profile}} and {{profile-home}} are, and ${{NAME}} at run time")]
    Unknown(String),
    /// A variable is opened and never closed.
    #[error("`${{` without `}}` in `{0}`")]
    Open(String),
}

/// Returns `text` with `{profile}` and `{profile-home}` filled in; `${…}` stays as it is.
///
/// A brace that opens no lower-case word is an ordinary character.
pub fn fill(text: &str, placeholders: &Placeholders) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let Some((inside, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            if before.ends_with('$') && !before.ends_with("$$") {
                return Err(TemplateError::Open(text.to_owned()));
            }
            out.push_str(from);
            return Ok(out);
        };
        let variable = before.ends_with('$') && !before.ends_with("$$");
        let word = !inside.is_empty() && inside.bytes().all(|b| matches!(b, b'a'..=b'z' | b'-'));
        rest = match inside {
            _ if variable => {
                out.push('{');
                out.push_str(inside);
                out.push('}');
                after
            }
            "profile" => {
                out.push_str(&placeholders.profile);
                after
            }
            "profile-home" => {
                out.push_str(&placeholders.profile_home);
                after
            }
            _ if word => return Err(TemplateError::Unknown(inside.to_owned())),
            _ => {
                out.push('{');
                from.strip_prefix('{').unwrap_or_default()
            }
        };
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let placeholders = Placeholders::new(&"coder".parse().unwrap(), "X_HOME");
        assert_eq!(fill(text, &placeholders).unwrap(), expected);
    }

    #[test]
    fn profile_placeholders_are_filled_and_variables_are_left_for_the_start() {
        check("{profile}", "coder");
        check("a-{profile}-b-{profile}", "a-coder-b-coder");
        check("{profile-home}/.env", "${X_HOME}/profiles/coder/.env");
        check("${profile} ${X:-{profile} $$ {", "${profile} ${X:-{profile} $$ {");
        check("http://127.0.0.1:${PORT:-80}/", "http://127.0.0.1:${PORT:-80}/");
        check("{\"json\": {}} {A}", "{\"json\": {}} {A}");
        check("$${profile}", "$$coder");
        check("", "");
    }

    #[test]
    fn the_root_profiles_home_is_the_home() {
        let placeholders = Placeholders::new(&ProfileName::root(), "X_HOME");
        assert_eq!(fill("{profile-home}/.env", &placeholders).unwrap(), "${X_HOME}/.env");
    }

    #[test]
    fn an_unknown_placeholder_is_an_error() {
        let placeholders = Placeholders::new(&ProfileName::root(), "X_HOME");
        assert_snapshot!(fill("a {profil}", &placeholders).unwrap_err(), @"`{profil}` is not known here; {profile} and {profile-home} are, and ${NAME} at run time");
        assert_snapshot!(fill("a ${HOME", &placeholders).unwrap_err(), @"`${` without `}` in `a ${HOME`");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_filled_or_refused(text in ".{0,60}") {
            let placeholders = Placeholders::new(&ProfileName::root(), "X_HOME");
            if let Ok(filled) = fill(&text, &placeholders) {
                assert!(!text.contains("{profile}") || text.contains("${profile}") || text.contains("${") || !filled.contains("{profile}"));
            }
        }
    }
}
