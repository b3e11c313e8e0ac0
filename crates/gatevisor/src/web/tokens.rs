//! Who a token is of: the tokens of the home, and one in a file outside of it.
//!
//! *Lives here:* the file outside, such as a secret that is mounted into a container. It is read
//! anew each time, so a new secret counts without a new server. *Does not live here:* the tokens of
//! the home (`keys`).

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use gatevisor_web::{Keys, NewSession, Role, TokenError, is_strong, same_secret};

use super::keys::KeyStore;
use crate::token_file::{self, Readers};

/// The tokens and sessions that a server accepts.
pub struct Tokens {
    home: Arc<KeyStore>,
    file: Option<PathBuf>,
}

impl Tokens {
    /// Returns the tokens of a home, and the one in a file that has a name.
    pub fn new(home: Arc<KeyStore>, file: Option<&OsStr>) -> Self {
        Self { home, file: file.filter(|name| !name.is_empty()).map(PathBuf::from) }
    }

    /// Returns why the token in the file is not accepted, if there is a file.
    pub fn problem(&self) -> Option<String> {
        self.outside()?.err()
    }

    fn outside(&self) -> Option<Result<String, String>> {
        let path = self.file.as_ref()?;
        let strong = |token: String| {
            let weak = || format!("cannot use the token in `{}`: {}", path.display(), TokenError::Weak);
            if is_strong(&token) { Ok(token) } else { Err(weak()) }
        };
        Some(token_file::read(path, Readers::Group).and_then(strong))
    }
}

impl Keys for Tokens {
    fn by_token(&self, token: &str) -> Option<Role> {
        let is_files = || matches!(self.outside(), Some(Ok(known)) if same_secret(token, &known));
        self.home.by_token(token).or_else(|| is_files().then_some(Role::ReadOnly))
    }

    fn may_begin(&self, token: &str) -> Option<Role> {
        // The token in the file counts only as long as it is there.
        self.home.may_begin(token)
    }

    fn redeem(&self, token: &str) -> Option<Role> {
        self.home.redeem(token)
    }

    fn begin_session(&self, role: Role) -> io::Result<NewSession> {
        self.home.begin_session(role)
    }

    fn by_session(&self, secret: &str, key: &str) -> Option<Role> {
        self.home.by_session(secret, key)
    }

    fn end_session(&self, secret: &str, key: &str) -> bool {
        self.home.end_session(secret, key)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const OLD: &str = "0123456789abcdef";
    const NEW: &str = "fedcba9876543210";

    #[test]
    fn the_token_in_a_file_lets_its_holder_look_and_a_replaced_file_counts_at_once() {
        let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, _) = KeyStore::open(home.path()).unwrap();
        // As a kubelet projects a Secret: the file is a link through a link to a directory, which
        // is replaced.
        for (directory, token) in [("1", OLD), ("2", NEW)] {
            fs::create_dir(outside.path().join(directory)).unwrap();
            let file = outside.path().join(directory).join("token");
            fs::write(&file, format!("{token}\n")).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o440)).unwrap();
        }
        let data = outside.path().join("..data");
        symlink("1", &data).unwrap();
        let file = outside.path().join("token");
        symlink("..data/token", &file).unwrap();
        let tokens = Tokens::new(Arc::new(store), Some(file.as_os_str()));
        assert_eq!(tokens.problem(), None);
        assert_eq!((tokens.by_token(OLD), tokens.by_token(NEW)), (Some(Role::ReadOnly), None));
        assert_eq!(tokens.may_begin(OLD), None, "a session would outlive it");
        symlink("2", outside.path().join("..new")).unwrap();
        fs::rename(outside.path().join("..new"), &data).unwrap();
        assert_eq!((tokens.by_token(OLD), tokens.by_token(NEW)), (None, Some(Role::ReadOnly)));
        assert_eq!(tokens.by_token(""), None);
        fs::set_permissions(outside.path().join("2/token"), Permissions::from_mode(0o444)).unwrap();
        assert_eq!(tokens.by_token(NEW), None, "others may read it");
        assert!(
            tokens.problem().unwrap().contains("others may read it; chmod o= "),
            "{:?}",
            tokens.problem()
        );
        fs::set_permissions(outside.path().join("2/token"), Permissions::from_mode(0o600)).unwrap();
        fs::write(outside.path().join("2/token"), "short").unwrap();
        assert!(tokens.problem().unwrap().contains("at least 16 characters"), "{:?}", tokens.problem());
        assert_eq!(tokens.by_token("short"), None);
        fs::remove_file(&data).unwrap();
        assert!(tokens.problem().unwrap().contains("No such file"), "{:?}", tokens.problem());
    }

    #[test]
    fn without_a_file_or_with_an_empty_name_only_the_tokens_of_the_home_count() {
        let home = tempfile::tempdir().unwrap();
        let store = Arc::new(KeyStore::open(home.path()).unwrap().0);
        for none in [None, Some(OsStr::new(""))] {
            let tokens = Tokens::new(Arc::clone(&store), none);
            assert_eq!((tokens.problem(), tokens.by_token("")), (None, None));
            let link = store.link(Role::Full).unwrap();
            assert_eq!(tokens.redeem(&link), Some(Role::Full));
        }
    }
}
