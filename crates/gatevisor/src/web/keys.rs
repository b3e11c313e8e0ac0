//! The tokens and sessions of the page, as files in the home that only its owner may read.
//!
//! *Lives here:* making, finding and ending them. Each command reads them anew, so a revoked token
//! is refused at once, and a session outlives the server.
//! *Does not live here:* what they allow.

use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gatevisor_gateways::files::{make_directory, open_directory};
use gatevisor_paths::by_path;
use gatevisor_sys::file;
use gatevisor_web::{Keys, NewSession, Role, SESSION_SECONDS, same_secret};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, fstat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

/// The directory in a home.
pub const DIRECTORY: &str = ".gatevisor-web";
/// The lasting tokens.
const TOKENS: [(&str, Role); 2] = [("token", Role::Full), ("token-read-only", Role::ReadOnly)];
/// Where the server can be reached.
const ADDRESS: &str = "address";
/// How long a link can be used, in seconds.
const LINK_SECONDS: u32 = 600;
/// The most links of one role, and the most sessions of one role. A new one replaces the oldest of
/// its own role, so that a caller who may only look ends no session of a caller who may do
/// everything.
const MOST: usize = 128;
/// The most bytes of a file.
const FILE_BYTES: usize = 1024;

/// A secret that expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecretKind {
    Link,
    Session,
}

impl SecretKind {
    const fn directory(self) -> &'static str {
        match self {
            Self::Link => "links",
            Self::Session => "sessions",
        }
    }

    const fn seconds(self) -> u32 {
        match self {
            Self::Link => LINK_SECONDS,
            Self::Session => SESSION_SECONDS,
        }
    }
}

/// The tokens and sessions of a home.
#[derive(Debug)]
pub struct KeyStore {
    directory: OwnedFd,
    path: PathBuf,
}

/// The content of the file of a link or session.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    role: Role,
    secret: String,
    /// When it ends, in seconds since 1970.
    ends: i64,
    /// What the page shows beside the cookie; a link has none.
    key: Option<String>,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (role, secret, ends) = (words.next()?, words.next()?, words.next()?);
        let (secret, key) = (secret.to_owned(), words.next().map(str::to_owned));
        Some(Self { role: Role::named(role)?, secret, ends: ends.parse().ok()?, key })
    }

    fn written(&self) -> String {
        let key = self.key.as_deref().unwrap_or_default();
        format!("{} {} {} {key}\n", self.role.word(), self.secret, self.ends)
    }
}

