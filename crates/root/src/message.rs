//! What goes through the socket: one request and one answer, each a line of JSON. All bounds are here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of this protocol. Broker and helper come in one package; a difference is an upgrade that is half done.
pub const VERSION: u32 = 1;
/// Longest request: a configuration, or a mail of 256 events.
pub const REQUEST_MAX: u64 = 1 << 20;
/// Longest answer: what a hook says, with room.
pub const ANSWER_MAX: u64 = 256 << 10;
/// Most variables of a hook: those of ours and 64 of the client's.
const VARIABLES_MAX: usize = 128;
/// Longest value of a variable.
const VALUE_MAX: usize = 8 << 10;
/// Longest name of a variable or a hook.
const NAME_MAX: usize = 128;
/// Variables that a hook may be told besides those of the client; all else it has is the helper's.
const VARIABLES: [&str; 10] = [
    "VSM_NODE",
    "VSM_SESSION_ID",
    "VSM_USER",
    "VSM_AGENT",
    "VSM_AGENT_HOST",
    "VSM_DISPLAY",
    "VSM_START_COMMAND",
    "VSM_CLIENT_NAME",
    "VSM_CLIENT_LANGUAGE",
    "VSM_EVENT",
];
/// How variables begin that tell what the client says.
const OF_CLIENT: &str = "VSM_CLIENT_";

/// For what hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// A desktop was started.
    Start,
    /// Its user comes back to one.
    Reconnect,
}

impl Moment {
    /// Its word in variables, logs and events.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reconnect => "reconnect",
        }
    }
}

/// A hook that is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Which directory.
    pub moment: Moment,
    /// The name of a file in it.
    pub name: String,
    /// What it is told.
    pub variables: BTreeMap<String, String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// Run a hook.
    Hook(Hook),
    /// Send a mail.
    Mail {
        /// As sendmail(8) reads it.
        text: String,
    },
    /// Take parameters from the other node.
    Adopt {
        /// New values by path.
        set: BTreeMap<String, String>,
        /// Paths that have no value any more.
        drop: Vec<String>,
    },
}

/// A request as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    version: u32,
    act: Act,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A hook was run, or could not be.
    Ran {
        /// What it said, as far as it is kept.
        said: Said,
        /// Why it failed; the words stand behind its name.
        failed: Option<String>,
    },
    /// It is done.
    Done,
    /// It was tried and did not work out.
    Failed(String),
    /// A file cannot be written.
    Unwritten(String),
    /// It is not done for anybody, or makes no sense.
    Refused(String),
}

/// What a hook has said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its first lines, the end of each with it.
    pub lines: Vec<String>,
    /// Bytes that are not among them.
    pub left_out: usize,
}

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// Another version of the protocol.
    #[error(
        "it is of version {0}, and this is {VERSION}: broker and vsm-root are not of one package"
    )]
    Version(u32),
    /// No file of a directory of hooks has such a name.
    #[error("no hook has the name {0:?}")]
    Name(String),
    /// A hook is not told this.
    #[error("a hook has no variable {0:?}")]
    Variable(String),
    /// A value is too long, or has control characters.
    #[error("the value of {0} is too long, or has control characters")]
    Value(String),
    /// Too many variables.
    #[error("there are more than {VARIABLES_MAX} variables")]
    TooMany,
}

impl Act {
    /// Reads a request, with its line's end, and checks it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let request: Request = serde_json::from_slice(line)
            .map_err(|error| Malformed::Unreadable(error.to_string()))?;
        if request.version != VERSION {
            return Err(Malformed::Version(request.version));
        }
        if let Self::Hook(hook) = &request.act {
            hook.check()?;
        }
        Ok(request.act)
    }

    /// The line that asks for it.
    ///
    /// # Errors
    /// Never for one that is made of texts; what the library says.
    pub fn line(self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&Request { version: VERSION, act: self })?;
        line.push(b'\n');
        Ok(line)
    }
}

