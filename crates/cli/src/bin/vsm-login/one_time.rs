//! A login by a one-time key: the right that goes with it is taken up at the daemon's key socket, which can be done
//! once.

use std::path::Path;

use uuid::Uuid;
use vsm_core::SessionId;
use vsm_daemon::one_time::{Answer, Ask, ask};

use crate::preface::{Code, Failure};

/// Takes the right up, for this session.
pub(crate) fn redeem(socket: &Path, right: Uuid, session: Uuid) -> Result<(), Failure> {
    let session = SessionId::new(session);
    match ask(socket, &Ask::Redeem { right, session }) {
        Ok(Answer::Redeemed) => Ok(()),
        Ok(Answer::Refused { why }) => Err(Failure::new(Code::Spent, why)),
        Ok(
            Answer::Good { .. }
            | Answer::Unknown
            | Answer::Web { .. }
            | Answer::Following { .. }
            | Answer::Over { .. },
        ) => Err(Failure::new(Code::Internal, "the VSM daemon of this host gave another answer")),
        Err(error) => {
            let why = format!("the VSM daemon of this host does not answer: {error}");
            Err(Failure::new(Code::Spent, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    fn answered(answer: &'static str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("keys.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            line
        });
        let [right, session] = [1, 2].map(Uuid::from_u128);
        let done = redeem(&socket, right, session).map_err(|failure| failure.to_string());
        let asked: Ask = serde_json::from_str(&daemon.join().unwrap()).unwrap();
        assert_eq!(asked, Ask::Redeem { right, session: SessionId::new(session) });
        done
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        assert_eq!(answered("{\"event\":\"redeemed\"}\n"), Ok(()));
        let refused = answered("{\"event\":\"refused\",\"why\":\"used already\"}\n");
        assert_eq!(refused, Err("spent used already".to_owned()));
        assert!(answered("").is_err());
        assert!(answered("{\"event\":\"unknown\"}\n").is_err());
        let nobody = redeem(Path::new("/nonexistent/x"), Uuid::nil(), Uuid::nil());
        assert_eq!(nobody.unwrap_err().code, Code::Spent);
    }
}
