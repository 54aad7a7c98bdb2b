//! A key that somebody announces, and that is then written into a line for sshd as it came.
//!
//! The first byte says what is read: a key, the line of a `.pub` file, or a line on the daemons' key socket.

use vsm_core::{SshKey, WebKeyId};
use vsm_daemon::one_time::{Answer, Ask, Grant, authorized_line};

const RIGHT: uuid::Uuid = uuid::Uuid::from_u128(7);
const ONE_TIME: Grant = Grant::OneTime(RIGHT);
const WEB: Grant = Grant::Web(WebKeyId::new(RIGHT));
const LOGIN: &str = "/usr/bin/vsm-login";

pub(crate) fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match kind % 4 {
        0 => drop(text.parse().map(|key| line(&key))),
        1 => drop(SshKey::of_line(text).map(|key| line(&key))),
        2 => {
            if let Ok(Ask::Offered { kind, blob, .. }) = serde_json::from_str(text)
                && let Ok(key) = format!("{kind} {blob}").parse()
            {
                assert_eq!(authorized_line(LOGIN, ONE_TIME, &kind, &blob), line(&key));
            }
        }
        _ => {
            if let Ok(answer) = serde_json::from_str::<Answer>(text) {
                let again = serde_json::to_string(&answer).expect("it was read");
                assert_eq!(serde_json::from_str::<Answer>(&again).ok(), Some(answer));
            }
        }
    }
}

/// The line for sshd: one, with nothing that the key's owner could have put before or behind the key.
fn line(key: &SshKey) -> String {
    let text = key.as_str();
    assert_eq!(text.parse().as_ref(), Ok(key));
    assert_eq!(SshKey::of_line(text).as_ref(), Ok(key));
    let (kind, blob) = text.split_once(' ').expect("a kind and a blob");
    let line = authorized_line(LOGIN, ONE_TIME, kind, blob);
    let of_web = authorized_line(LOGIN, WEB, kind, blob);
    for (line, option) in [(&line, "--one-time"), (&of_web, "--web")] {
        let begins = format!("restrict,command=\"{LOGIN} {option} {RIGHT}\" ");
        let rest = line.strip_prefix(&begins).expect("restricted to one login");
        assert_eq!(rest.strip_suffix('\n'), Some(text));
    }
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ';
    assert!(text.chars().all(is_plain) && !text.contains(['"', ',', '\\', '#']), "{text:?}");
    line
}
