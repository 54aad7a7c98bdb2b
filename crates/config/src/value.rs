//! What a parameter's value can be: text or a list as written, and the Rust types that keys read it as.
//!
//! Values travel in two forms. *As written* is what the administrator typed and what `vsm-config` prints.
//! *Normalised* is what [`crate::Kind::normalise`] makes of it (durations in milliseconds, modes in decimal,
//! `true`/`false`), and is the only form that [`Typed`] reads.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// A value as it stands in a file, before or after it was normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A single scalar.
    Text(String),
    /// A sequence of scalars.
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// The text itself; a list as words separated by blanks, those with blanks of their own in quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&join_words(items)),
        }
    }
}

/// Splits a list written as one string into its words; quotes keep blanks inside a word.
///
/// # Errors
/// A quote that is not closed.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c.is_whitespace() => words.extend(word.take()),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed in {text:?}"));
    }
    words.extend(word);
    Ok(words)
}

/// The inverse of [`split_words`].
pub(crate) fn join_words(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty()
                && !word.contains(|c: char| c.is_whitespace() || c == '"' || c == '\'')
            {
                return word.clone();
            }
            // A double quote inside a word is written in single quotes, joined to its neighbours.
            let parts: Vec<String> = word.split('"').map(|part| format!("\"{part}\"")).collect();
            parts.join("'\"'")
        })
        .collect();
    quoted.join(" ")
}

/// A Rust type that a parameter can be read as.
pub trait Typed: Sized {
    /// Reads a normalised value; `None` where it does not fit the type.
    fn from_value(value: &Value) -> Option<Self>;

    /// Whether [`Typed::from_value`] would succeed.
    fn accepts(value: &Value) -> bool {
        Self::from_value(value).is_some()
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        Value::List(_) => None,
    }
}

macro_rules! typed_by_from_str {
    ($($ty:ty),*) => {$(
        impl Typed for $ty {
            fn from_value(value: &Value) -> Option<Self> {
                text(value)?.parse().ok()
            }
        }
    )*};
}
typed_by_from_str!(bool, u16, u32, u64, String, PathBuf, Geometry);

impl Typed for Duration {
    fn from_value(value: &Value) -> Option<Self> {
        text(value)?.parse().ok().map(Self::from_millis)
    }
}

impl Typed for Vec<String> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::List(items) => Some(items.clone()),
            Value::Text(_) => None,
        }
    }
}

/// Largest side of a desktop that Xvnc makes, in pixels; as an agent has it.
pub(crate) const SIDE_MAX: u32 = 16384;

/// Size of a desktop in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Pixels across, 16 to [`SIDE_MAX`].
    pub width: u32,
    /// Pixels down, 16 to [`SIDE_MAX`].
    pub height: u32,
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Geometry {
    type Err = UnknownChoice;

    /// Reads `1280x800`, or the two numbers with a blank between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sizes: Vec<u32> = text
            .split(['x', ' '])
            .filter(|part| !part.is_empty())
            .map_while(|part| part.parse().ok())
            .collect();
        let separators =
            text.matches('x').count().max(text.split_whitespace().count().saturating_sub(1));
        match sizes[..] {
            [width, height]
                if separators == 1
                    && [width, height].iter().all(|n| (16..=SIDE_MAX).contains(n)) =>
            {
                Ok(Self { width, height })
            }
            _ => Err(UnknownChoice(text.to_owned())),
        }
    }
}

/// A word that is not among those that the type knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of the words allowed here")]
pub struct UnknownChoice(pub String);

macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// The words of the configuration, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word of the configuration for this value.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownChoice;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($word => Ok(Self::$variant),)* _ => Err(UnknownChoice(text.to_owned())) }
            }
        }

        typed_by_from_str!($name);
    };
}

choice! {
    /// How an agent is chosen for a new session.
    Placement {
        /// Fewest users per weight.
        Users = "users",
        /// By free memory, run queue and pressure.
        Load = "load",
    }
}
choice! {
    /// What tells a node of the pair that it should try to be active.
    RoleSource {
        /// By `resource_address` where that is set, else by requests.
        Automatic = "",
        /// The node that holds the resource address.
        Address = "address",
        /// The cluster software promotes and demotes.
        Cluster = "cluster",
        /// The node that users reach.
        Request = "request",
    }
}
choice! {
    /// What a broker that has neither its peer nor the witnesses does with requests for new sessions.
    SoloCreate {
        /// Refuses them with the reason.
        Refuse = "refuse",
        /// Makes them and marks them for the merge.
        AllowAndMark = "allow_and_mark",
    }
}
choice! {
    /// What a hook that fails means for the login that it was run for.
    OnHookFailure {
        /// Nothing: it is logged and the login goes on.
        Continue = "continue",
        /// The login is refused; a desktop that was just started is ended.
        Refuse = "refuse",
    }
}
choice! {
    /// Where a session's X authority file lives.
    XauthorityLocation {
        /// In the session's own directory.
        Sessiondir = "sessiondir",
        /// In the user's home directory.
        Homedir = "homedir",
    }
}
choice! {
    /// What happens when a viewer comes to a session that already has one.
    SecondViewer {
        /// The newer wins; the older is told why.
        Replace = "replace",
        /// Both see the desktop.
        Share = "share",
        /// The newer is turned away.
        Refuse = "refuse",
    }
}
choice! {
    /// How a session meets someone who wants to shadow it.
    ShadowingMode {
        /// Never.
        Reject = "reject",
        /// Without telling the user.
        Silent = "silent",
        /// The user is told.
        Notify = "notify",
        /// The user is asked.
        Ask = "ask",
    }
}
choice! {
    /// How much is logged.
    LogLevel {
        /// A human must look.
        Error = "error",
        /// It went on anyway.
        Warn = "warn",
        /// What happens in normal running.
        Info = "info",
        /// What a developer wants to see.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_blanks_and_quotes_survive_joining() {
        let words: Vec<String> =
            ["plain", "domain users", "", "it's", "say \"hi\" twice\""].map(str::to_owned).to_vec();
        assert_eq!(split_words(&join_words(&words)).unwrap(), words);
        assert_eq!(split_words("  a\t b ").unwrap(), ["a", "b"]);
        assert!(split_words("a 'b").is_err());
    }

    #[test]
    fn geometry_is_read_in_both_spellings_and_nothing_else() {
        let wanted = Geometry { width: 1024, height: 768 };
        assert_eq!("1024x768".parse(), Ok(wanted));
        assert_eq!("1024 768".parse(), Ok(wanted));
        for bad in [
            "",
            "1024",
            "1024x768x2",
            "10x10",
            "1024xx768",
            "ax768",
            "1024 768 9",
            "1024x-768",
            "16385x768",
        ] {
            assert!(bad.parse::<Geometry>().is_err(), "{bad}");
        }
    }
}
