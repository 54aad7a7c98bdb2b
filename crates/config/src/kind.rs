//! Which values a parameter allows: its type, unit and range, and the check that every value passes before
//! anyone reads it.

use crate::value::{Geometry, SIDE_MAX, Value, split_words};

/// Longest single value, in bytes: room for an introduction text, none for a runaway file.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most entries of one list.
const LIST_ITEMS_MAX: usize = 10_000;

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false`, `1`, `0`, `yes` or `no`.
    Bool,
    /// A whole number within bounds, both included.
    Int {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// What is counted, for people; may be empty.
        unit: &'static str,
    },
    /// A file mode in octal, `0700`.
    Mode,
    /// A length of time: `10s`, `500ms`, `5m`, `2h`, or a bare number in `unit`.
    Duration {
        /// Unit of a bare number, and of the bounds.
        unit: Unit,
        /// Smallest value, in `unit`.
        min: u64,
        /// Largest value, in `unit`.
        max: u64,
    },
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// An absolute path, or empty.
    OptionalPath,
    /// A host name or address, or empty.
    Host,
    /// A list of words.
    List(Item),
    /// One of some words.
    Choice(&'static [&'static str]),
    /// `1280x800` or `1280 800`.
    Geometry,
    /// `#rrggbb`.
    Colour,
}

/// What the entries of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// Host names or addresses.
    Host,
    /// Any words.
    Word,
}

/// Unit of a bare number where a duration is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
}

impl Unit {
    fn millis(self) -> u64 {
        match self {
            Self::Seconds => 1000,
            Self::Millis => 1,
        }
    }

    /// The suffix that a value in this unit is written with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
        }
    }
}

impl Kind {
    /// Checks a value and puts it into the form that [`crate::Typed`] reads.
    ///
    /// # Errors
    /// One line that says what is wrong and what is allowed.
    pub fn normalise(&self, value: &Value) -> Result<Value, String> {
        let text = match (self, value) {
            (Self::List(item), _) => return normalise_list(*item, value),
            (Self::Geometry, Value::List(items)) => items.join(" "),
            (_, Value::List(_)) => return Err(format!("is a list; allowed: {}", self.allowed())),
            (_, Value::Text(text)) => text.clone(),
        };
        if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
            return Err(format!("is longer than {TEXT_BYTES_MAX} bytes or has a NUL byte in it"));
        }
        self.normalise_text(&text)
            .map(Value::Text)
            .ok_or_else(|| format!("{text:?} is not allowed; allowed: {}", self.allowed()))
    }

    fn normalise_text(&self, text: &str) -> Option<String> {
        let trimmed = text.trim();
        match self {
            Self::Bool => match trimmed.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some("true".to_owned()),
                "false" | "0" | "no" => Some("false".to_owned()),
                _ => None,
            },
            Self::Int { min, max, .. } => {
                let number = decimal(trimmed)?;
                (*min..=*max).contains(&number).then(|| number.to_string())
            }
            Self::Mode => {
                let octal =
                    (1..=5).contains(&trimmed.len()) && trimmed.bytes().all(|b| b.is_ascii_digit());
                let mode = u32::from_str_radix(trimmed, 8).ok().filter(|_| octal)?;
                (mode <= 0o7777).then(|| mode.to_string())
            }
            Self::Duration { unit, min, max } => {
                let millis = duration_millis(trimmed, *unit)?;
                let bounds = min.checked_mul(unit.millis())?..=max.checked_mul(unit.millis())?;
                bounds.contains(&millis).then(|| millis.to_string())
            }
            Self::Text => Some(text.to_owned()),
            Self::Path => trimmed.starts_with('/').then(|| trimmed.to_owned()),
            Self::OptionalPath => {
                (trimmed.is_empty() || trimmed.starts_with('/')).then(|| trimmed.to_owned())
            }
            Self::Host => (trimmed.is_empty() || is_host(trimmed)).then(|| trimmed.to_owned()),
            Self::Choice(words) => {
                let word = trimmed.to_ascii_lowercase();
                words.contains(&word.as_str()).then_some(word)
            }
            Self::Geometry => trimmed.parse::<Geometry>().ok().map(|geometry| geometry.to_string()),
            Self::Colour => {
                let hex = trimmed.strip_prefix('#')?;
                (hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
                    .then(|| trimmed.to_ascii_lowercase())
            }
            Self::List(_) => None,
        }
    }

    /// What is allowed, for an error message and for the reference.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Bool => "true or false (also 1, 0, yes, no)".to_owned(),
            Self::Int { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Self::Int { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
            Self::Mode => "a file mode in octal, 0000 to 7777".to_owned(),
            Self::Duration { unit, min, max } => {
                let unit = unit.suffix();
                format!(
                    "a duration from {min}{unit} to {max}{unit}: ms, s, m, h, or a bare number for {unit}"
                )
            }
            Self::Text => "text".to_owned(),
            Self::Path => "an absolute path".to_owned(),
            Self::OptionalPath => "an absolute path, or empty".to_owned(),
            Self::Host => "a host name or address, or empty".to_owned(),
            Self::List(Item::Host) => "a list of host names or addresses".to_owned(),
            Self::List(Item::Word) => "a list of words".to_owned(),
            Self::Choice(words) => {
                let words: Vec<&str> =
                    words.iter().map(|w| if w.is_empty() { "empty" } else { w }).collect();
                words.join(", ")
            }
            Self::Geometry => format!("WIDTHxHEIGHT in pixels, each from 16 to {SIDE_MAX}"),
            Self::Colour => "a colour as #rrggbb".to_owned(),
        }
    }
}

