//! A user's Xauthority file, into which a session puts its cookie. The first byte says for which display that is.

use vsm_agent::fuzzing::{cookie_lengths, merged_cookies};

pub(crate) fn run(bytes: &[u8]) {
    let Some((display, old)) = bytes.split_first() else { return };
    let new = entry(&[b"host", &[b'0' + display % 4], b"MIT-MAGIC-COOKIE-1", &[7; 16]]);
    let (length, key) = cookie_lengths(&new).expect("a whole entry");
    assert_eq!(length, new.len());
    let all = merged_cookies(old, &new);
    let others = all.strip_prefix(new.as_slice()).expect("programs take the first that fits");
    let is_other = |entry: &&[u8]| entry.get(..key) != new.get(..key);
    let kept: Vec<&[u8]> = entries(old).0.into_iter().filter(is_other).collect();
    let (found, rubbish) = entries(others);
    assert!(rubbish.is_empty(), "nothing that is damaged is kept");
    assert_eq!(found, kept, "others' entries stay, in their order");
    assert_eq!(merged_cookies(&all, &new), all);
}

fn entry(fields: &[&[u8]]) -> Vec<u8> {
    let mut all = vec![1, 0];
    for field in fields {
        all.extend(u16::try_from(field.len()).unwrap_or(0).to_be_bytes());
        all.extend(*field);
    }
    all
}

/// By the format alone: a family, then four fields, each with its length before it.
fn entries(mut file: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut all = Vec::new();
    'entries: loop {
        let mut rest = file.get(2..).unwrap_or_default();
        for _ in 0..4 {
            let Some((length, after)) = rest.split_first_chunk::<2>() else { break 'entries };
            let field = usize::from(u16::from_be_bytes(*length));
            let Some(after) = after.get(field..) else { break 'entries };
            rest = after;
        }
        all.push(&file[..file.len() - rest.len()]);
        file = rest;
    }
    (all, file)
}
