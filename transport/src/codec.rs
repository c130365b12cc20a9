//! The one place where bytes become messages of consensus, and messages bytes.
//!
//! A message is `{version u8 = 1, kind u8, rest}`; the rest of kind 1 is postcard of the consensus
//! message, kind 5 an id and a reason, the others carry opaque bytes, after an id where they have
//! one.

use bytes::Bytes;
use meshraft_consensus::Message;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 2;
const ID_BYTES: usize = 8;
const PROOF: u8 = 0;
const CONSENSUS: u8 = 1;
const OPAQUE: u8 = 2;
const REQUEST: u8 = 3;
const REPLY: u8 = 4;
const UNANSWERED: u8 = 5;

/// What travels on a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// Nothing but the seal around it: the sender holds the key.
    Proof,
    /// A message of consensus.
    Consensus(Message),
    /// Bytes for a layer above.
    Opaque(Bytes),
    /// A request.
    Request { id: u64, payload: Bytes },
    /// The answer to the request of that id.
    Reply { id: u64, payload: Bytes },
    /// There will be no answer to the request of that id.
    Unanswered { id: u64, why: Unanswered },
}

/// Why a request is not answered. The numbers are the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There was no room for its reply: it was not taken.
    Overloaded = 0,
    /// Its reply is larger than a message may be.
    TooLarge = 1,
    /// More bytes of replies would wait than are held.
    NoRoom = 2,
}

impl Unanswered {
    const ALL: [Self; 3] = [Self::Overloaded, Self::TooLarge, Self::NoRoom];
}

impl Packet {
    /// About how many bytes it takes; exact but for messages of consensus.
    pub(crate) fn cost_bytes(&self) -> usize {
        HEAD_BYTES
            + match self {
                Self::Proof => 0,
                Self::Consensus(Message::AppendRequest(append)) => {
                    let entries: u64 = append.entries.iter().map(|entry| entry.cost_bytes()).sum();
                    usize::try_from(entries).unwrap_or(usize::MAX / 2).saturating_add(64)
                }
                Self::Consensus(_) => 64,
                Self::Opaque(bytes) => bytes.len(),
                Self::Request { payload, .. } | Self::Reply { payload, .. } => {
                    ID_BYTES + payload.len()
                }
                Self::Unanswered { .. } => ID_BYTES + 1,
            }
    }

    /// Its bytes.
    pub(crate) fn encode(&self, bytes_max: usize) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::with_capacity(self.cost_bytes().min(bytes_max));
        out.push(VERSION);
        match self {
            Self::Proof => out.push(PROOF),
            Self::Consensus(message) => {
                out.push(CONSENSUS);
                out = postcard::to_extend(message, out)
                    .map_err(|source| EncodeError::Postcard { source })?;
            }
            Self::Opaque(bytes) => {
                out.push(OPAQUE);
                out.extend_from_slice(bytes);
            }
            Self::Request { id, payload } => put(&mut out, REQUEST, *id, payload),
            Self::Reply { id, payload } => put(&mut out, REPLY, *id, payload),
            Self::Unanswered { id, why } => put(&mut out, UNANSWERED, *id, &[*why as u8]),
        }
        if out.len() > bytes_max {
            return Err(EncodeError::TooLarge { bytes: out.len(), bytes_max });
        }
        Ok(out)
    }

    /// What these bytes say. Allocates no more than they hold.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(DecodeError::Truncated)?;
        let [version, kind] = *head;
        if version != VERSION {
            return Err(DecodeError::Version { version });
        }
        match kind {
            PROOF if rest.is_empty() => Ok(Self::Proof),
            PROOF => Err(DecodeError::Trailing),
            CONSENSUS => match postcard::take_from_bytes(rest) {
                Ok((message, [])) => Ok(Self::Consensus(message)),
                Ok(_) => Err(DecodeError::Trailing),
                Err(source) => Err(DecodeError::Postcard { source }),
            },
            OPAQUE => Ok(Self::Opaque(Bytes::copy_from_slice(rest))),
            REQUEST => take(rest).map(|(id, payload)| Self::Request { id, payload }),
            REPLY => take(rest).map(|(id, payload)| Self::Reply { id, payload }),
            UNANSWERED => take_unanswered(rest),
            _ => Err(DecodeError::Kind { kind }),
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, id: u64, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

fn take(rest: &[u8]) -> Result<(u64, Bytes), DecodeError> {
    let (id, payload) = rest.split_first_chunk::<ID_BYTES>().ok_or(DecodeError::Truncated)?;
    Ok((u64::from_be_bytes(*id), Bytes::copy_from_slice(payload)))
}

fn take_unanswered(rest: &[u8]) -> Result<Packet, DecodeError> {
    let (id, rest) = rest.split_first_chunk::<ID_BYTES>().ok_or(DecodeError::Truncated)?;
    let id = u64::from_be_bytes(*id);
    match rest {
        [] => Err(DecodeError::Truncated),
        [reason] => {
            let why = Unanswered::ALL.into_iter().find(|why| *why as u8 == *reason);
            why.map(|why| Packet::Unanswered { id, why })
                .ok_or(DecodeError::Reason { reason: *reason })
        }
        _ => Err(DecodeError::Trailing),
    }
}

/// Why a message can't be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("a message of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the message can't be encoded")]
    Postcard { source: postcard::Error },
}

