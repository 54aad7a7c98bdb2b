//! What programs in a session can learn of it and of the client that asked for it last: `vsm-session-param`.
//!
//! One file in the session's folder, which is root's: `vsm-session` writes it at the start, `vsmagent` replaces it when
//! another client comes, and it goes with the session. It is the user's to read and nobody else's.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use vsm_core::{Session, StartParams};
use vsm_daemon::files::{self, Access};

use crate::record::{ReadError, read_json};

/// Its name in the session's folder.
pub const FILE: &str = "params.json";
/// The parameter with the name of the client's machine.
pub const CLIENT_NAME: &str = "/client/name";

/// The parameter with the key of the profile.
pub const PROFILE: &str = "/session/profile";
/// Longest key that is read.
const PROFILE_MAX: u64 = 64;
/// Parameters by path, such as `/client/params/room`.
pub type Params = BTreeMap<String, String>;

/// The parameters of a session on this display, whose client was this one.
#[must_use]
pub fn of(session: &Session, display: u32, client: &StartParams) -> Params {
    let created = i64::try_from(session.created.0).unwrap_or(i64::MAX);
    let created = jiff::Timestamp::from_millisecond(created).unwrap_or_default();
    let own = [
        ("/session/id", session.id.to_string()),
        ("/session/user", session.user.to_string()),
        ("/session/agent", session.agent.to_string()),
        ("/session/display", display.to_string()),
        ("/session/start_command", session.params.start_command.clone().into()),
        ("/session/created", format!("{created:.3}")),
        (CLIENT_NAME, client.client_name.clone().into()),
        ("/client/language", client.language.clone().into()),
    ];
    let mut all: Params = client
        .client
        .iter()
        .map(|(key, value)| (format!("/client/{key}"), value.clone()))
        .collect();
    all.extend(own.map(|(path, value)| (path.to_owned(), value)));
    all
}

/// Replaces the file in a session's folder, for its user to read.
///
/// # Errors
/// If it cannot be written; the one before stays then.
pub fn write(session_dir: &Path, params: &Params, uid: u32) -> io::Result<()> {
    let access = Access { mode: 0o400, uid: Some(uid) };
    files::replace(&session_dir.join(FILE), &serde_json::to_vec(params)?, access)
}

/// The parameters in a session's folder.
///
/// # Errors
/// If there are none, they are somebody else's, or the file is damaged.
pub fn read(session_dir: &Path) -> Result<Params, ReadError> {
    read_json(&session_dir.join(FILE))
}

/// The key of the profile that the session script has started; empty = none. The script writes it down, as it may have
/// asked the user, into the user's own folder: it is read as the user and by nobody else.
#[must_use]
pub fn profile(session_dir: &Path) -> String {
    let mut key = String::new();
    let file = fs::File::open(session_dir.join("user").join("vsm-profile"));
    match file.map(|file| file.take(PROFILE_MAX).read_to_string(&mut key)) {
        Ok(Ok(_)) => crate::refusal::one_line(&key),
        Ok(Err(_)) | Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use vsm_core::{State, UnixMillis};

    use super::*;

    fn session() -> Session {
        Session {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            user: "ann".parse().unwrap(),
            agent: "agent1".parse().unwrap(),
            state: State::Starting,
            request: "01890a5d-ac96-774b-bcce-b302099a8058".parse().unwrap(),
            params: StartParams { client_name: "one".into(), ..StartParams::default() },
            created: UnixMillis(1_800_000_000_123),
        }
    }

    #[test]
    fn the_last_client_counts_and_no_key_hides_what_is_known() {
        let client = [("params/room", "12"), ("name", "forged"), ("screen", "1920x1080")];
        let client = StartParams {
            client_name: "two".into(),
            client: client.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..StartParams::default()
        };
        let params = of(&session(), 12, &client);
        let of = |path: &str| params[path].as_str();
        assert_eq!((of("/client/name"), of("/client/params/room")), ("two", "12"));
        assert_eq!((of("/client/screen"), of("/session/display")), ("1920x1080", "12"));
        assert_eq!(of("/session/created"), "2027-01-15T08:00:00.123Z");
    }

    #[test]
    fn the_file_is_replaced_and_is_the_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let own = nix::unistd::getuid().as_raw();
        for display in [1, 2] {
            let params = of(&session(), display, &StartParams::default());
            write(dir.path(), &params, own).unwrap();
            assert_eq!(read(dir.path()).unwrap(), params);
        }
        let found = fs::metadata(dir.path().join(FILE)).unwrap();
        assert_eq!((found.uid(), found.permissions().mode() & 0o777), (own, 0o400));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
