//! A user's files on the host of their desktop: SFTP over the ssh that leads there, with the user's own rights. Whether
//! they may go to the browser or from it, the host decides.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use axum::body::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use russh_sftp::{
    client::{Config, RawSftpSession, error::Error},
    protocol::{FileAttributes, FileType, OpenFlags, Packet, StatusCode},
};
use serde::Serialize;
use uuid::Uuid;
use vsm_proto::broker::v1::LoginRequest;

use crate::{
    door::{self, Door, Visitor},
    error::Refused,
    limit::KeyLogins,
    settings::Settings,
    ssh::Ssh,
};

/// Longest path: the kernel's bound.
pub(crate) const PATH_MAX: usize = 4096;
/// Entries of a folder that are shown.
const ENTRIES_MAX: usize = 5000;
/// Links in a folder that are followed, to tell a folder from a file.
const LINKS_MAX: usize = 200;
/// What every server of SFTP gives and takes at once.
const PART: u32 = 32 << 10;
/// Parts on their way at a time: on a line of 50 ms that is 20 MiB/s.
const PARTS: usize = 32;
/// A host that answers nothing for so long is gone, in seconds.
const ANSWER_MAX: u64 = 30;
/// Puts a file in the place of another, in one step; OpenSSH's own.
const REPLACE: &str = "posix-rename@openssh.com";

/// A connection to them.
pub(crate) struct Files {
    sftp: RawSftpSession,
    /// Held as long as they are.
    _ssh: Ssh,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

/// A folder.
#[derive(Debug, Serialize)]
pub(crate) struct Folder {
    /// Its whole path.
    path: String,
    entries: Vec<Entry>,
    /// Whether there are more than are shown.
    more: bool,
}

/// Something in a folder.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    kind: Kind,
    /// In bytes.
    size: u64,
    /// When it was changed last: seconds since 1970 UTC.
    changed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Folder,
    File,
    /// A device, a socket, a link that leads nowhere.
    Other,
}

/// A file that is fetched.
pub(crate) struct Fetched {
    /// Its length when it was opened, in bytes.
    pub(crate) length: u64,
    pub(crate) content: Pin<Box<dyn Stream<Item = Result<Bytes, Refused>> + Send>>,
}

impl Files {
    /// Goes to the host of a session for the files of its user.
    pub(crate) async fn open(
        settings: &Settings,
        keys: &KeyLogins,
        visitor: Visitor<'_>,
        session: &str,
    ) -> Result<Self, Refused> {
        let wish = |public_key| LoginRequest {
            request_id: Uuid::new_v4().to_string(),
            session_id: session.to_owned(),
            public_key,
            ..LoginRequest::default()
        };
        // It asks for one session, so there is nothing to choose.
        let none = || Refused::Broke("the broker gave no session".to_owned());
        let door = door::open(settings, keys, visitor, wish).await?;
        let Door { session, ssh } = door.ok_or_else(none)?;
        let pipe = ssh.join(&format!("files {}", session.id)).await?;
        let config = Config { request_timeout_secs: ANSWER_MAX, ..Config::default() };
        let sftp = RawSftpSession::new_with_config(pipe, config);
        sftp.init().await?;
        Ok(Self { sftp, _ssh: ssh })
    }

    /// What is in a folder; an empty path is the user's home.
    pub(crate) async fn list(self: &Arc<Self>, path: &str) -> Result<Folder, Refused> {
        let path = if path.is_empty() { "." } else { path };
        let whole = self.sftp.realpath(path).await?.files.into_iter().next();
        let path = whole.map_or_else(|| path.to_owned(), |file| file.filename);
        let folder = self.opened(self.sftp.opendir(&*path).await?.handle);
        let (mut found, more) = self.entries(folder.handle()).await?;
        drop(folder);
        self.follow(&path, &mut found).await;
        let entries = found.into_iter().map(|(name, attributes)| entry(name, &attributes));
        Ok(Folder { path, entries: entries.collect(), more })
    }

