//! How messages are read: what they would take in memory is reckoned first. A row that says nothing has two bytes on
//! its way and hundreds in memory, so a message of 64 MiB could cost a daemon ten gigabytes.

use std::{collections::HashMap, marker::PhantomData, sync::LazyLock};

use prost::{
    DecodeError, Message, Name,
    bytes::Buf as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::DESCRIPTORS;

/// Messages up to this length are small also in memory: some ten megabytes at the very most.
const SMALL: usize = 64 << 10;
/// What a message may take in memory whatever its length, in bytes.
const MEMORY: usize = 64 << 20;
/// What it may take beyond that for each of its bytes. The smallest rows, those of ended sessions, take 15.
const MEMORY_FOR_BYTE: usize = 16;
/// Message inside message; prost reads no deeper.
const DEPTH_MAX: usize = 100;
/// What a string or a list takes where it is a part of a message.
const POINTER: usize = 24;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// They are none of this kind.
    #[error("the message cannot be read: {0}")]
    Message(#[from] DecodeError),
    /// It is far larger in memory than on its way.
    #[error(
        "the message has {bytes} bytes and would take {memory} in memory, where {most} are allowed"
    )]
    Size {
        /// Its length.
        bytes: usize,
        /// What it would take, or has taken when there was no need to go on.
        memory: usize,
        /// What it may.
        most: usize,
    },
}

/// Reads a message of this project.
///
/// # Errors
/// If it is none, or would take far more memory than it has bytes.
pub fn read<T: Message + Name + Default>(bytes: &[u8]) -> Result<T, Unreadable> {
    check(&T::full_name(), bytes)?;
    Ok(T::decode(bytes)?)
}

fn check(name: &str, bytes: &[u8]) -> Result<(), Unreadable> {
    if bytes.len() <= SMALL {
        return Ok(());
    }
    let most = MEMORY + bytes.len() * MEMORY_FOR_BYTE;
    let kind = KINDS.names.get(name).and_then(|number| KINDS.kinds.get(*number));
    let mut memory = Memory { taken: 0, most };
    match kind {
        Some(kind) if memory.message(kind, bytes, 0) => Ok(()),
        Some(_) => Err(Unreadable::Size { bytes: bytes.len(), memory: memory.taken, most }),
        None => Err(DecodeError::new_unexpected_type_url(name, "a message of vsm").into()),
    }
}

/// What a field is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// A message that stands once, inside the one that it belongs to.
    One(usize),
    /// Any number of messages.
    Many(usize),
    /// Text or bytes.
    Bytes,
    /// Numbers, one after the other.
    Numbers,
}

/// A kind of message: what one takes in memory without what its lists and texts point at, and what its fields are.
#[derive(Debug, Default)]
struct Kind {
    size: usize,
    fields: HashMap<u32, Made>,
}

#[derive(Debug)]
struct Kinds {
    names: HashMap<String, usize>,
    kinds: Vec<Kind>,
}

static KINDS: LazyLock<Kinds> = LazyLock::new(|| Kinds::of(DESCRIPTORS));

impl Kinds {
    /// Of the descriptors that were made together with the types. None is lacking there.
    fn of(descriptors: &[u8]) -> Self {
        let files = FileDescriptorSet::decode(descriptors).unwrap_or_default();
        let mut messages = Vec::new();
        for file in &files.file {
            with_inner(file.package(), &file.message_type, &mut messages);
        }
        let names: HashMap<_, _> =
            messages.iter().enumerate().map(|(number, (name, _))| (name.clone(), number)).collect();
        let made = |field: &FieldDescriptorProto| {
            let is_list = field.label() == Label::Repeated;
            let number = names.get(field.type_name().trim_start_matches('.')).copied();
            match (field.r#type(), number) {
                (Type::Message, Some(number)) if is_list => Some(Made::Many(number)),
                (Type::Message, Some(number)) => Some(Made::One(number)),
                (Type::String | Type::Bytes, _) => Some(Made::Bytes),
                _ => is_list.then_some(Made::Numbers),
            }
        };
        let kinds = messages.iter().map(|(_, message)| Kind {
            size: 0,
            fields: message
                .field
                .iter()
                .filter_map(|field| Some((u32::try_from(field.number()).ok()?, made(field)?)))
                .collect(),
        });
        let mut kinds: Vec<_> = kinds.collect();
        // From the leaves up. That no message is inside itself is tested.
        for _ in 0..DEPTH_MAX {
            let sizes: Vec<_> = messages
                .iter()
                .zip(&kinds)
                .map(|((_, message), kind)| {
                    let of = |made: Option<&Made>| match made {
                        Some(Made::One(number)) => {
                            8 + kinds.get(*number).map_or(0, |kind: &Kind| kind.size)
                        }
                        Some(Made::Many(_) | Made::Bytes | Made::Numbers) => POINTER,
                        None => 8,
                    };
                    let field = |field: &FieldDescriptorProto| {
                        of(u32::try_from(field.number()).ok().and_then(|it| kind.fields.get(&it)))
                    };
                    // Of the alternatives there is room for the largest.
                    let (mut all, mut choices) = (0, HashMap::<i32, usize>::new());
                    for it in &message.field {
                        match it.oneof_index {
                            Some(index) => {
                                let largest = choices.entry(index).or_default();
                                *largest = field(it).max(*largest);
                            }
                            None => all += field(it),
                        }
                    }
                    all + choices.values().map(|size| size + 8).sum::<usize>()
                })
                .collect();
            let same = sizes.iter().zip(&kinds).all(|(size, kind)| *size == kind.size);
            for (kind, size) in kinds.iter_mut().zip(sizes) {
                kind.size = size;
            }
            if same {
                break;
            }
        }
        Self { names, kinds }
    }
}

