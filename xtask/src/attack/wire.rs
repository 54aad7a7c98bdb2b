//! Just enough of protobuf to say what an attacker says, and to look at what is answered: numbers, texts and messages
//! by their fields' numbers, which never change. xtask has no gRPC of its own, so that it compiles in seconds.

/// A message as it grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }

    /// A number, or whether something is so.
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// A number of four bytes.
    pub(super) fn fixed32(mut self, field: u64, value: u32) -> Self {
        self.varint((field << 3) | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A text, or bytes.
    pub(super) fn text(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint((field << 3) | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Another message.
    pub(super) fn message(self, field: u64, value: &Self) -> Self {
        self.text(field, &value.0)
    }

    /// As hexadecimal digits.
    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The bytes of hexadecimal digits.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The first field with this number.
pub(super) fn find(message: &[u8], wanted: u64) -> Option<Field> {
    let mut rest = message;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        let (field, after) = match key & 7 {
            0 => {
                let (value, after) = varint(after)?;
                (Field::Number(value), after)
            }
            1 => {
                let (eight, after) = after.split_first_chunk::<8>()?;
                (Field::Number(u64::from_le_bytes(*eight)), after)
            }
            2 => {
                let (length, after) = varint(after)?;
                let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                (Field::Bytes(bytes.to_vec()), after)
            }
            5 => {
                let (four, after) = after.split_first_chunk::<4>()?;
                (Field::Number(u32::from_le_bytes(*four).into()), after)
            }
            _ => return None,
        };
        if key >> 3 == wanted {
            return Some(field);
        }
        rest = after;
    }
    None
}

/// The bytes of the field with this number.
pub(super) fn part(message: &[u8], wanted: u64) -> Option<Vec<u8>> {
    match find(message, wanted)? {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    }
}

/// The number of the field with this number; 0 where it is left out.
pub(super) fn number(message: &[u8], wanted: u64) -> u64 {
    match find(message, wanted) {
        Some(Field::Number(value)) => value,
        _ => 0,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let inner = Message::new().text(2, "tlha").fixed32(3, 7).number(1, 300);
        let message = Message::new().number(1, 0).message(4, &inner).text(6, "x");
        let bytes = bytes(&message.hex());
        assert_eq!(part(&bytes, 6).as_deref(), Some(&b"x"[..]));
        let inner = part(&bytes, 4).unwrap();
        assert_eq!((number(&inner, 1), number(&inner, 3)), (300, 7));
        assert_eq!(part(&inner, 2).unwrap(), b"tlha");
        assert_eq!(find(&bytes, 9), None);
        assert_eq!(Message::new().text(1, "a").hex(), "0a0161", "as the specification has it");
    }
}