    async fn entries(
        &self,
        handle: &str,
    ) -> Result<(Vec<(String, FileAttributes)>, bool), Refused> {
        let mut found = Vec::new();
        loop {
            match self.sftp.readdir(handle).await {
                Ok(names) => {
                    let real = names.files.into_iter().filter(|file| {
                        !matches!(&*file.filename, "." | "..") && !file.filename.contains('/')
                    });
                    found.extend(real.map(|file| (file.filename, file.attrs)));
                }
                Err(Error::Status(status)) if status.status_code == StatusCode::Eof => {
                    return Ok((found, false));
                }
                Err(error) => return Err(error.into()),
            }
            if found.len() > ENTRIES_MAX {
                found.truncate(ENTRIES_MAX);
                return Ok((found, true));
            }
        }
    }

    /// Takes what links lead to in their place.
    async fn follow(&self, path: &str, found: &mut [(String, FileAttributes)]) {
        let links = found.iter_mut().filter(|(_, file)| file.file_type() == FileType::Symlink);
        stream::iter(links.take(LINKS_MAX))
            .for_each_concurrent(PARTS, async |(name, attributes)| {
                if let Ok(there) = self.sftp.stat(join(path, name)).await {
                    *attributes = there.attrs;
                }
            })
            .await;
    }

    /// Opens a file to be read.
    pub(crate) async fn fetch(self: &Arc<Self>, path: &str) -> Result<Fetched, Refused> {
        let none = FileAttributes::empty();
        let file = self.opened(self.sftp.open(path, OpenFlags::READ, none).await?.handle);
        let attributes = self.sftp.fstat(file.handle()).await?.attrs;
        if attributes.file_type() != FileType::File {
            return Err(Refused::NoSuchFile);
        }
        let length = attributes.size.unwrap_or_default();
        // One byte is asked for here, so that who may not read learns it before the answer has begun.
        if length > 0 {
            self.sftp.read(file.handle(), 0, 1).await?;
        }
        Ok(Fetched { length, content: Box::pin(parts(file, length)) })
    }

    /// Writes a file, whole or not at all; `replace` = also in the place of one that there is.
    pub(crate) async fn store(
        self: &Arc<Self>,
        path: &str,
        replace: bool,
        content: impl Stream<Item = Result<Bytes, Refused>> + Send,
    ) -> Result<(), Refused> {
        let former = self.sftp.stat(path).await.ok().map(|former| former.attrs);
        if !replace && former.is_some() {
            return Err(Refused::FileExists);
        }
        let part = beside(path);
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        // Whoever may read or run a file may do so when it is replaced.
        let mode = former.and_then(|former| former.permissions).map(|mode| mode & 0o777);
        let attributes = FileAttributes { permissions: mode, ..FileAttributes::empty() };
        let file = self.opened(self.sftp.open(&*part, flags, attributes).await?.handle);
        let written = self.write(file.handle(), content).await;
        let closed = file.close().await;
        let done = async {
            written?;
            closed?;
            self.put_in_place(&part, path, replace).await
        };
        let done = done.await;
        if done.is_err() {
            // Where the host is gone it stays; its name tells what it is.
            let _ = self.sftp.remove(&*part).await;
        }
        done
    }

    async fn write(
        &self,
        handle: &str,
        content: impl Stream<Item = Result<Bytes, Refused>> + Send,
    ) -> Result<(), Refused> {
        let mut next = 0;
        let parts = content.flat_map(|piece| {
            let pieces = match piece {
                Ok(piece) => piece.chunks(PART as usize).map(|part| Ok(part.to_vec())).collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(pieces)
        });
        let placed = parts.map(|part| {
            part.map(|part: Vec<u8>| {
                let at = next;
                next += part.len() as u64;
                (at, part)
            })
        });
        let written = placed.map(async |part: Result<(u64, Vec<u8>), Refused>| {
            let (at, part) = part?;
            succeeded(self.sftp.write(handle, at, part).await?.status_code)
        });
        let mut written = std::pin::pin!(written.buffered(PARTS));
        while let Some(done) = written.next().await {
            done?;
        }
        Ok(())
    }

    async fn put_in_place(&self, part: &str, path: &str, replace: bool) -> Result<(), Refused> {
        if !replace {
            // Of SFTP's version 3: it fails where there is one.
            return succeeded(self.sftp.rename(part, path).await?.status_code);
        }
        let mut both = Vec::new();
        for text in [part, path] {
            both.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            both.extend(text.as_bytes());
        }
        let Packet::Status(status) = self.sftp.extended(REPLACE, both).await? else {
            return Err(Refused::Broke("the host gave a strange answer".to_owned()));
        };
        succeeded(status.status_code)
    }
}

/// A file or folder that is open on the host. It is closed with the value, whatever has become of whoever asked.
struct Open {
    files: Arc<Files>,
    /// None = it is closed.
    handle: Option<String>,
}

impl Open {
    fn handle(&self) -> &str {
        self.handle.as_deref().unwrap_or_default()
    }

