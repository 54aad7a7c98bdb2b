//! The end of a session's log, for administrators.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use vsm_core::SessionId;

use crate::record::Store;

/// Most that is told of a log, in bytes: what fits into a message with room to spare.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// The last `bytes` of a session's log, the older part included where the newer one is short; none = there is no log.
pub(super) fn tail(store: &Store, id: SessionId, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let bytes = bytes.clamp(1, BYTES_MAX);
    let newer = store.log(id);
    let Some(mut text) = end(&newer, bytes)? else { return Ok(None) };
    let more = bytes.saturating_sub(u64::try_from(text.len()).unwrap_or(u64::MAX));
    if more > 0
        && let Some(mut older) = end(&newer.with_extension("log.old"), more)?
    {
        older.append(&mut text);
        text = older;
    }
    Ok(Some(text))
}

/// The last bytes of a file; none = there is no such file.
fn end(path: &Path, bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    // It may grow meanwhile.
    file.take(bytes).read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_end_goes_over_both_parts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let store = Store::at(dir.path());
        let id: SessionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(tail(&store, id, 10).unwrap(), None);
        fs::write(store.log(id), "new").unwrap();
        assert_eq!(tail(&store, id, 10).unwrap().unwrap(), b"new");
        fs::write(store.log(id).with_extension("log.old"), "older ").unwrap();
        assert_eq!(tail(&store, id, 100).unwrap().unwrap(), b"older new");
        assert_eq!(tail(&store, id, 6).unwrap().unwrap(), b"er new");
        assert_eq!(tail(&store, id, 2).unwrap().unwrap(), b"ew");
    }
}
