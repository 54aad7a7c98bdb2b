//! Lines of JSON with a bound on their length: how the processes on an agent speak to each other.

use serde::{Serialize, de::DeserializeOwned};

/// Longest line, its end included. A start with the largest parameters stays far below.
pub const LINE_MAX: usize = 256 << 10;

/// A line that is too long, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No end of line within the bound.
    #[error("a line is longer than {LINE_MAX} bytes")]
    TooLong,
    /// Not the expected JSON.
    #[error("a line cannot be read")]
    Syntax(#[from] serde_json::Error),
}

/// Collects bytes as they arrive and gives whole lines.
#[derive(Debug, Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole line as a message; none = it has not arrived yet.
    ///
    /// # Errors
    /// If the line is too long or not the expected JSON. The line is consumed.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        let Some(end) = self.0.iter().position(|byte| *byte == b'\n') else {
            return if self.0.len() > LINE_MAX { Err(LineError::TooLong) } else { Ok(None) };
        };
        let rest = self.0.split_off(end + 1);
        let line = std::mem::replace(&mut self.0, rest);
        if line.len() > LINE_MAX {
            return Err(LineError::TooLong);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

/// A message as a line.
///
/// # Errors
/// If it cannot be written as JSON: a map with keys that are no texts.
pub fn line<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_in_pieces() {
        let mut lines = Lines::default();
        lines.push(b"1\n[2,");
        assert_eq!(lines.next_message::<u8>().unwrap(), Some(1));
        assert!(lines.next_message::<Vec<u8>>().unwrap().is_none());
        lines.push(b"3]\nx\n");
        assert_eq!(lines.next_message::<Vec<u8>>().unwrap(), Some(vec![2, 3]));
        assert!(matches!(lines.next_message::<u8>(), Err(LineError::Syntax(_))));
        lines.push(&vec![b'a'; LINE_MAX + 1]);
        assert!(matches!(lines.next_message::<u8>(), Err(LineError::TooLong)));
    }
}