    /// Closes it, and says whether all that was written is there.
    async fn close(mut self) -> Result<(), Refused> {
        let handle = self.handle.take().unwrap_or_default();
        succeeded(self.files.sftp.close(handle).await?.status_code)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        let files = Arc::clone(&self.files);
        // Where this fails the connection is gone, and the host has closed all.
        tokio::spawn(async move { files.sftp.close(handle).await });
    }
}

/// The parts of a file, in order: as many bytes as it had when it was opened, or an error.
fn parts(file: Open, length: u64) -> impl Stream<Item = Result<Bytes, Refused>> + Send {
    let file = Arc::new(file);
    let offsets = (0..length).step_by(PART as usize);
    stream::iter(offsets)
        .map(move |at| {
            let file = Arc::clone(&file);
            let wanted = (length - at).min(PART.into());
            async move { file.files.part(file.handle(), at, wanted).await }
        })
        .buffered(PARTS)
}

impl Files {
    fn opened(self: &Arc<Self>, handle: String) -> Open {
        Open { files: Arc::clone(self), handle: Some(handle) }
    }

    /// So many bytes of a file from there; a host may give them in several goes.
    async fn part(&self, handle: &str, at: u64, wanted: u64) -> Result<Bytes, Refused> {
        let mut got = VecDeque::new();
        while (got.len() as u64) < wanted {
            let left = u32::try_from(wanted - got.len() as u64).unwrap_or(PART);
            let data = self.sftp.read(handle, at + got.len() as u64, left).await?.data;
            if data.is_empty() || data.len() > left as usize {
                return Err(Refused::Broke("the file changed while it was read".to_owned()));
            }
            got.extend(data);
        }
        Ok(Vec::from(got).into())
    }
}

fn entry(name: String, attributes: &FileAttributes) -> Entry {
    let kind = match attributes.file_type() {
        FileType::Dir => Kind::Folder,
        FileType::File => Kind::File,
        FileType::Symlink | FileType::Other => Kind::Other,
    };
    let (size, changed) =
        (attributes.size.unwrap_or_default(), attributes.mtime.unwrap_or_default());
    Entry { name, kind, size, changed }
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

/// Where a file is written before it is whole: in the same folder, by a name that is its own.
fn beside(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    // A name may have 255 bytes.
    let short: String = name.chars().take(48).collect();
    join(folder, &format!(".{short}.{}.part", Uuid::new_v4().simple()))
}

/// A file's name, of its path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn succeeded(code: StatusCode) -> Result<(), Refused> {
    if code == StatusCode::Ok { Ok(()) } else { Err(refused(code, &code.to_string())) }
}

fn refused(code: StatusCode, text: &str) -> Refused {
    if code == StatusCode::NoSuchFile {
        Refused::NoSuchFile
    } else if code == StatusCode::PermissionDenied {
        Refused::NoPermission
    } else {
        Refused::File(text.to_owned())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        if let Error::Status(status) = error {
            refused(status.status_code, &status.error_message)
        } else {
            Self::Broke(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_is_beside_its_place_and_hidden() {
        let part = beside("/home/alice/plan.txt");
        assert!(part.starts_with("/home/alice/.plan.txt.") && part.ends_with(".part"), "{part}");
        assert!(beside("/x").starts_with("/.x."));
        assert!(beside(&format!("/{}", "ä".repeat(120))).len() < 255);
        assert_eq!(name("/home/alice/plan.txt"), "plan.txt");
        assert_eq!(join("/", "a"), "/a");
    }
}
