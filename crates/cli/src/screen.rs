//! The size of the screen that the user sits at, asked of its X server: what a new desktop is best made as large as.
//!
//! The server tells it in the first message of every connection, so no library and no program is needed.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long the X server may take. It is on this machine, and nobody waits long for a nicety.
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// Largest file of cookies that is looked at.
const COOKIES_MAX: u64 = 1 << 20;
const COOKIE_NAME: &[u8] = b"MIT-MAGIC-COOKIE-1";
/// Families of cookies for this machine, and for every one.
const FAMILIES: [u16; 2] = [256, 65535];

/// Width and height in pixels; none = there is no screen, or it is not of this machine.
#[must_use]
pub fn size() -> Option<(u32, u32)> {
    let number = display(&env::var("DISPLAY").ok()?)?;
    let cookies = env::var_os("XAUTHORITY")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".Xauthority")));
    let cookie = cookies.and_then(|file| cookie(&read(&file)?, &number));
    ask(
        Path::new("/tmp/.X11-unix").join(format!("X{number}")).as_path(),
        &cookie.unwrap_or_default(),
    )
}

/// Whether there may be such a display: one of this machine has a socket that answers, of another one nothing is known.
#[must_use]
pub(crate) fn may_be(display_name: &str) -> bool {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    let Some(number) = display(display_name) else { return true };
    let path = format!("/tmp/.X11-unix/X{number}");
    let hidden = SocketAddr::from_abstract_name(&path)
        .is_ok_and(|address| UnixStream::connect_addr(&address).is_ok());
    hidden || UnixStream::connect(&path).is_ok()
}

/// The number in `:5` or `unix:5.0`; none = a display of another machine.
fn display(text: &str) -> Option<String> {
    let (host, rest) = text.rsplit_once(':')?;
    let number = rest.split('.').next()?;
    let here = matches!(host, "" | "unix");
    (here && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        .then(|| number.to_owned())
}

fn read(file: &Path) -> Option<Vec<u8>> {
    if fs::metadata(file).ok()?.len() > COOKIES_MAX { None } else { fs::read(file).ok() }
}

/// The cookie for a display of this machine, in a file of xauth.
fn cookie(file: &[u8], display: &str) -> Option<Vec<u8>> {
    let mut rest = file;
    while let Some(family) = number(&mut rest) {
        let mut field = || take(&mut rest);
        let (_address, shown, name, cookie) = (field()?, field()?, field()?, field()?);
        let fits = shown.is_empty() || shown == display.as_bytes();
        if FAMILIES.contains(&family) && fits && name == COOKIE_NAME {
            return Some(cookie.to_vec());
        }
    }
    None
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (number, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*number))
}

/// A field with its length before it.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)?;
    let (field, after) = rest.split_at_checked(length.into())?;
    *rest = after;
    Some(field)
}

/// Connects as a client, and reads the size of the first screen in the answer.
fn ask(socket: &Path, cookie: &[u8]) -> Option<(u32, u32)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    stream.set_write_timeout(Some(ANSWER_MAX)).ok()?;
    stream.write_all(&hello(cookie)).ok()?;
    let mut head = [0; 8];
    stream.read_exact(&mut head).ok()?;
    // 1 = welcome; the length of the rest is counted in words of four bytes.
    let [1, _, _, _, _, _, low, high] = head else { return None };
    let mut body = vec![0; usize::from(u16::from_le_bytes([low, high])) * 4];
    stream.read_exact(&mut body).ok()?;
    first_screen(&body)
}

/// The first message: little-endian, version 11.0, and the cookie.
fn hello(cookie: &[u8]) -> Vec<u8> {
    let name = if cookie.is_empty() { b"".as_slice() } else { COOKIE_NAME };
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or(0).to_le_bytes();
    let mut hello = vec![b'l', 0, 11, 0, 0, 0];
    hello.extend(length(name));
    hello.extend(length(cookie));
    hello.extend([0, 0]);
    for field in [name, cookie] {
        hello.extend(field);
        hello.resize(hello.len().next_multiple_of(4), 0);
    }
    hello
}

/// Width and height of the first screen in the answer to a hello, behind the vendor's name and the formats.
fn first_screen(body: &[u8]) -> Option<(u32, u32)> {
    let short = |at: usize| {
        let bytes = body.get(at..at + 2)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    };
    let vendor = usize::from(short(16)?).next_multiple_of(4);
    let formats = usize::from(*body.get(21)?) * 8;
    let screen = 32 + vendor + formats;
    Some((short(screen + 20)?.into(), short(screen + 22)?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_display_of_this_machine_counts() {
        assert_eq!(display(":5").as_deref(), Some("5"));
        assert_eq!(display("unix:12.0").as_deref(), Some("12"));
        for other in ["", "5", "host:5", "localhost:10.0", ":", ":x", ":../1"] {
            assert_eq!(display(other), None, "{other}");
        }
    }

    fn entry(family: u16, fields: [&[u8]; 4]) -> Vec<u8> {
        let mut entry = family.to_be_bytes().to_vec();
        for field in fields {
            entry.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
            entry.extend(field);
        }
        entry
    }

    #[test]
    fn the_cookie_of_the_display_is_found() {
        let mut file = entry(0, [&[10, 0, 0, 1], b"5", COOKIE_NAME, b"of another host"]);
        file.extend(entry(256, [b"me", b"4", COOKIE_NAME, b"of display 4"]));
        file.extend(entry(256, [b"me", b"5", b"XDM-AUTHORIZATION-1", b"other"]));
        file.extend(entry(256, [b"me", b"5", COOKIE_NAME, b"right"]));
        assert_eq!(cookie(&file, "5").as_deref(), Some(b"right".as_slice()));
        assert_eq!(cookie(&file, "6"), None);
        assert_eq!(cookie(&file[..file.len() - 1], "5"), None, "cut off");
        let any = entry(65535, [b"", b"", COOKIE_NAME, b"any"]);
        assert_eq!(cookie(&any, "6").as_deref(), Some(b"any".as_slice()));
    }

    #[test]
    fn the_first_screen_stands_behind_vendor_and_formats() {
        let mut body = vec![0; 32];
        (body[16], body[21]) = (5, 2);
        body.extend(b"maker\0\0\0");
        body.extend([0; 16]);
        let screen = body.len();
        body.resize(screen + 40, 0);
        body[screen + 20..screen + 24].copy_from_slice(&[0x80, 0x07, 0x38, 0x04]);
        assert_eq!(first_screen(&body), Some((1920, 1080)));
        assert_eq!(first_screen(&body[..screen + 22]), None);
        assert_eq!(hello(b"").len(), 12);
        assert_eq!(hello(&[7; 16]).len(), 12 + 20 + 16);
    }

    #[test]
    fn a_display_of_this_machine_that_nobody_serves_is_none() {
        assert!(!may_be(":4242"));
        assert!(may_be("elsewhere:10"));
    }
}
