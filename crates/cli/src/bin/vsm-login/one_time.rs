//! A login by a one-time key: the right that goes with it is taken up at the agent's key socket, which can be done once.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::Deserialize;
use uuid::Uuid;

use crate::preface::{Code, Failure};

/// How long the agent may take to answer from its memory.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest answer.
const LINE_MAX: u64 = 4096;

#[derive(Debug, Deserialize)]
struct Answer {
    event: String,
    #[serde(default)]
    why: String,
}

/// Takes the right up for this session.
pub(crate) fn redeem(run_dir: &Path, right: Uuid, session: &Uuid) -> Result<(), Failure> {
    let mut line = Vec::new();
    ask(run_dir, right, session, &mut line).map_err(|error| {
        Failure::new(Code::Spent, format!("the VSM agent of this host does not answer: {error}"))
    })?;
    match serde_json::from_slice(&line) {
        Ok(Answer { event, .. }) if event == "redeemed" => Ok(()),
        Ok(Answer { why, .. }) => Err(Failure::new(Code::Spent, why)),
        Err(_) => Err(Failure::new(Code::Internal, "the VSM agent of this host gave no answer")),
    }
}

fn ask(run_dir: &Path, right: Uuid, session: &Uuid, line: &mut Vec<u8>) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(run_dir.join("keys.sock"))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let request = serde_json::json!({ "op": "redeem", "right": right, "session": session });
    stream.write_all(format!("{request}\n").as_bytes())?;
    BufReader::new(stream.take(LINE_MAX)).read_until(b'\n', line)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    fn answered(answer: &'static str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("keys.sock")).unwrap();
        let agent = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            line
        });
        let [right, session] = [1, 2].map(Uuid::from_u128);
        let done = redeem(dir.path(), right, &session).map_err(|failure| failure.to_string());
        let asked: serde_json::Value = serde_json::from_str(&agent.join().unwrap()).unwrap();
        assert_eq!(asked["right"], right.to_string());
        assert_eq!(asked["session"], session.to_string());
        done
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        assert_eq!(answered("{\"event\":\"redeemed\"}\n"), Ok(()));
        let refused = answered("{\"event\":\"refused\",\"why\":\"used already\"}\n");
        assert_eq!(refused, Err("spent used already".to_owned()));
        assert!(answered("").is_err());
        assert!(answered("{\"event\":\"good\"}\n").is_err());
        let nobody = redeem(Path::new("/nonexistent"), Uuid::nil(), &Uuid::nil());
        assert_eq!(nobody.unwrap_err().code, Code::Spent);
    }
}