fn normalise_list(item: Item, value: &Value) -> Result<Value, String> {
    let items = match value {
        Value::Text(text) => {
            let words = split_words(text)?;
            torn_name(&words)?;
            words
        }
        Value::List(items) => items.clone(),
    };
    if items.len() > LIST_ITEMS_MAX {
        return Err(format!("has {} entries; at most {LIST_ITEMS_MAX} are allowed", items.len()));
    }
    for entry in &items {
        let fits = entry.len() <= TEXT_BYTES_MAX && !entry.contains('\0') && !entry.is_empty();
        if !fits || (item == Item::Host && !is_host(entry)) {
            return Err(format!(
                "entry {entry:?} is not allowed; allowed: {}",
                Kind::List(item).allowed()
            ));
        }
    }
    Ok(Value::List(items))
}

/// Groups of directories whose names have a blank, as they look when the quotes are missing: the last word, and what
/// may stand before it.
const TORN_NAMES: [(&str, &[&str]); 8] = [
    ("users", &["domain", "desktop", "power", "protected"]),
    ("admins", &["domain", "enterprise", "schema"]),
    ("guests", &["domain"]),
    ("computers", &["domain"]),
    ("controllers", &["domain"]),
    ("operators", &["account", "server", "print", "backup"]),
    ("publishers", &["cert"]),
    ("owners", &["creator"]),
];

/// Refuses words that are one name without its quotes: two groups that nobody is in would let nobody in, in silence.
fn torn_name(words: &[String]) -> Result<(), String> {
    for pair in words.windows(2) {
        let [first, second] = pair else { continue };
        // Before it may stand a domain or a `+`, behind it a domain.
        let bare = first.rsplit(['\\', '+']).next().unwrap_or_default().to_lowercase();
        let last = second.split('@').next().unwrap_or_default().to_lowercase();
        let is_name =
            TORN_NAMES.iter().any(|(end, starts)| last == *end && starts.contains(&&*bare));
        if is_name {
            return Err(format!(
                "{first} {second} would be two names; one name with a blank is put in quotes: \"{first} {second}\" (two \
                 names are written as a list: [{first}, {second}])"
            ));
        }
    }
    Ok(())
}

/// Digits only: `str::parse` would also take a plus sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn duration_millis(text: &str, unit: Unit) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor = match suffix.trim() {
        "" => unit.millis(),
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    decimal(number)?.checked_mul(factor)
}

fn is_host(text: &str) -> bool {
    let tail = |b: u8| b.is_ascii_alphanumeric() || b"._-:%".contains(&b);
    text.len() <= 253
        && text.bytes().all(tail)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(kind: Kind, text: &str) -> Option<String> {
        kind.normalise(&Value::Text(text.to_owned())).ok().map(|value| value.to_string())
    }

    #[test]
    fn durations_take_suffixes_and_bare_numbers_in_their_unit() {
        let seconds = Kind::Duration { unit: Unit::Seconds, min: 1, max: 600 };
        assert_eq!(ok(seconds, "10").as_deref(), Some("10000"));
        assert_eq!(ok(seconds, "10s").as_deref(), Some("10000"));
        assert_eq!(ok(seconds, "5m").as_deref(), Some("300000"));
        assert_eq!(ok(seconds, "1500ms").as_deref(), Some("1500"));
        for bad in [
            "",
            "s",
            "0",
            "601",
            "11m",
            "-1",
            "+5",
            "1.5s",
            "5d",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert_eq!(ok(seconds, bad), None, "{bad}");
        }
        assert_eq!(
            ok(Kind::Duration { unit: Unit::Millis, min: 1, max: 9000 }, "500").as_deref(),
            Some("500")
        );
    }

    #[test]
    fn each_kind_refuses_what_it_must() {
        for (kind, bad) in [
            (Kind::Bool, "maybe"),
            (Kind::Int { min: 1, max: 65535, unit: "" }, "0"),
            (Kind::Int { min: 1, max: 65535, unit: "" }, "65536"),
            (Kind::Mode, "0789"),
            (Kind::Mode, "17777"),
            (Kind::Path, "relative"),
            (Kind::Path, ""),
            (Kind::Host, "a b"),
            (Kind::Host, "-rf"),
            (Kind::List(Item::Host), "good bad/one"),
            (Kind::Choice(&["a", "b"]), "c"),
            (Kind::Colour, "#12345"),
            (Kind::Text, "nul\0"),
        ] {
            let error = kind.normalise(&Value::Text(bad.to_owned())).unwrap_err();
            assert!(error.contains("allowed") || error.contains("NUL"), "{error}");
        }
        assert!(Kind::Bool.normalise(&Value::List(vec![])).is_err());
        for torn in
            ["domain users", r"staff LAB\Domain Admins", "+domain users@lab", "a Backup Operators"]
        {
            let error =
                Kind::List(Item::Word).normalise(&Value::Text(torn.to_owned())).unwrap_err();
            assert!(error.contains("in quotes"), "{torn}: {error}");
        }
        assert_eq!(ok(Kind::List(Item::Word), "backup users").as_deref(), Some("backup users"));
        assert!(ok(Kind::List(Item::Word), "\"domain users\"").is_some());
        let two = Value::List(["domain", "users"].map(str::to_owned).to_vec());
        assert!(Kind::List(Item::Word).normalise(&two).is_ok());
        assert_eq!(ok(Kind::Mode, "0700").as_deref(), Some("448"));
        assert_eq!(ok(Kind::Host, "fe80::1%eth0").as_deref(), Some("fe80::1%eth0"));
    }
}
