//! What stands in a page's address, or in a form: fields by name, some of them several times.

/// Fields that are read; a page has a hundred rows that can be ticked.
const FIELDS_MAX: usize = 256;
/// Longest value: a text for desktops has 2 KiB.
const VALUE_MAX: usize = 4096;

/// Some fields, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// From `a=b&c=d`.
    pub(super) fn read(text: &str) -> Self {
        let all = form_urlencoded::parse(text.as_bytes()).into_owned();
        let short = all.filter(|(_, value)| value.len() <= VALUE_MAX && !value.is_empty());
        Self(short.take(FIELDS_MAX).collect())
    }

    /// One field alone.
    pub(super) fn one(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    /// The first one of this name; empty = there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// Whether there is one.
    pub(super) fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// All of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let named = self.0.iter().filter(move |(own, _)| own == name);
        named.map(|(_, value)| value.trim())
    }

    /// The number in a field.
    pub(super) fn number(&self, name: &str, otherwise: usize) -> usize {
        self.get(name).parse().unwrap_or(otherwise)
    }

    /// The same fields with another value for this one.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut others: Vec<_> = self.0.iter().filter(|(own, _)| own != name).cloned().collect();
        others.push((name.to_owned(), value.to_owned()));
        Self(others)
    }

    /// As in an address.
    pub(super) fn encoded(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// An address with them.
    pub(super) fn after(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.encoded()) }
    }
}

/// The command line that does the same: each word as a shell takes it for one.
pub(super) fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were() {
        let fields = Fields::read("id=1&id=2&text=a+%26+b%0Ac&none=&on=on");
        assert_eq!(fields.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields.get("text"), "a & b\nc");
        assert!(fields.has("on") && !fields.has("none") && !fields.has("other"));
        assert_eq!(Fields::read(&fields.encoded()), fields);
        assert_eq!(fields.with("id", "3").get("id"), "3");
        assert_eq!(fields.with("id", "3").all("id").count(), 1);
        assert_eq!(Fields::default().after("/admin/"), "/admin/");
        assert_eq!(Fields::one("a", "b c").after("/x"), "/x?a=b+c");
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        assert!(!Fields::read(&format!("a={}", "x".repeat(VALUE_MAX + 1))).has("a"));
        assert_eq!(Fields::read(&"a=b&".repeat(1000)).all("a").count(), FIELDS_MAX);
    }

    #[test]
    fn a_shell_takes_each_word_for_one() {
        assert_eq!(line(["vsmctl", "agent", "drain", "a1"]), "vsmctl agent drain a1");
        assert_eq!(line(["--reason", "it's $HOME"]), r"--reason 'it'\''s $HOME'");
        assert_eq!(line(["", "a;b", "ü"]), "'' 'a;b' 'ü'");
    }
}