impl Hook {
    fn check(&self) -> Result<(), Malformed> {
        if !is_hook_name(&self.name) {
            return Err(Malformed::Name(self.name.chars().take(NAME_MAX).collect()));
        }
        if self.variables.len() > VARIABLES_MAX {
            return Err(Malformed::TooMany);
        }
        for (name, value) in &self.variables {
            if !is_variable(name) {
                return Err(Malformed::Variable(name.chars().take(NAME_MAX).collect()));
            }
            if value.len() > VALUE_MAX || value.contains(char::is_control) {
                return Err(Malformed::Value(name.clone()));
            }
        }
        Ok(())
    }
}

/// Whether a file of this name is a hook. As run-parts has it, so copies that editors and packages leave are not run;
/// no path fits.
#[must_use]
pub fn is_hook_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(allowed)
}

fn is_variable(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let of_client = name.strip_prefix(OF_CLIENT);
    VARIABLES.contains(&name)
        || (name.len() <= NAME_MAX
            && of_client.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(name: &str, variables: &[(&str, &str)]) -> Result<Act, Malformed> {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let hook = Hook { moment: Moment::Start, name: name.to_owned(), variables };
        Act::parse(&Act::Hook(hook).line().unwrap())
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let adopt = Act::Adopt {
            set: [("/vsmserver/placement".to_owned(), "load".to_owned())].into(),
            drop: vec!["/x".to_owned()],
        };
        for act in [Act::Mail { text: "To: a\n\nb".to_owned() }, adopt] {
            assert_eq!(Act::parse(&act.clone().line().unwrap()).unwrap(), act);
        }
        hook("10-first_one", &[("VSM_USER", "alice"), ("VSM_CLIENT_PARAMS_A_1", "b c")]).unwrap();
    }

    #[test]
    fn no_path_is_a_hook() {
        for name in ["", ".", "..", "../x", "a/b", "/bin/sh", "a.sh", "a\0", "a\n", "ä", "a b"] {
            assert!(matches!(hook(name, &[]), Err(Malformed::Name(_))), "{name:?}");
        }
        assert!(matches!(hook(&"a".repeat(NAME_MAX + 1), &[]), Err(Malformed::Name(_))));
    }

    #[test]
    fn a_hook_is_told_what_is_listed_and_no_more() {
        for name in [
            "LD_PRELOAD",
            "PATH",
            "LANG",
            "BASH_ENV",
            "VSM_",
            "VSM_CLIENT_",
            "VSM_CLIENT_a",
            "VSM_CLIENT_A=B",
            "",
        ] {
            let refused = hook("a", &[(name, "x")]);
            assert_eq!(refused, Err(Malformed::Variable(name.to_owned())), "{name:?}");
        }
        let long = "x".repeat(VALUE_MAX + 1);
        for value in ["a\0b", "a\nb", "\u{85}", &long] {
            let refused = hook("a", &[("VSM_USER", value)]);
            assert_eq!(refused, Err(Malformed::Value("VSM_USER".to_owned())));
        }
        let many: Vec<String> = (0..=VARIABLES_MAX).map(|n| format!("VSM_CLIENT_{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!(hook("a", &many), Err(Malformed::TooMany));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for line in [
            "",
            "\n",
            "GET / HTTP/1.1",
            "{}",
            r#"{"version":1}"#,
            r#"{"version":1,"act":"shell"}"#,
            r#"{"version":1,"act":{"run":{"path":"/bin/sh"}}}"#,
            r#"{"version":1,"act":{"mail":{"text":"a","program":"/bin/sh"}}}"#,
            r#"{"version":1,"act":{"mail":{"text":"a"}},"dir":"/tmp"}"#,
            r#"{"version":1,"act":{"hook":{"moment":"end","name":"a","variables":{}}}}"#,
            r#"{"version":1,"act":{"mail":{"text":"a"#,
            "\u{0}\u{1}\u{2}",
        ] {
            assert!(matches!(Act::parse(line.as_bytes()), Err(Malformed::Unreadable(_))), "{line}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(Act::parse(deep.as_bytes()), Err(Malformed::Unreadable(_))));
        let other = r#"{"version":2,"act":{"mail":{"text":"a"}}}"#;
        assert_eq!(Act::parse(other.as_bytes()), Err(Malformed::Version(2)));
    }
}