/// All messages with their full names, those inside others too, as the entries of maps are.
fn with_inner<'a>(
    outer: &str,
    messages: &'a [DescriptorProto],
    all: &mut Vec<(String, &'a DescriptorProto)>,
) {
    for message in messages {
        let name = format!("{outer}.{}", message.name());
        with_inner(&name, &message.nested_type, all);
        all.push((name, message));
    }
}

/// What has been reckoned so far.
struct Memory {
    taken: usize,
    most: usize,
}

impl Memory {
    fn take(&mut self, bytes: usize) -> bool {
        self.taken += bytes;
        self.taken <= self.most
    }

    /// Whether the message may be read. One that is broken is, up to there: prost stops there too, and says why.
    fn message(&mut self, kind: &Kind, mut bytes: &[u8], depth: usize) -> bool {
        while !bytes.is_empty() {
            let Ok((field, wire)) = decode_key(&mut bytes) else { return true };
            let made = kind.fields.get(&field);
            if wire != WireType::LengthDelimited {
                let of_list = made.is_none_or(|made| self.take(number_of_list(*made)));
                let skipped = skip_field(wire, field, &mut bytes, DecodeContext::default());
                match (of_list, skipped) {
                    (false, _) => return false,
                    (true, Err(_)) => return true,
                    (true, Ok(())) => continue,
                }
            }
            let length = decode_varint(&mut bytes).ok().and_then(|length| length.try_into().ok());
            let Some((part, rest)) = length.and_then(|length| bytes.split_at_checked(length))
            else {
                return true;
            };
            bytes = rest;
            let inside = |memory: &mut Self, number: usize, size_counts: bool| {
                let Some(kind) = KINDS.kinds.get(number) else { return true };
                depth >= DEPTH_MAX
                    || (memory.take(if size_counts { kind.size } else { 0 })
                        && memory.message(kind, part, depth + 1))
            };
            let may = match made {
                Some(Made::One(number)) => inside(self, *number, false),
                Some(Made::Many(number)) => inside(self, *number, true),
                Some(Made::Bytes) => self.take(POINTER + part.len()),
                Some(Made::Numbers) => self.take(part.len() * 8),
                None => true,
            };
            if !may {
                return false;
            }
        }
        true
    }
}

/// What a number takes that stands by itself.
const fn number_of_list(made: Made) -> usize {
    match made {
        Made::Numbers => 8,
        Made::One(_) | Made::Many(_) | Made::Bytes => 0,
    }
}

/// The codec of all services of this project, by which the generated code reads and writes.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Measured<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Measured(ProstCodec::<T, U>::default().decoder())
    }
}

