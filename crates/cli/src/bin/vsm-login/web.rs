//! A login by a web key: it gets to the broker, as a user or as an administrator, and to the sshd of a session's host,
//! and ends with the key. The broker on this host says when that is, whether it is active or not.

use std::{
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use uuid::Uuid;
use vsm_core::WebKeyId;
use vsm_daemon::{
    backoff::Backoff,
    clock,
    one_time::{self, Followed, Following, Heard},
};

use crate::preface::{Code, Failure, Target};

/// The exit code for the client whose web key is good no more.
const EXIT_OVER: u8 = 7;
/// The wall clock is looked at so often: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long nobody need say that the key is still good: a broker is upgraded or restarted. What goes on for longer is
/// no restart, and somebody may have logged out meanwhile.
const ALONE_MAX: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Refuses what a browser's login is not for.
pub(crate) fn check(target: &Target) -> Result<(), Failure> {
    match target {
        Target::Broker | Target::Admin | Target::Relay(_) => Ok(()),
        Target::Session(_) | Target::Files(_) | Target::Shadow(..) => {
            let why = "a login by browser is for the broker, and for the way to a session host";
            Err(Failure::new(Code::Refused, why))
        }
    }
}

/// Asks whether the key is good, and has this process end when it is no more.
pub(crate) fn stay(socket: PathBuf, id: WebKeyId) -> Result<(), Failure> {
    let following = match one_time::follow(&socket, id) {
        Ok(Followed::Good(following)) => following,
        Ok(Followed::Over(why)) => return Err(Failure::new(Code::Refused, why)),
        Err(error) => {
            let why = format!(
                "the VSM broker of this host does not say whether you are logged in: {error}"
            );
            return Err(Failure::new(Code::NoBroker, why));
        }
    };
    thread::spawn(move || {
        let why = until_over(&socket, id, following, ALONE_MAX);
        crate::report(&why);
        // Not by way of the pump: it may wait for a client that reads nothing.
        process::exit(EXIT_OVER.into());
    });
    Ok(())
}

/// Waits until the key is good no more; why, in one line.
fn until_over(
    socket: &Path,
    id: WebKeyId,
    mut following: Following,
    alone_max: Duration,
) -> String {
    loop {
        let left = following.until.0.saturating_sub(clock::unix_millis().0);
        if left == 0 {
            return "the time of this login is over".to_owned();
        }
        match following.wait(Duration::from_millis(left).min(LOOK_EVERY)) {
            Heard::Over(why) => return why,
            Heard::Nothing => {}
            Heard::Gone => match again(socket, id, alone_max) {
                Followed::Good(found) => following = found,
                Followed::Over(why) => return why,
            },
        }
    }
}

/// Asks a broker that has gone once it is there again.
fn again(socket: &Path, id: WebKeyId, alone_max: Duration) -> Followed {
    let seed = Uuid::new_v4().as_u64_pair().0;
    let mut waits = Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed);
    let since = clock::now();
    loop {
        match one_time::follow(socket, id) {
            Ok(found) => return found,
            Err(_) if clock::now().duration_since(since) < alone_max => {
                thread::park_timeout(waits.next_wait());
            }
            Err(error) => {
                let why = format!("the VSM broker of this host has gone for too long: {error}");
                return Followed::Over(why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixListener,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    /// A broker that answers each time with the next of these lines, and then goes.
    fn told(answers: &'static [&'static str]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("keys.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                assert!(line.starts_with(r#"{"op":"follow","id":"00000000"#), "{line}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let id = WebKeyId::new(Uuid::from_u128(7));
        let following = match one_time::follow(&socket, id) {
            Ok(Followed::Good(following)) => following,
            Ok(Followed::Over(why)) => return Err(why),
            Err(error) => return Err(error.to_string()),
        };
        let over = until_over(&socket, id, following, SHORT);
        daemon.join().unwrap();
        Ok(over)
    }

    const GOOD: &str = "{\"event\":\"following\",\"until_unix_ms\":99999999999999}\n";
    const GOOD_THEN_OVER: &str = "{\"event\":\"following\",\"until_unix_ms\":99999999999999}\n\
                                  {\"event\":\"over\",\"why\":\"revoked\"}\n";

    #[test]
    fn a_login_lasts_as_long_as_its_key() {
        assert_eq!(told(&[GOOD_THEN_OVER]), Ok("revoked".to_owned()));
    }

    #[test]
    fn only_a_clear_yes_begins_one() {
        assert_eq!(told(&["{\"event\":\"refused\",\"why\":\"no\"}\n"]), Err("no".to_owned()));
        assert!(told(&["{\"event\":\"unknown\"}\n"]).is_err());
        assert!(told(&["\n"]).is_err());
    }

    #[test]
    fn a_broker_that_is_restarted_is_asked_again_and_its_word_counts() {
        assert_eq!(
            told(&[GOOD, GOOD, "{\"event\":\"refused\",\"why\":\"no\"}\n"]),
            Ok("no".to_owned())
        );
        let alone = told(&[GOOD]).unwrap();
        assert!(alone.contains("has gone for too long"), "{alone}");
        let over = told(&["{\"event\":\"following\",\"until_unix_ms\":1}\n"]);
        assert_eq!(over, Ok("the time of this login is over".to_owned()));
    }

    #[test]
    fn a_browser_gets_to_the_broker_and_to_session_hosts() {
        let id = Uuid::nil();
        assert!(check(&Target::Broker).is_ok() && check(&Target::Relay(id)).is_ok());
        for target in [Target::Session(id), Target::Shadow(id, id)] {
            assert_eq!(check(&target).unwrap_err().code, Code::Refused);
        }
    }
}
