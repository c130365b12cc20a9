//! The greeting: what stands on handle zero, in clear.
//!
//! A hello names a namespace by the hash of its name, so that a peer without it learns nothing
//! else of it. The answer gives a handle. Both carry randomness and facts, and the transcript of
//! both goes into the keys of a sealed handle: whoever alters a fact makes the proof fail.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, ClusterVersion, Incarnation, Namespace};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{
    error::Refusal,
    key::KeyId,
    types::{LocalRole, PeerFacts, PeerRole},
};

/// The oldest protocol version that this node speaks.
pub(crate) const VERSION_OLDEST: u16 = 1;
/// The newest protocol version that this node speaks.
pub(crate) const VERSION_NEWEST: u16 = 1;
/// The most bytes of a greeting.
pub(crate) const GREETING_BYTES_MAX: usize = 1024;
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

/// What one end says of itself in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Facts {
    /// It sends commands and holds nothing.
    Client,
    /// It holds a record.
    Member {
        /// The life of that record.
        incarnation: Incarnation,
        /// What it speaks for, ascending, at most [`LocalRole::CLUSTERS_MAX`].
        clusters: Vec<ClusterId>,
        /// The newest version of commands that it supports.
        supports: ClusterVersion,
    },
}

impl Facts {
    /// What a node in this role says on a handle of this scope. A handle of one cluster is bound to
    /// that cluster only, and one with a client to none: a change elsewhere does not close it.
    pub(crate) fn told(role: &LocalRole, scope: Option<ClusterId>, to_client: bool) -> Self {
        match role {
            LocalRole::Client => Self::Client,
            LocalRole::Member { incarnation, clusters, supports } => {
                let clusters = match scope {
                    Some(cluster) => vec![cluster],
                    None if to_client => Vec::new(),
                    None => clusters.iter().copied().take(LocalRole::CLUSTERS_MAX).collect(),
                };
                Self::Member { incarnation: *incarnation, clusters, supports: *supports }
            }
        }
    }

    pub(crate) const fn is_client(&self) -> bool {
        matches!(self, Self::Client)
    }

    pub(crate) const fn incarnation(&self) -> Option<Incarnation> {
        match self {
            Self::Client => None,
            Self::Member { incarnation, .. } => Some(*incarnation),
        }
    }

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Client => true,
            Self::Member { clusters, .. } => {
                clusters.len() <= LocalRole::CLUSTERS_MAX && clusters.is_sorted_by(|a, b| a < b)
            }
        }
    }
}

impl From<&Facts> for PeerFacts {
    fn from(facts: &Facts) -> Self {
        let (role, clusters, supports) = match facts {
            Facts::Client => (PeerRole::Client, BTreeSet::new(), None),
            Facts::Member { clusters, supports, .. } => {
                (PeerRole::Member, clusters.iter().copied().collect(), Some(*supports))
            }
        };
        let cluster = clusters.first().copied();
        Self { role, cluster, clusters, incarnation: facts.incarnation(), supports }
    }
}

/// Asks for a handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The oldest version that the sender speaks.
    pub(crate) oldest: u16,
    /// The newest version that the sender speaks.
    pub(crate) newest: u16,
    /// Which namespace.
    pub(crate) namespace: NamespaceHash,
    /// The key that will seal it; none if it is open.
    pub(crate) key: Option<KeyId>,
    /// Fresh randomness.
    pub(crate) random: [u8; 32],
    /// The cluster that the handle shall be bound to.
    pub(crate) scope: Option<ClusterId>,
    /// What the sender is.
    pub(crate) facts: Facts,
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
    pub(crate) facts: Facts,
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
        match postcard::take_from_bytes(rest) {
            Ok((greeting, [])) if Self::is_well_formed(&greeting) => Ok(greeting),
            Ok(_) | Err(_) => Err(GreetingError::Malformed),
        }
    }

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Hello(hello) => hello.facts.is_well_formed(),
            Self::Answer(answer) => answer.facts.is_well_formed(),
            Self::Refused(_) | Self::Close { .. } | Self::Ping(_) | Self::Pong(_) => true,
        }
    }
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            oldest: 1,
            newest: 1,
            namespace: NamespaceHash([0xaa; 32]),
            key: None,
            random: [0xbb; 32],
            scope: Some(ClusterId::new([0xcc; 32])),
            facts: Facts::Member {
                incarnation: Incarnation::new([0xdd; 16]),
                clusters: vec![ClusterId::new([0xcc; 32])],
                supports: ClusterVersion::new(3),
            },
        }
    }

    #[test]
    fn a_hello_is_these_bytes() {
        let golden = [
            &[1, 0, 1, 1][..],
            &[0xaa; 32],
            &[0],
            &[0xbb; 32],
            &[1],
            &[0xcc; 32],
            &[1],
            &[0xdd; 16],
            &[1],
            &[0xcc; 32],
            &[3],
        ]
        .concat();
        assert_eq!(Greeting::Hello(hello()).encode(), golden);
        assert_eq!(Greeting::decode(&golden), Ok(Greeting::Hello(hello())));
        assert_eq!(Greeting::Ping(300).encode(), [1, 4, 0xac, 2]);
        assert_eq!(Greeting::Refused(Refusal::KeyMismatch).encode(), [1, 2, 1]);
        let close = Greeting::Close { handle: 7, why: Closing::Gone };
        assert_eq!(close.encode(), [1, 3, 7, 1]);
    }

    #[test]
    fn the_largest_greetings_fit() {
        let clusters: Vec<_> = (0..8).map(|byte| ClusterId::new([byte; 32])).collect();
        let (incarnation, supports) = (Incarnation::new([1; 16]), ClusterVersion::new(u16::MAX));
        let facts = Facts::Member { incarnation, clusters: clusters.clone(), supports };
        let hello = Greeting::Hello(Hello { facts, ..hello() });
        assert!(hello.encode().len() <= GREETING_BYTES_MAX);
        let why = Refusal::WrongCluster { asked: clusters[0], speaks_for: clusters };
        assert!(Greeting::Refused(why).encode().len() <= GREETING_BYTES_MAX);
    }

    #[test]
    fn what_is_no_greeting_is_refused_by_name() {
        let golden = Greeting::Hello(hello()).encode();
        for length in 1..golden.len() {
            assert_eq!(Greeting::decode(&golden[..length]), Err(GreetingError::Malformed));
        }
        assert_eq!(Greeting::decode(&[2, 0]), Err(GreetingError::Format { format: 2 }));
        let long = vec![1; GREETING_BYTES_MAX + 1];
        let bytes = long.len();
        assert_eq!(Greeting::decode(&long), Err(GreetingError::TooLong { bytes }));
        let twice = vec![ClusterId::new([1; 32]); 2];
        let (incarnation, supports) = (Incarnation::new([1; 16]), ClusterVersion::BASELINE);
        let facts = Facts::Member { incarnation, clusters: twice, supports };
        let unsorted = Greeting::Hello(Hello { facts, ..hello() }).encode();
        assert_eq!(Greeting::decode(&unsorted), Err(GreetingError::Malformed));
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