/// Reads only what does not take too much memory.
#[derive(Debug)]
pub(crate) struct Measured<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for Measured<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Tonic has the whole message in one piece; what is in no piece would not be read below.
        let whole = bytes.chunk();
        if whole.len() != bytes.remaining() {
            return Err(Status::internal("the message is in pieces"));
        }
        check(&U::full_name(), whole)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        self.0.decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{agent::v1 as agent, session::v1 as session, sync::v1 as pb};

    fn request(rows: usize, reigns: usize) -> pb::WitnessRequest {
        let (rows, history) = (vec![pb::Row::default(); rows], vec![pb::Reign::default(); reigns]);
        let window = pb::Window { rows, history, ..pb::Window::default() };
        let accept = pb::WitnessAccept { window: Some(window), ..pb::WitnessAccept::default() };
        let kind = Some(pb::witness_request::Kind::Accept(accept));
        pb::WitnessRequest { lineage: "x".to_owned(), epoch: None, kind }
    }

    fn is_too_large<T: Message + Name + Default>(bytes: &[u8]) -> bool {
        matches!(read::<T>(bytes), Err(Unreadable::Size { .. }))
    }

    #[test]
    fn a_message_that_is_far_larger_than_it_looks_is_not_read() {
        let small = request(3, 2);
        assert_eq!(read(&small.encode_to_vec()), Ok(small));
        let large = request(1 << 20, 1).encode_to_vec();
        assert!(large.len() < 3 << 20);
        assert!(is_too_large::<pb::WitnessRequest>(&large));
        // In several windows, which are read as one.
        let half = request(100_000, 0).encode_to_vec();
        read::<pb::WitnessRequest>(&half).unwrap();
        assert!(is_too_large::<pb::WitnessRequest>(&half.repeat(10)));
        // In an answer, an inventory, a list of names, and numbers.
        let rows = pb::Window { rows: vec![pb::Row::default(); 1 << 20], ..pb::Window::default() };
        assert!(is_too_large::<pb::Window>(&rows.encode_to_vec()));
        let sessions = vec![session::LiveSession::default(); 1 << 20];
        let inventory = agent::Inventory { sessions, ..agent::Inventory::default() };
        let item = Some(agent::report_response::Item::Inventory(inventory));
        let report = agent::ReportResponse { item }.encode_to_vec();
        assert!(is_too_large::<agent::ReportResponse>(&report));
    }

    /// The smallest rows that brokers write, as many as fit into a message: those of sessions that are gone.
    #[test]
    fn what_says_something_is_read_however_much_it_is() {
        let id = "01900000-0000-7000-8000-000000000000".to_owned();
        let row = pb::SessionRow { id, ..pb::SessionRow::default() };
        let row = pb::Row { kind: Some(pb::row::Kind::Session(row)) };
        let rows = vec![row; 600_000];
        let window = pb::Window { rows, ..pb::Window::default() }.encode_to_vec();
        assert!(window.len() < 64 << 20, "{}", window.len());
        assert_eq!(read::<pb::Window>(&window).map(|window| window.rows.len()), Ok(600_000));
    }

    #[test]
    fn what_is_reckoned_is_what_it_takes() {
        fn about<T: Name>() {
            let kind = &KINDS.kinds[KINDS.names[&T::full_name()]];
            let (reckoned, real) = (kind.size, size_of::<T>());
            assert!(
                reckoned >= real * 3 / 4 && reckoned <= real * 2,
                "{}: reckoned {reckoned}, takes {real}",
                T::full_name()
            );
        }
        about::<pb::Row>();
        about::<pb::Window>();
        about::<pb::WitnessResponse>();
        about::<session::Session>();
        about::<session::LiveSession>();
        about::<agent::Inventory>();
        about::<agent::StartRequest>();
        about::<pb::Event>();
    }

    #[test]
    fn no_message_is_inside_itself() {
        fn ends(number: usize, above: &[usize]) -> bool {
            !above.contains(&number)
                && KINDS.kinds[number].fields.values().all(|made| match made {
                    Made::One(inner) | Made::Many(inner) => {
                        ends(*inner, &[above, &[number]].concat())
                    }
                    Made::Bytes | Made::Numbers => true,
                })
        }
        assert!(KINDS.kinds.len() > 100, "{}", KINDS.kinds.len());
        assert!((0..KINDS.kinds.len()).all(|number| ends(number, &[])));
    }

    #[test]
    fn what_is_no_message_is_told_by_the_reader() {
        for bytes in [&b"\xff"[..], b"\x22\x05", b"\x22\x02\x12\x09", b"\x0b", &[0x22; 100]] {
            for bytes in
                [bytes.to_vec(), [request(70_000, 0).encode_to_vec(), bytes.to_vec()].concat()]
            {
                let read = read::<pb::WitnessRequest>(&bytes);
                assert!(matches!(read, Err(Unreadable::Message(_))), "{bytes:?}");
            }
        }
    }
}
