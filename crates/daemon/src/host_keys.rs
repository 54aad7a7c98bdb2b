//! The public keys by which this host's sshd is known.

use std::{fs, io::Read, path::Path};

/// Where sshd's keys lie.
const SSH_DIR: &str = "/etc/ssh";
/// Longest file that is looked at: one key of any kind has less than 2 KiB.
const FILE_MAX: u64 = 16 << 10;
/// Keys that are looked at; OpenSSH makes three or four.
const KEYS_MAX: usize = 16;

/// The keys as they are now: kind and base64 text, in the order of the text. Unreadable ones are left out. It reads
/// small files: off the async threads where that matters.
#[must_use]
pub fn read() -> Vec<String> {
    read_in(Path::new(SSH_DIR))
}

fn read_in(dir: &Path) -> Vec<String> {
    let is_one = |file: &fs::DirEntry| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("ssh_host_") && name.ends_with("_key.pub")
    };
    let files = fs::read_dir(dir).into_iter().flatten().flatten().filter(is_one).take(KEYS_MAX);
    let mut keys: Vec<String> = files
        .filter_map(|file| {
            let mut text = String::new();
            fs::File::open(file.path()).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
            let mut words = text.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_without_their_comments_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("ssh_host_rsa_key.pub", "ssh-rsa BBBB root@here\n");
        put("ssh_host_ed25519_key.pub", "ssh-ed25519 AAAA\n");
        put("ssh_host_ed25519_key", "secret secret");
        put("ssh_host_ecdsa_key.pub", "");
        assert_eq!(read_in(dir.path()), ["ssh-ed25519 AAAA", "ssh-rsa BBBB"]);
        assert!(read_in(Path::new("/nonexistent")).is_empty());
    }
}
