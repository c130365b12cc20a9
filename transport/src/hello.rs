//! The greeting: what stands on handle zero.
//!
//! A hello names an open namespace by the hash of its name, and says in clear what its sender is
//! there. Under a key the hello shows a tag in place of the hash, and what the sender is follows
//! sealed: to peers without the key both are noise. The answer gives a handle. Both carry
//! randomness, and the transcript of both goes into the keys of a sealed handle: whoever alters a
//! fact makes the proof fail.

use meshraft_consensus::Namespace;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{bounded, error::Refusal, introduction::Introduction, tag::Tag};

/// The oldest protocol version that this node speaks.
pub(crate) const VERSION_OLDEST: u16 = 2;
/// The newest protocol version that this node speaks.
pub(crate) const VERSION_NEWEST: u16 = 2;
/// The most bytes of a greeting: a hello with [`meshraft_consensus::Card::KEPT_MAX`] cards. One
/// without cards has less than 1 KiB.
pub(crate) const GREETING_BYTES_MAX: usize = 16 * 1024;
/// The format of greetings. All versions of the protocol share it: a hello begins with its range of
/// versions in each of them, so that a peer of another version is refused by name.
const FORMAT: u8 = 1;

/// SHA-256 of a namespace's length-prefixed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NamespaceHash([u8; 32]);

impl NamespaceHash {
    pub(crate) fn of(namespace: &Namespace) -> Self {
        let name = namespace.as_str().as_bytes();
        Self(sha256(&[&(name.len() as u64).to_be_bytes(), name]))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// SHA-256 of the concatenation of `parts`.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

/// Which namespace a hello is for, and what its sender is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Space {
    /// An open one.
    Open {
        /// The hash of its name.
        namespace: NamespaceHash,
        /// In clear.
        introduction: Introduction,
    },
    /// One that has a key.
    Keyed {
        /// A MAC in place of the name.
        tag: Tag,
        /// The introduction, sealed.
        #[serde(deserialize_with = "bounded::list::<GREETING_BYTES_MAX, _, _>")]
        sealed: Vec<u8>,
    },
}

/// Asks for a handle. The range of versions stands first in every version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The oldest version that the sender speaks.
    pub(crate) oldest: u16,
    /// The newest version that the sender speaks.
    pub(crate) newest: u16,
    /// Fresh randomness.
    pub(crate) random: [u8; 32],
    /// Which namespace.
    pub(crate) space: Space,
}

/// The clear bytes of a hello that its sealed introduction is bound to.
pub(crate) fn clear_of_hello(oldest: u16, newest: u16, tag: &Tag) -> [u8; 36] {
    let parts = oldest.to_be_bytes().into_iter().chain(newest.to_be_bytes());
    let mut clear = [0; 36];
    clear.iter_mut().zip(parts.chain(*tag.as_bytes())).for_each(|(to, from)| *to = from);
    clear
}

/// What an answer says of its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// In an open namespace.
    Clear(Introduction),
    /// In one that has a key.
    Sealed(#[serde(deserialize_with = "bounded::list::<GREETING_BYTES_MAX, _, _>")] Vec<u8>),
}

/// Gives a handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The version that both speak.
    pub(crate) version: u16,
    /// The handle, never used before on this stream.
    pub(crate) handle: u32,
    /// Fresh randomness.
    pub(crate) random: [u8; 32],
    /// What the sender is.
    pub(crate) said: Said,
}

/// The clear bytes of an answer that its sealed introduction is bound to.
pub(crate) fn clear_of_answer(version: u16, handle: u32) -> [u8; 6] {
    let mut clear = [0; 6];
    let parts = version.to_be_bytes().into_iter().chain(handle.to_be_bytes());
    clear.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    clear
}

/// Why a handle is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Closing {
    /// The facts that it was bound to changed; a new hello is welcome.
    Changed,
    /// The namespace is closed at the sender.
    Gone,
    /// The seal, or what was in it, was not accepted.
    Refused(Refusal),
}