/// Why bytes are no message; the handle that brought them is closed, alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("a message ends too early")]
    Truncated,
    /// A version that this node does not speak.
    #[error("a message of version {version}")]
    Version {
        /// What it says.
        version: u8,
    },
    /// A kind that no version defines.
    #[error("a message of kind {kind}")]
    Kind {
        /// What it says.
        kind: u8,
    },
    /// A reason that no version defines.
    #[error("a request unanswered for reason {reason}")]
    Reason {
        /// What it says.
        reason: u8,
    },
    /// Bytes are left over.
    #[error("a message has bytes left over")]
    Trailing,
    /// No message of consensus.
    #[error("a message of consensus can't be decoded")]
    Postcard {
        /// What the decoder said.
        source: postcard::Error,
    },
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{AppendRequest, Entry, EntryKind, Heartbeat, Index, Position, Term};
    use proptest::prelude::*;

    use super::*;

    fn append() -> Packet {
        let position = Position::new(Term::new(3), Index::new(8));
        let bytes = Bytes::from_static(b"payload");
        Packet::Consensus(Message::AppendRequest(AppendRequest {
            term: Term::new(3),
            sequence: 1,
            previous: Position::new(Term::new(2), Index::new(7)),
            commit: Index::new(6),
            entries: vec![Entry { position, kind: EntryKind::Command, bytes }],
        }))
    }

    #[test]
    fn the_bytes_are_these() {
        let beat = Heartbeat {
            term: Term::new(5),
            commit: Position::new(Term::new(5), Index::new(4)),
            round: 300,
        };
        let goldens: [(Packet, &[u8]); 6] = [
            (Packet::Proof, b"\x01\x00"),
            (Packet::Consensus(Message::Heartbeat(beat)), b"\x01\x01\x02\x05\x05\x04\xac\x02"),
            (Packet::Opaque(Bytes::from_static(b"ab")), b"\x01\x02ab"),
            (
                Packet::Request { id: 258, payload: Bytes::from_static(b"q") },
                b"\x01\x03\0\0\0\0\0\0\x01\x02q",
            ),
            (Packet::Reply { id: 1, payload: Bytes::new() }, b"\x01\x04\0\0\0\0\0\0\0\x01"),
            (
                Packet::Unanswered { id: 1, why: Unanswered::NoRoom },
                b"\x01\x05\0\0\0\0\0\0\0\x01\x02",
            ),
        ];
        for (packet, bytes) in goldens {
            assert_eq!(packet.encode(100).unwrap(), bytes);
            assert_eq!(Packet::decode(bytes), Ok(packet));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_by_name() {
        let beat = append().encode(1000).unwrap();
        assert_eq!(Packet::decode(&beat), Ok(append()));
        assert_eq!(Packet::decode(&[1]), Err(DecodeError::Truncated));
        assert_eq!(Packet::decode(&[2, 0]), Err(DecodeError::Version { version: 2 }));
        assert_eq!(Packet::decode(&[1, 9]), Err(DecodeError::Kind { kind: 9 }));
        assert_eq!(Packet::decode(&[1, 3, 0]), Err(DecodeError::Truncated));
        assert_eq!(Packet::decode(&[1, 0, 0]), Err(DecodeError::Trailing));
        let reason = Packet::decode(b"\x01\x05\0\0\0\0\0\0\0\x01\x03");
        assert_eq!(reason, Err(DecodeError::Reason { reason: 3 }));
        let longer = [beat.as_slice(), &[0]].concat();
        assert_eq!(Packet::decode(&longer), Err(DecodeError::Trailing));
        for length in HEAD_BYTES..beat.len() {
            assert!(Packet::decode(&beat[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(
            append().encode(10),
            Err(EncodeError::TooLarge { bytes: beat.len(), bytes_max: 10 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(packet) = Packet::decode(&bytes) {
                prop_assert_eq!(Packet::decode(&packet.encode(1000).unwrap()), Ok(packet));
            }
        }
    }
}
