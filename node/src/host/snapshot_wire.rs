//! What members say to each other to move a snapshot: the one place where those bytes are decoded.
//!
//! A version byte, then postcard. Every length is bounded before it is believed; the bytes of the
//! file itself are checked by whoever appends them, block by block, and again as a whole.

use bytes::Bytes;
use meshraft_consensus::{Position, Term};
use meshraft_storage::SnapshotId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const VERSION: u8 = 1;
/// The most bytes of a file that one reply carries.
pub(super) const CHUNK_BYTES_MAX: u32 = 256 * 1024;
/// Everything in a reply but the bytes of the file.
const OVERHEAD_BYTES: usize = 128;

/// Asks a member for a part of a snapshot's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchRequest {
    /// Which snapshot.
    pub(super) position: Position,
    /// Whose file; `None` if any will do.
    pub(super) id: Option<SnapshotId>,
    /// The first byte.
    pub(super) offset: u64,
    /// How many bytes at most.
    pub(super) bytes_max: u32,
}

/// The answer to a [`FetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FetchReply {
    /// The term that the answering member is in.
    pub(super) term: Term,
    /// The part, or why there is none.
    pub(super) body: FetchBody,
}

/// What a [`FetchReply`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchBody {
    /// Bytes of the file; none after its end.
    Chunk {
        /// Whose file.
        id: SnapshotId,
        /// How long it is.
        total: u64,
        /// Where the bytes lie in it.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// There is no such snapshot here any more.
    Gone,
    /// The file at that position is another one.
    OtherId,
    /// Too much is asked at this moment: try again.
    Busy,
}

/// Bytes that are no message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum FetchWireError {
    /// Of a version that this build does not know.
    #[error("version {version} of the snapshot protocol is not known")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// Longer than any message.
    #[error("{bytes} bytes are more than a message has")]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// Not decodable, or with bytes left over.
    #[error("the message is malformed")]
    Malformed,
}

/// The order of the fields is the wire format.
#[derive(Serialize, Deserialize)]
struct WireRequest {
    position: Position,
    id: Option<[u8; 16]>,
    offset: u64,
    bytes_max: u32,
}

/// The order of fields and variants is the wire format.
#[derive(Serialize, Deserialize)]
struct WireReply {
    term: Term,
    body: WireBody,
}

#[derive(Serialize, Deserialize)]
enum WireBody {
    Chunk { id: [u8; 16], total: u64, offset: u64, bytes: Bytes },
    Gone,
    OtherId,
    Busy,
}

impl FetchRequest {
    pub(super) fn encode(&self) -> Bytes {
        let Self { position, id, offset, bytes_max } = *self;
        let id = id.map(|id| *id.as_bytes());
        encode(&WireRequest { position, id, offset, bytes_max }, 0)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FetchWireError> {
        let WireRequest { position, id, offset, bytes_max } = decode(bytes, OVERHEAD_BYTES)?;
        let bytes_max = bytes_max.min(CHUNK_BYTES_MAX);
        Ok(Self { position, id: id.map(SnapshotId::new), offset, bytes_max })
    }
}

impl FetchReply {
    pub(super) fn encode(&self) -> Bytes {
        let (body, length) = match &self.body {
            FetchBody::Chunk { id, total, offset, bytes } => {
                let (id, bytes) = (*id.as_bytes(), bytes.clone());
                let length = bytes.len();
                (WireBody::Chunk { id, total: *total, offset: *offset, bytes }, length)
            }
            FetchBody::Gone => (WireBody::Gone, 0),
            FetchBody::OtherId => (WireBody::OtherId, 0),
            FetchBody::Busy => (WireBody::Busy, 0),
        };
        encode(&WireReply { term: self.term, body }, length)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FetchWireError> {
        let WireReply { term, body } = decode(bytes, CHUNK_BYTES_MAX as usize + OVERHEAD_BYTES)?;
        let body = match body {
            WireBody::Chunk { id, total, offset, bytes } => {
                FetchBody::Chunk { id: SnapshotId::new(id), total, offset, bytes }
            }
            WireBody::Gone => FetchBody::Gone,
            WireBody::OtherId => FetchBody::OtherId,
            WireBody::Busy => FetchBody::Busy,
        };
        Ok(Self { term, body })
    }
}

fn encode<T: Serialize>(message: &T, payload_bytes: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(OVERHEAD_BYTES + payload_bytes);
    bytes.push(VERSION);
    // Serialising into memory has no way to fail; an empty message would be refused as malformed.
    postcard::to_extend(message, bytes).unwrap_or_default().into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, FetchWireError> {
    if bytes.len() > bytes_max {
        return Err(FetchWireError::TooLong { bytes: bytes.len() });
    }
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            _ => Err(FetchWireError::Malformed),
        },
        Some((&version, _)) => Err(FetchWireError::Version { version }),
        None => Err(FetchWireError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::Index;

    use super::*;

    #[test]
    fn messages_survive_their_encoding_and_others_are_refused() {
        let id = SnapshotId::new([7; 16]);
        let position = Position::new(Term::new(u64::MAX), Index::new(u64::MAX));
        let request = FetchRequest { position, id: Some(id), offset: u64::MAX, bytes_max: 5 };
        assert_eq!(FetchRequest::decode(&request.encode()), Ok(request));
        let greedy = FetchRequest { bytes_max: u32::MAX, ..request };
        let read = FetchRequest::decode(&greedy.encode()).unwrap();
        assert_eq!(read.bytes_max, CHUNK_BYTES_MAX, "what is asked for is bounded");

        let bytes = Bytes::from(vec![3; CHUNK_BYTES_MAX as usize]);
        let chunk = FetchBody::Chunk { id, total: u64::MAX, offset: u64::MAX, bytes };
        for body in [chunk, FetchBody::Gone, FetchBody::OtherId, FetchBody::Busy] {
            let reply = FetchReply { term: Term::new(u64::MAX), body };
            let encoded = reply.encode();
            assert_eq!(FetchReply::decode(&encoded), Ok(reply));
            let cut = &encoded[..encoded.len() - 1];
            assert_eq!(FetchReply::decode(cut), Err(FetchWireError::Malformed));
            let longer = [&encoded[..], &[0]].concat();
            assert!(FetchReply::decode(&longer).is_err());
        }
        assert_eq!(FetchReply::decode(&[2, 0]), Err(FetchWireError::Version { version: 2 }));
        assert_eq!(FetchRequest::decode(&[0; 200]), Err(FetchWireError::TooLong { bytes: 200 }));
        assert_eq!(FetchRequest::decode(&[]), Err(FetchWireError::Malformed));
    }
}
