//! Whether this host has a locale: a session with a LANG that is not there runs with broken texts and warnings.
//!
//! glibc keeps a locale as a folder under `/usr/lib/locale` or in the file `locale-archive` there, under a name whose
//! character set is spelled in its own way. The archive is read and not asked for by a process: a start is quick.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

/// Where glibc keeps locales.
const HOME: &str = "/usr/lib/locale";
/// First word of an archive.
const MAGIC: u32 = 0xde02_0109;
/// Words of an archive's header that are looked at, and of an entry of its table of names.
const HEADER_WORDS: usize = 8;
const ENTRY_WORDS: usize = 3;
/// Entries and bytes of names beyond which a file is no archive; Debian with all locales has a thousand.
const ENTRIES_MAX: usize = 1 << 16;
const NAMES_MAX: usize = 1 << 20;

/// Whether this host has the locale.
pub(super) fn is_here(name: &str) -> bool {
    is_in(Path::new(HOME), name)
}

fn is_in(home: &Path, name: &str) -> bool {
    if matches!(name, "C" | "POSIX") {
        return true;
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@' | b'-');
    // It becomes a part of a path.
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_plain) {
        return false;
    }
    let spelled = spelling(name);
    let folder = |name: &str| home.join(name).is_dir();
    folder(name)
        || folder(&spelled)
        // Without an archive there are folders alone.
        || has(&home.join("locale-archive"), &[name, &spelled]).unwrap_or(false)
}

/// `sv_SE.UTF-8@euro` as glibc files it: `sv_SE.utf8@euro`.
fn spelling(name: &str) -> String {
    let (name, modifier) = match name.split_once('@') {
        Some((name, modifier)) => (name, format!("@{modifier}")),
        None => (name, String::new()),
    };
    let Some((language, charset)) = name.split_once('.') else {
        return format!("{name}{modifier}");
    };
    let charset: String = charset.chars().filter(char::is_ascii_alphanumeric).collect();
    let iso = if charset.bytes().all(|b| b.is_ascii_digit()) { "iso" } else { "" };
    format!("{language}.{iso}{}{modifier}", charset.to_ascii_lowercase())
}

fn words<const N: usize>(file: &File, offset: u64) -> io::Result<[u32; N]> {
    let mut bytes = vec![0; N * 4];
    file.read_exact_at(&mut bytes, offset)?;
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    Ok(words)
}

/// Whether an archive has a locale by one of these names.
fn has(archive: &Path, names: &[&str]) -> io::Result<bool> {
    let file = File::open(archive)?;
    let [magic, _, table, _, entries, strings, strings_used, _] = words::<HEADER_WORDS>(&file, 0)?;
    let usize_of = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let (entries, used) = (usize_of(entries), usize_of(strings_used));
    if magic != MAGIC || entries > ENTRIES_MAX || used > NAMES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut all = vec![0; used];
    file.read_exact_at(&mut all, strings.into())?;
    let mut bytes = vec![0; entries * ENTRY_WORDS * 4];
    file.read_exact_at(&mut bytes, table.into())?;
    let found = bytes.chunks_exact(ENTRY_WORDS * 4).any(|entry| {
        let word = |n: usize| {
            let bytes = entry.get(n * 4..n * 4 + 4).unwrap_or_default();
            u32::from_ne_bytes(bytes.try_into().unwrap_or_default())
        };
        // One that was deleted keeps its name and has no record.
        let (name, record) = (usize_of(word(1).wrapping_sub(strings)), word(2));
        let text = all.get(name..).and_then(|rest| rest.split(|byte| *byte == 0).next());
        record != 0 && text.is_some_and(|text| names.iter().any(|name| name.as_bytes() == text))
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_spelled_as_glibc_files_them() {
        for (name, filed) in [
            ("sv_SE.UTF-8", "sv_SE.utf8"),
            ("de_DE.ISO-8859-15@euro", "de_DE.iso885915@euro"),
            ("ru_RU.8859-5", "ru_RU.iso88595"),
            ("sv_SE", "sv_SE"),
        ] {
            assert_eq!(spelling(name), filed);
        }
    }

    /// An archive with these names and records.
    fn archive(entries: &[(&str, u32)]) -> Vec<u8> {
        let strings: Vec<u8> = entries
            .iter()
            .flat_map(|(name, _)| [name.as_bytes(), b"\0"])
            .flatten()
            .copied()
            .collect();
        let table = 64;
        let at = table + u32::try_from(entries.len() * 12).unwrap();
        let count = u32::try_from(entries.len()).unwrap();
        let used = u32::try_from(strings.len()).unwrap();
        let mut words = vec![MAGIC, 1, table, count, count, at, used, used];
        words.resize(16, 0);
        let mut offset = at;
        for (name, record) in entries {
            words.extend([7, offset, *record]);
            offset += u32::try_from(name.len() + 1).unwrap();
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_locale_is_found_in_a_folder_or_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        fs::create_dir(home.join("C.utf8")).unwrap();
        assert!(is_in(home, "C") && is_in(home, "C.UTF-8") && !is_in(home, "sv_SE.UTF-8"));
        let path = home.join("locale-archive");
        fs::write(&path, archive(&[("sv_SE.utf8", 9), ("de_DE.utf8", 0), ("en_US.utf8", 3)]))
            .unwrap();
        assert!(is_in(home, "sv_SE.UTF-8") && is_in(home, "en_US.utf8"));
        assert!(!is_in(home, "de_DE.UTF-8"), "it was deleted");
        assert!(!is_in(home, "SE.utf8"), "a part of a name");
        for bad in ["", ".", "..", "../C.utf8", "a/b", "a;b"] {
            assert!(!is_in(home, bad), "{bad}");
        }
        for damaged in [vec![], vec![0; 200], archive(&[("sv_SE.utf8", 9)])[..40].to_vec()] {
            fs::write(&path, damaged).unwrap();
            assert!(!is_in(home, "sv_SE.UTF-8"));
        }
    }
}