/// Everything that handle zero carries. The order of the variants is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Greeting {
    /// From the stream's opener; answered under the same message number.
    Hello(Hello),
    /// To the opener.
    Answer(Answer),
    /// To the opener: no handle.
    Refused(Refusal),
    /// From either end: this handle carries nothing any more.
    Close {
        /// The handle.
        handle: u32,
        /// Why.
        why: Closing,
    },
    /// From the opener: are you there?
    Ping(u64),
    /// To the opener: the ping of this number arrived.
    Pong(u64),
    /// From the opener, once and before anything else: fresh randomness, which every tag of the
    /// stream is made with.
    Begin([u8; 32]),
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT]).expect("a vector takes any bytes")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, GreetingError> {
        if bytes.len() > GREETING_BYTES_MAX {
            return Err(GreetingError::TooLong { bytes: bytes.len() });
        }
        let (format, rest) = bytes.split_first().ok_or(GreetingError::Malformed)?;
        if *format != FORMAT {
            return Err(GreetingError::Format { format: *format });
        }
        check_versions(rest)?;
        match postcard::take_from_bytes(rest) {
            Ok((greeting, [])) if Self::is_well_formed(&greeting) => Ok(greeting),
            Ok(_) | Err(_) => Err(GreetingError::Malformed),
        }
    }

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Hello(Hello { space: Space::Open { introduction, .. }, .. })
            | Self::Answer(Answer { said: Said::Clear(introduction), .. }) => {
                introduction.is_well_formed()
            }
            _ => true,
        }
    }
}

/// Finds a hello of other versions before the rest is read, which may be different there.
fn check_versions(rest: &[u8]) -> Result<(), GreetingError> {
    const HELLO: u8 = 0;
    let Some((&HELLO, hello)) = rest.split_first() else { return Ok(()) };
    let (oldest, newest): (u16, u16) = match postcard::take_from_bytes(hello) {
        Ok((range, _)) => range,
        Err(_) => return Err(GreetingError::Malformed),
    };
    if oldest > VERSION_NEWEST || newest < VERSION_OLDEST {
        return Err(GreetingError::Version { oldest, newest });
    }
    Ok(())
}

/// The namespace that a hello of version 1 is for. Its hash stood in clear after the versions.
pub(crate) fn namespace_of_version_1(greeting: &[u8]) -> Option<NamespaceHash> {
    let (_, hello) = greeting.split_first_chunk::<2>()?;
    let (oldest, newest, hash): (u16, u16, NamespaceHash) =
        postcard::take_from_bytes(hello).ok()?.0;
    (oldest <= 1 && newest == 1).then_some(hash)
}

/// Why the bytes on handle zero are no greeting; the stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// More bytes than a greeting may have.
    #[error("a greeting of {bytes} bytes")]
    TooLong {
        /// Its size.
        bytes: usize,
    },
    /// A format that this node does not know.
    #[error("a greeting of format {format}")]
    Format {
        /// What it says.
        format: u8,
    },
    /// It can't be decoded.
    #[error("a greeting that can't be decoded")]
    Malformed,
    /// A hello of versions that this node does not speak. It is refused, and the stream goes on.
    #[error("a hello of the protocol versions {oldest} to {newest}")]
    Version {
        /// The oldest version that the sender speaks.
        oldest: u16,
        /// The newest version that the sender speaks.
        newest: u16,
    },
}

