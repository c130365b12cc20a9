//! What the bytes of a command entry are: postcard of one enum, final from the first release.
//!
//! Kinds are only ever appended. A kind or version that this build does not know is named as such,
//! so that a replica halts before the entry instead of stepping over it. The payload is not copied:
//! it shares the entry's bytes.

use bytes::Bytes;
use meshraft_consensus::ClusterVersion;
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, WireError},
    session::{Sequence, SessionId},
};

/// The version of user commands that this build writes and the only one that it knows.
pub const USER_VERSION: u8 = 1;

/// The newest version of commands that this build understands: the largest that any kind of command
/// needs, of [`Envelope::needs`] and of the machines of this build.
pub const VERSION_LATEST: ClusterVersion = ClusterVersion::BASELINE;

/// How many kinds this build knows.
const KINDS: u32 = 2;
const USER: u32 = 0;

/// One command of the log. Later kinds (expiry, dissolution) are appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Envelope {
    /// A command for the state machine.
    User(UserCommand),
    /// Every member supports this version: it is in force from here on, unless a later one is.
    ClusterVersion(ClusterVersion),
}

/// A command for the state machine, and what makes it apply once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCommand {
    /// [`USER_VERSION`].
    pub version: u8,
    /// The session, [`SessionId::NONE`] if the caller has none.
    pub session: SessionId,
    /// The command's number in its session, from 1; 0 without a session.
    pub sequence: Sequence,
    /// The caller has the answers to all sequences below this one.
    pub acked_below: Sequence,
    /// The log's time as the proposing leader knew it.
    pub log_time_ms: u64,
    /// What the state machine gets.
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct UserHeader {
    session: SessionId,
    sequence: Sequence,
    acked_below: Sequence,
    log_time_ms: u64,
}

impl Envelope {
    /// The bytes of the entry.
    pub fn encode(&self) -> Bytes {
        let payload_bytes = match self {
            Self::User(user) => user.payload.len(),
            Self::ClusterVersion(_) => 0,
        };
        let bytes = Vec::with_capacity(payload_bytes.saturating_add(64));
        postcard::to_extend(self, bytes)
            .expect("postcard fails only on values without a known length, which we have none of")
            .into()
    }

    /// Which version has to be in force before a command of this kind may be proposed. What the
    /// payload of a user command needs beyond that, its machine says.
    pub const fn needs(&self) -> ClusterVersion {
        match self {
            // Every member has to understand what raises the version.
            Self::User(_) | Self::ClusterVersion(_) => ClusterVersion::BASELINE,
        }
    }

    /// Reads the bytes of an entry; the payload shares them.
    ///
    /// # Errors
    /// [`WireError::Kind`] and [`WireError::Version`] for what a later build may have written,
    /// [`WireError::Malformed`] for anything that [`Envelope::encode`] does not produce.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let (kind, rest) = take::<u32>(bytes)?;
        if kind >= KINDS {
            return Err(WireError::Kind { kind });
        }
        if kind != USER {
            return codec::whole(rest).map(Self::ClusterVersion);
        }
        let (version, rest) = take::<u8>(rest)?;
        if version != USER_VERSION {
            return Err(WireError::Version { version });
        }
        let (header, rest) = take::<UserHeader>(rest)?;
        let payload: &[u8] = codec::whole_borrowed(rest)?;
        Ok(Self::User(UserCommand {
            version,
            session: header.session,
            sequence: header.sequence,
            acked_below: header.acked_below,
            log_time_ms: header.log_time_ms,
            payload: bytes.slice_ref(payload),
        }))
    }
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), WireError> {
    postcard::take_from_bytes(bytes).map_err(|_| WireError::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(payload: &[u8]) -> Envelope {
        Envelope::User(UserCommand {
            version: USER_VERSION,
            session: SessionId::new([7; 16]),
            sequence: Sequence::new(300),
            acked_below: Sequence::new(299),
            log_time_ms: 1 << 40,
            payload: Bytes::copy_from_slice(payload),
        })
    }

    #[test]
    fn the_bytes_are_fixed_for_ever() {
        let mut expected = vec![0, 1];
        expected.extend([7; 16]);
        expected
            .extend([0xac, 0x02, 0xab, 0x02, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 2, b'h', b'i']);
        assert_eq!(user(b"hi").encode(), expected);
    }

    #[test]
    fn a_version_is_these_bytes() {
        let raised = |number| Envelope::ClusterVersion(ClusterVersion::new(number));
        assert_eq!(raised(2).encode(), [1, 2].as_slice());
        assert_eq!(raised(300).encode(), [1, 0xac, 0x02].as_slice());
        assert_eq!(Envelope::decode(&raised(300).encode()), Ok(raised(300)));
        for bad in [&[1][..], &[1, 0x80], &[1, 2, 0], &[1, 0xff, 0xff, 0xff]] {
            let bytes = Bytes::copy_from_slice(bad);
            assert_eq!(Envelope::decode(&bytes), Err(WireError::Malformed), "{bad:?}");
        }
    }

    /// The command that raises the version needs none itself, and nothing needs more than this
    /// build supports.
    #[test]
    fn no_kind_needs_what_this_build_lacks() {
        let raise = Envelope::ClusterVersion(VERSION_LATEST);
        assert_eq!(raise.needs(), ClusterVersion::BASELINE);
        assert!(user(b"").needs() <= VERSION_LATEST);
    }

    #[test]
    fn what_a_later_build_wrote_is_named() {
        let mut bytes = user(b"hi").encode().to_vec();
        bytes[1] = 2;
        assert_eq!(Envelope::decode(&bytes.into()), Err(WireError::Version { version: 2 }));
        let later = Bytes::from_static(&[3, 1, 0]);
        assert_eq!(Envelope::decode(&later), Err(WireError::Kind { kind: 3 }));
        assert_eq!(Envelope::decode(&Bytes::new()), Err(WireError::Malformed));
    }

    #[test]
    fn the_payload_is_not_copied() {
        let bytes = user(b"payload").encode();
        let Ok(Envelope::User(decoded)) = Envelope::decode(&bytes) else { panic!() };
        let (start, end) = (bytes.as_ptr() as usize, bytes.as_ptr() as usize + bytes.len());
        assert!((start..end).contains(&(decoded.payload.as_ptr() as usize)));
    }

    proptest! {
        #[test]
        fn the_reader_agrees_with_postcard(
            session: [u8; 16], sequence: u64, acked: u64, log_time_ms: u64, payload: Vec<u8>,
        ) {
            let envelope = Envelope::User(UserCommand {
                version: USER_VERSION,
                session: SessionId::new(session),
                sequence: Sequence::new(sequence),
                acked_below: Sequence::new(acked),
                log_time_ms,
                payload: payload.into(),
            });
            let bytes = envelope.encode();
            prop_assert_eq!(postcard::from_bytes::<Envelope>(&bytes), Ok(envelope.clone()));
            prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>, cut in 0_usize..40) {
            let _ = Envelope::decode(&bytes.into());
            let whole = user(b"some payload").encode();
            prop_assert_eq!(
                Envelope::decode(&whole.slice(..cut.min(whole.len() - 1))).is_err(), true
            );
        }
    }
}
