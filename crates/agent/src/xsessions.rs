//! The desktop sessions that are installed on this host: what display managers offer, by the Desktop Entry
//! Specification.
//!
//! Only what a start needs is read: the first group's `Name`, `Comment`, `Exec`, `TryExec`, `DesktopNames` and
//! `Hidden`, without translations.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Where they are, the first that has a name wins.
const FOLDERS: [&str; 3] =
    ["/etc/X11/sessions", "/usr/local/share/xsessions", "/usr/share/xsessions"];
/// Where `TryExec` and `Exec` look for programs.
const PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Longest file that is read; those of real desktops have 10 KiB, most of it translations.
const FILE_MAX: u64 = 256 << 10;
/// Most sessions of a folder that are looked at.
const SESSIONS_MAX: usize = 256;

/// One desktop session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XSession {
    /// Name of its file without `.desktop`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What it is; may be empty.
    pub comment: String,
    /// The program and its arguments; at least one word.
    pub exec: Vec<String>,
    /// The program that has to be there, as the file says it; may be empty.
    pub try_exec: String,
    /// Names for XDG_CURRENT_DESKTOP.
    pub desktop_names: Vec<String>,
}

/// The session of this name (with or without `.desktop`), where it is installed.
#[must_use]
pub fn find(name: &str) -> Option<XSession> {
    find_in(&FOLDERS.map(Path::new), name)
}

/// All that are installed, by id.
#[must_use]
pub fn all() -> Vec<XSession> {
    let mut all: Vec<XSession> = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(SESSIONS_MAX);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| name.ends_with(".desktop")) {
            if !all.iter().any(|known| name.strip_suffix(".desktop") == Some(&*known.id)) {
                all.extend(find(&name));
            }
        }
    }
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all
}

fn find_in(folders: &[&Path], name: &str) -> Option<XSession> {
    let id = name.strip_suffix(".desktop").unwrap_or(name);
    if id.is_empty() || id.starts_with('.') || id.contains('/') {
        return None;
    }
    let path = folders
        .iter()
        .map(|folder| folder.join(format!("{id}.desktop")))
        .find(|path| path.is_file())?;
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    let session = parse(id, &text)?;
    let program = session.exec.first()?;
    let needed = if session.try_exec.is_empty() { program } else { &session.try_exec };
    program_is_there(needed).then_some(session)
}

fn program_is_there(program: &str) -> bool {
    let runs = |path: PathBuf| {
        fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(program.into());
    }
    PATH.iter().any(|folder| runs(Path::new(folder).join(program)))
}

/// What a file says; none = it is no session, or is taken away.
fn parse(id: &str, text: &str) -> Option<XSession> {
    let mut session = XSession {
        id: id.to_owned(),
        name: id.to_owned(),
        comment: String::new(),
        exec: Vec::new(),
        try_exec: String::new(),
        desktop_names: Vec::new(),
    };
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != "[Desktop Entry]");
    lines.next()?;
    for line in lines.take_while(|line| !line.starts_with('[')) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = unescape(value.trim());
        match key.trim() {
            "Name" if !value.is_empty() => session.name = value,
            "Comment" => session.comment = value,
            "Exec" => session.exec = words(&value)?,
            "TryExec" => session.try_exec = value,
            "DesktopNames" => {
                let names = value.split(';').filter(|name| !name.is_empty());
                session.desktop_names = names.map(str::to_owned).collect();
            }
            "Hidden" if value == "true" => return None,
            _ => {}
        }
    }
    let program = session.exec.first()?;
    (!program.is_empty()).then_some(session)
}

/// The escapes of all values.
fn unescape(value: &str) -> String {
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(escaped @ ('s' | 'n' | 't' | 'r' | '\\'))) => {
                chars.next();
                text.push(match escaped {
                    's' => ' ',
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                });
            }
            _ => text.push(c),
        }
    }
    text
}

/// The words of a command line, without its field codes, which stand for files that a session is not given. None = a
/// quote is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(chars.next()?),
            ' ' | '\t' | '\n' if !quoted => words.extend(word.take()),
            // A word that is only a code is none.
            '%' => {
                if chars.next() == Some('%') {
                    word.get_or_insert_default().push('%');
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(line: &str) -> Option<Vec<String>> {
        parse("x", &format!("[Desktop Entry]\nExec={line}\n")).map(|session| session.exec)
    }

    #[test]
    fn a_command_line_is_words_without_field_codes() {
        let is = |line: &str, words: &[&str]| {
            assert_eq!(exec(line).unwrap(), words, "{line}");
        };
        is("startxfce4", &["startxfce4"]);
        is("  run  --on  %u %F  %% a%fb", &["run", "--on", "%", "ab"]);
        is(r#"sh -c "a  b" "" x"y z""#, &["sh", "-c", "a  b", "", "xy z"]);
        // A backslash in quotes is written four times: once for the value, once for the word.
        is(r#"sh "a\\\\b\\"c\\$d""#, &["sh", r#"a\b"c$d"#]);
        is(r"a\sb", &["a", "b"]);
        // As the toolkits do it, though the specification would have none of it.
        is(r#"sh "100%% %u""#, &["sh", "100% "]);
        for bad in ["", "%u", "\"open", "\"\" x"] {
            assert_eq!(exec(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_entry_itself_counts() {
        let text = "# c\n[Other]\nExec=no\n[Desktop Entry]\nName=Xfce Session\nName[sv]=Xfce-session\nComment=c\n\
                    Exec = startxfce4\nTryExec=startxfce4\nDesktopNames=XFCE;X-Y;\n[Desktop Action a]\nExec=other\n";
        let session = parse("xfce", text).unwrap();
        assert_eq!(
            (session.name.as_str(), session.exec[0].as_str()),
            ("Xfce Session", "startxfce4")
        );
        assert_eq!(session.desktop_names, ["XFCE", "X-Y"]);
        assert_eq!(parse("x", "[Desktop Entry]\nExec=a\nHidden=true\n"), None);
        assert_eq!(parse("x", "Exec=a\n"), None);
        assert_eq!(parse("x", "[Desktop Entry]\nExec=a\n").unwrap().name, "x");
    }

    #[test]
    fn one_is_found_where_its_program_is_and_the_first_folder_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("1"), dir.path().join("2"));
        let put = |folder: &Path, name: &str, text: &str| {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), format!("[Desktop Entry]\n{text}\n")).unwrap();
        };
        put(&second, "a.desktop", "Exec=sh -c second");
        put(&second, "b.desktop", "Exec=sh\nTryExec=/opt/none/b");
        put(&second, "c.desktop", "Exec=no-such-program-here");
        let find = |name: &str| find_in(&[&first, &second], name).map(|session| session.exec);
        assert_eq!(find("a.desktop").unwrap()[2], "second");
        put(&first, "a.desktop", "Exec=/bin/sh -c first\nTryExec=sh");
        assert_eq!(find("a").unwrap()[2], "first");
        for none in ["b", "c", "d", "", "../2/a", ".a"] {
            assert_eq!(find(none), None, "{none}");
        }
    }
}