#[cfg(test)]
mod tests {
    use meshraft_consensus::{
        Card, CardError, ClusterId, ClusterVersion, Incarnation, Index, Member, NodeId, Signature,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::introduction::Facts;

    fn introduction() -> Introduction {
        let facts = Facts::Member {
            incarnation: Incarnation::new([0xdd; 16]),
            clusters: vec![ClusterId::new([0xcc; 32])],
            supports: ClusterVersion::new(3),
        };
        let scope = Some(ClusterId::new([0xcc; 32]));
        Introduction { scope, facts, committed: Index::new(5), cards: Vec::new() }
    }

    fn hello(introduction: Introduction) -> Hello {
        let space = Space::Open { namespace: NamespaceHash([0xaa; 32]), introduction };
        Hello { oldest: 2, newest: 2, random: [0xbb; 32], space }
    }

    fn card(byte: u8) -> Card {
        Card {
            cluster: ClusterId::new([byte; 32]),
            index: Index::new(u64::MAX),
            member: Member::new(NodeId::new([byte; 32]), Incarnation::new([byte; 16])),
            signer: NodeId::new([byte; 32]),
            signature: Signature::new(&[byte; 64]),
        }
    }

    #[test]
    fn an_open_hello_is_these_bytes() {
        let golden = [
            &[1, 0, 2, 2][..],
            &[0xbb; 32],
            &[0],
            &[0xaa; 32],
            &[1],
            &[0xcc; 32],
            &[1],
            &[0xdd; 16],
            &[1],
            &[0xcc; 32],
            &[3],
            &[5, 0],
        ]
        .concat();
        let greeting = Greeting::Hello(hello(introduction()));
        assert_eq!(greeting.encode(), golden);
        assert_eq!(Greeting::decode(&golden), Ok(greeting));
        assert_eq!(Greeting::Ping(300).encode(), [1, 4, 0xac, 2]);
        assert_eq!(Greeting::Refused(Refusal::KeyMismatch).encode(), [1, 2, 1]);
        let why = Refusal::NotAMember { index: Index::new(7) };
        assert_eq!(Greeting::Refused(why).encode(), [1, 2, 12, 7]);
        let why = Refusal::UnknownMember { index: Index::new(7), why: CardError::UnknownSigner };
        assert_eq!(Greeting::Refused(why).encode(), [1, 2, 13, 7, 7]);
        let close = Greeting::Close { handle: 7, why: Closing::Gone };
        assert_eq!(close.encode(), [1, 3, 7, 1]);
        assert_eq!(Greeting::Begin([9; 32]).encode(), [&[1, 6][..], &[9; 32]].concat());
    }

    #[test]
    fn a_hello_under_a_key_and_an_answer_are_these_bytes() {
        let space = Space::Keyed { tag: Tag::new([0xee; 32]), sealed: vec![0xff; 144] };
        let keyed = Greeting::Hello(Hello { space, ..hello(introduction()) });
        let golden =
            [&[1, 0, 2, 2][..], &[0xbb; 32], &[1], &[0xee; 32], &[0x90, 1], &[0xff; 144]].concat();
        assert_eq!(keyed.encode(), golden);
        let said = Said::Sealed(vec![0xff; 144]);
        let answer = Greeting::Answer(Answer { version: 2, handle: 7, random: [0xbb; 32], said });
        let golden = [&[1, 1, 2, 7][..], &[0xbb; 32], &[1], &[0x90, 1], &[0xff; 144]].concat();
        assert_eq!(answer.encode(), golden);
        let shown = Introduction { cards: vec![card(3)], ..introduction() };
        let bytes = Greeting::Hello(hello(shown)).encode();
        let card = [&[5, 1][..], &[3; 32], &[0xff; 9], &[1], &[3; 48], &[3; 32], &[3; 64]].concat();
        assert!(bytes.ends_with(&card), "{bytes:?}");
    }

    #[test]
    fn the_largest_greetings_fit() {
        let clusters: Vec<_> = (0..8).map(|byte| ClusterId::new([byte; 32])).collect();
        let (incarnation, supports) = (Incarnation::new([1; 16]), ClusterVersion::new(u16::MAX));
        let facts = Facts::Member { incarnation, clusters: clusters.clone(), supports };
        let committed = Index::new(u64::MAX);
        let largest = Introduction { facts, committed, ..introduction() };
        let sealed = |introduction: &Introduction| {
            let sealed = [introduction.to_padded(), vec![0; crate::seal::SEAL_BYTES]].concat();
            let space = Space::Keyed { tag: Tag::new([0xee; 32]), sealed };
            Greeting::Hello(Hello { space, ..hello(introduction.clone()) }).encode().len()
        };
        assert!(Greeting::Hello(hello(largest.clone())).encode().len() < 1_024);
        assert!(sealed(&largest) < 1_024);
        let cards = (0..Card::KEPT_MAX).map(|byte| card(byte as u8)).collect();
        let largest = Introduction { cards, ..largest };
        assert!(Greeting::Hello(hello(largest.clone())).encode().len() <= GREETING_BYTES_MAX);
        assert!(sealed(&largest) <= GREETING_BYTES_MAX);
        let why = Refusal::WrongCluster { asked: clusters[0], speaks_for: clusters };
        assert!(Greeting::Refused(why).encode().len() <= GREETING_BYTES_MAX);
    }

    #[test]
    fn what_is_no_greeting_is_refused_by_name() {
        let golden = Greeting::Hello(hello(introduction())).encode();
        for length in 1..golden.len() {
            assert_eq!(Greeting::decode(&golden[..length]), Err(GreetingError::Malformed));
        }
        assert_eq!(Greeting::decode(&[2, 0]), Err(GreetingError::Format { format: 2 }));
        let long = vec![1; GREETING_BYTES_MAX + 1];
        let bytes = long.len();
        assert_eq!(Greeting::decode(&long), Err(GreetingError::TooLong { bytes }));
        let refused = |introduction| {
            let bytes = Greeting::Hello(hello(introduction)).encode();
            assert_eq!(Greeting::decode(&bytes), Err(GreetingError::Malformed));
        };
        let facts = |clusters| Facts::Member {
            incarnation: Incarnation::new([1; 16]),
            clusters,
            supports: ClusterVersion::BASELINE,
        };
        let clusters = |count: u8| (0..count).map(|byte| ClusterId::new([byte; 32])).collect();
        let unsorted = facts(vec![ClusterId::new([1; 32]); 2]);
        refused(Introduction { facts: unsorted, ..introduction() });
        refused(Introduction { facts: facts(clusters(9)), ..introduction() });
        refused(Introduction { cards: vec![card(1); Card::KEPT_MAX + 1], ..introduction() });
        refused(Introduction { cards: vec![card(1)], scope: None, ..introduction() });
    }

    /// What a node of version 1 says to a peer: a member in cluster `cc`, under a key.
    fn hello_of_version_1() -> Vec<u8> {
        let parts = [
            &[1, 0, 1, 1][..],
            &[0xaa; 32],
            &[1, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0xbb; 32],
            &[1],
            &[0xcc; 32],
            &[1],
            &[0xdd; 16],
            &[1],
            &[0xcc; 32],
            &[3],
        ];
        parts.concat()
    }

    #[test]
    fn a_hello_of_other_versions_is_found_whatever_follows() {
        let old = hello_of_version_1();
        let version = |oldest, newest| Err(GreetingError::Version { oldest, newest });
        assert_eq!(Greeting::decode(&old), version(1, 1));
        assert_eq!(namespace_of_version_1(&old), Some(NamespaceHash([0xaa; 32])));
        assert_eq!(Greeting::decode(&[1, 0, 3, 9, 77]), version(3, 9));
        assert_eq!(namespace_of_version_1(&[1, 0, 3, 9, 77]), None);
        assert_eq!(Greeting::decode(&[1, 0, 1]), Err(GreetingError::Malformed));
    }

    #[test]
    fn a_namespace_is_hashed_with_its_length() {
        let hash = NamespaceHash::of(&Namespace::new("/jobs/cron").unwrap());
        let hex: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "49ac7b8ccb4256d8cc14f05ad4658a4627a99d76c68c1f3bd4b1b72efc2e1acd");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Ok(greeting) = Greeting::decode(&bytes) {
                prop_assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
            }
        }
    }
}