impl KeyStore {
    /// Returns the store of a home, which is made if there is none, and whether its tokens are new.
    pub fn open(home: &Path) -> io::Result<(Self, bool)> {
        let parent = open_directory(home)?;
        match make_directory(parent.as_fd(), Path::new(DIRECTORY), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let directory = file::open_directory(&parent, DIRECTORY)?;
        let stat = fstat(&directory)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            let why = "it is not this user's, or others may look into it; remove it, and new tokens are made";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        for kind in [SecretKind::Link, SecretKind::Session] {
            match make_directory(directory.as_fd(), Path::new(kind.directory()), 0o700) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let store = Self { directory, path: home.join(DIRECTORY) };
        let mut is_new = false;
        for (name, _) in TOKENS {
            if Self::read(&store.directory, name).is_none() {
                Self::write(&store.directory, name, &format!("{}\n", random(32)?))?;
                is_new = true;
            }
        }
        Ok((store, is_new))
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the same directory, opened.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes new tokens, and ends all links and sessions. It goes on after an error, and returns
    /// the first one.
    pub fn revoke(&self) -> io::Result<()> {
        let renew = |name| Self::write(&self.directory, name, &format!("{}\n", random(32)?));
        let renewed = TOKENS.map(|(name, _)| renew(name));
        let ended = [SecretKind::Link, SecretKind::Session].map(|kind| self.end_all(kind));
        renewed.into_iter().chain(ended).collect()
    }

    fn end_all(&self, kind: SecretKind) -> io::Result<()> {
        let (directory, names) = self.entries(kind)?;
        let ended: Vec<io::Result<()>> = names.iter().map(|name| remove(&directory, name)).collect();
        ended.into_iter().collect()
    }

    /// Returns a new one-time token.
    pub fn link(&self, role: Role) -> io::Result<String> {
        self.begin(SecretKind::Link, role, None)
    }

    /// Notes where the server can be reached.
    pub fn note_address(&self, address: &str) -> io::Result<()> {
        Self::write(&self.directory, ADDRESS, &format!("{address}\n"))
    }

    /// Returns where a server of this home said that it can be reached.
    pub fn address(&self) -> Option<String> {
        Self::read(&self.directory, ADDRESS)
    }

    fn read(directory: &OwnedFd, name: &str) -> Option<String> {
        let mut buffer = [0; FILE_BYTES];
        let read = file::read_small(directory, name, &mut buffer).ok()?;
        Some(std::str::from_utf8(read).ok()?.trim_end().to_owned())
    }

    fn write(directory: &OwnedFd, name: &str, text: &str) -> io::Result<()> {
        let temporary = format!(".new-{}", random(8)?);
        Ok(file::replace(directory, name, &temporary, text.as_bytes(), Mode::RUSR | Mode::WUSR)?)
    }

    fn place(&self, kind: SecretKind) -> io::Result<OwnedFd> {
        Ok(file::open_directory(&self.directory, kind.directory())?)
    }

    /// Returns the directory of a kind, and the names in it.
    fn entries(&self, kind: SecretKind) -> io::Result<(OwnedFd, Vec<String>)> {
        let directory = self.place(kind)?;
        let names = by_path::names(self.path.join(kind.directory()))?;
        Ok((directory, names.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect()))
    }

    /// Makes a secret that is kept for a time.
    fn begin(&self, kind: SecretKind, role: Role, key: Option<String>) -> io::Result<String> {
        self.make_room(kind, role)?;
        let (name, secret) = (random(8)?, random(24)?);
        let ends = Timestamp::now().as_second() + i64::from(kind.seconds());
        let entry = Entry { role, secret: secret.clone(), ends, key };
        // The file appears under its name with its whole content, because another process may read
        // it at once to make room.
        Self::write(&self.place(kind)?, &name, &entry.written())?;
        Ok(format!("{name}.{secret}"))
    }

    /// Removes secrets that have expired, and the oldest ones of a role if there are too many.
    fn make_room(&self, kind: SecretKind, role: Role) -> io::Result<()> {
        let (directory, names) = self.entries(kind)?;
        let now = Timestamp::now().as_second();
        let mut known = Vec::new();
        for name in names.into_iter().filter(|name| is_name(name)) {
            match Self::read(&directory, &name).and_then(|text| Entry::parse(&text)) {
                Some(entry) if entry.ends > now && entry.role == role => known.push((entry.ends, name)),
                Some(entry) if entry.ends > now => {}
                _ => remove(&directory, &name)?,
            }
        }
        known.sort();
        let most = known.len().saturating_sub(MOST - 1);
        known.iter().take(most).try_for_each(|(_, name)| remove(&directory, name))
    }

    /// Returns the name and the entry of a secret, if it is known and has not expired.
    fn find(&self, kind: SecretKind, shown: &str) -> Option<(OwnedFd, String, Entry)> {
        let (name, secret) = shown.split_once('.')?;
        let directory = is_name(name).then(|| self.place(kind).ok())??;
        let entry = Entry::parse(&Self::read(&directory, name)?)?;
        let is_valid = same_secret(secret, &entry.secret) && entry.ends > Timestamp::now().as_second();
        is_valid.then(|| (directory, name.to_owned(), entry))
    }

    /// Returns the session with this secret and this key.
    fn session(&self, secret: &str, key: &str) -> Option<(OwnedFd, String, Role)> {
        let (directory, name, entry) = self.find(SecretKind::Session, secret)?;
        let is_known = entry.key.is_some_and(|known| same_secret(key, &known));
        is_known.then_some((directory, name, entry.role))
    }
}

impl Keys for KeyStore {
    fn by_token(&self, token: &str) -> Option<Role> {
        let is =
            |name: &str| Self::read(&self.directory, name).is_some_and(|known| same_secret(token, &known));
        TOKENS.into_iter().find_map(|(name, role)| is(name).then_some(role))
    }

    fn redeem(&self, token: &str) -> Option<Role> {
        let (directory, name, entry) = self.find(SecretKind::Link, token)?;
        // If several callers show it at once, only one of them removes the file.
        unlinkat(&directory, name, AtFlags::empty()).is_ok().then_some(entry.role)
    }

    fn begin_session(&self, role: Role) -> io::Result<NewSession> {
        let key = random(24)?;
        let secret = self.begin(SecretKind::Session, role, Some(key.clone()))?;
        Ok(NewSession { secret, key })
    }

    fn by_session(&self, secret: &str, key: &str) -> Option<Role> {
        self.session(secret, key).map(|(_, _, role)| role)
    }

    fn end_session(&self, secret: &str, key: &str) -> bool {
        let session = self.session(secret, key);
        session.is_some_and(|(directory, name, _)| remove(&directory, &name).is_ok())
    }
}

/// Returns whether a text may be the name of a file of a link or session.
fn is_name(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns so many random bytes as hexadecimal digits.
fn random(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match getrandom(buffer.get_mut(filled..).unwrap_or_default(), GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(buffer.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token(store: &KeyStore, name: &str) -> String {
        KeyStore::read(&store.directory, name).unwrap()
    }

    #[test]
    fn tokens_last_links_are_used_once_and_sessions_end() {
        let home = tempfile::tempdir().unwrap();
        let (store, is_new) = KeyStore::open(home.path()).unwrap();
        assert!(is_new);
        assert!(!KeyStore::open(home.path()).unwrap().1);
        let full = token(&store, "token");
        assert_eq!(full.len(), 64);
        assert_eq!(store.by_token(&full), Some(Role::Full));
        assert_eq!(store.by_token(&token(&store, "token-read-only")), Some(Role::ReadOnly));
        for wrong in ["", "x", &full[1..], &format!("{full}0")] {
            assert_eq!(store.by_token(wrong), None, "{wrong}");
        }
        let link = store.link(Role::ReadOnly).unwrap();
        assert_eq!((store.by_session(&link, ""), store.by_token(&link)), (None, None));
        let wrong = format!("{}0", &link[..link.len() - 1]);
        assert!(wrong == link || store.redeem(&wrong).is_none());
        assert_eq!(store.redeem(&link), Some(Role::ReadOnly));
        assert_eq!(store.redeem(&link), None, "it is used up");
        for strange in ["", ".", "../token.x", "links.x", &format!("0123456789abcde/.{full}")] {
            assert_eq!((store.redeem(strange), store.by_session(strange, "")), (None, None), "{strange}");
        }
        let session = store.begin_session(Role::Full).unwrap();
        let by = |secret: &str, key: &str| store.by_session(secret, key);
        assert_eq!(by(&session.secret, &session.key), Some(Role::Full));
        for wrong in ["", &session.secret, &session.key[1..]] {
            assert_eq!(by(&session.secret, wrong), None, "the cookie alone is worth nothing");
            assert!(!store.end_session(&session.secret, wrong), "{wrong}");
        }
        assert_eq!(by(&session.secret, &session.key), Some(Role::Full));
        assert!(store.end_session(&session.secret, &session.key));
        assert_eq!(by(&session.secret, &session.key), None);
    }

    #[test]
    fn whoever_may_only_look_ends_nobody_elses_session() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = KeyStore::open(home.path()).unwrap();
        let full = store.begin_session(Role::Full).unwrap();
        let (secret, key) = ("s".to_owned(), Some("k".to_owned()));
        let ends = Timestamp::now().as_second() + 1000;
        let oldest = Entry { role: Role::ReadOnly, secret, ends, key }.written();
        KeyStore::write(&store.place(SecretKind::Session).unwrap(), "0123456789abcdef", &oldest).unwrap();
        assert_eq!(store.by_session("0123456789abcdef.s", "k"), Some(Role::ReadOnly));
        for _ in 0..MOST {
            store.begin_session(Role::ReadOnly).unwrap();
        }
        assert_eq!(store.by_session("0123456789abcdef.s", "k"), None, "the oldest of its role has ended");
        assert_eq!(store.by_session(&full.secret, &full.key), Some(Role::Full));
        assert_eq!(store.entries(SecretKind::Session).unwrap().1.len(), MOST + 1);
    }

    #[test]
    fn whoever_makes_room_leaves_alone_what_is_being_written() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = KeyStore::open(home.path()).unwrap();
        let all: Vec<NewSession> = std::thread::scope(|scope| {
            let begin = || (0..20).map(|_| store.begin_session(Role::Full).unwrap()).collect::<Vec<_>>();
            let threads = [0, 1, 2].map(|_| scope.spawn(begin));
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|one| store.by_session(&one.secret, &one.key) == Some(Role::Full)));
    }

    #[test]
    fn revoking_goes_on_after_an_error() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = KeyStore::open(home.path()).unwrap();
        let (token, session) = (token(&store, "token"), store.begin_session(Role::Full).unwrap());
        // Neither can be removed or replaced as a file is.
        for path in ["token", "links"] {
            let path = home.path().join(DIRECTORY).join(path);
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir(&path);
            std::fs::create_dir(path.clone()).unwrap();
            std::fs::create_dir(path.join("in it")).unwrap();
        }
        assert!(store.revoke().is_err());
        assert_eq!((store.by_token(&token), store.by_session(&session.secret, &session.key)), (None, None));
    }

    #[test]
    fn what_is_over_is_worth_nothing_and_revoking_ends_everything() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = KeyStore::open(home.path()).unwrap();
        let (secret, key) = ("s".to_owned(), Some("k".to_owned()));
        let old = Entry { role: Role::Full, secret, ends: Timestamp::now().as_second() - 1, key };
        let directory = store.place(SecretKind::Session).unwrap();
        KeyStore::write(&directory, "0123456789abcdef", &old.written()).unwrap();
        assert_eq!(store.by_session("0123456789abcdef.s", "k"), None);
        let (full, session) = (token(&store, "token"), store.begin_session(Role::Full).unwrap());
        assert_eq!(store.entries(SecretKind::Session).unwrap().1.len(), 1, "what is over was removed");
        let link = store.link(Role::Full).unwrap();
        store.revoke().unwrap();
        assert_eq!(store.by_token(&full), None);
        assert_eq!((store.by_session(&session.secret, &session.key), store.redeem(&link)), (None, None));
        assert_eq!(store.by_token(&token(&store, "token")), Some(Role::Full));
    }

    #[test]
    fn a_place_that_others_may_look_into_is_refused() {
        let home = tempfile::tempdir().unwrap();
        drop(KeyStore::open(home.path()).unwrap());
        let place = home.path().join(DIRECTORY);
        for name in ["token", "token-read-only"] {
            assert_eq!(std::fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(KeyStore::open(home.path()).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
