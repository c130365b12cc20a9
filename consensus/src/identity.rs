//! Who takes part: node, incarnation, member, cluster and namespace.
//!
//! A node's id is its Ed25519 public key, so that peer id and server id are one thing. A member is
//! a node *and* the incarnation of its store: a node that lost its disk is a new member, which can
//! neither vote nor acknowledge as the old one.

use alloc::{string::String, sync::Arc};
use core::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// A node: the 32 bytes of its Ed25519 public key, one-to-one with its libp2p peer id.
// Aligned as words are: members are copied and compared with every input.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(align(8))]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// The node with this public key.
    pub const fn new(public_key: [u8; 32]) -> Self {
        Self(public_key)
    }

    /// Its public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// One life of a namespace's record in one store: 128 random bits drawn when the record is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// The incarnation with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

// Ids are in the order of their bytes. Compared as numbers they need no call: members are looked up
// with every message.
macro_rules! ordered_as_numbers {
    ($($name:ident),*) => {$(
        const _: () = assert!(size_of::<$name>().is_multiple_of(16), "no byte is left out");

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                let (own, _) = self.0.as_chunks();
                let (others, _) = other.0.as_chunks();
                let number = |chunk: &[u8; 16]| u128::from_be_bytes(*chunk);
                own.iter().map(number).cmp(others.iter().map(number))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
    )*};
}
ordered_as_numbers!(NodeId, Incarnation);

/// One voter, learner or candidate: a node in one of its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// The life of its store.
    pub incarnation: Incarnation,
}

impl Member {
    /// The member that is `node` in `incarnation`.
    pub const fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Self { node, incarnation }
    }
}

/// One cluster: the hash of its namespace, founding ballot and founder set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId([u8; 32]);

impl ClusterId {
    /// The cluster with this hash.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Its hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn hexadecimal(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for NodeId {
    /// The first four bytes, in hexadecimal: enough to tell nodes apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        hexadecimal(f, &[a, b, c, d])
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(f, &self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hexadecimal(f, &self.0)
    }
}

impl fmt::Display for Member {
    /// The node, a slash, and the first two bytes of the incarnation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, ..] = self.incarnation.0;
        write!(f, "{}/", self.node)?;
        hexadecimal(f, &[a, b])
    }
}

macro_rules! debug_as_display {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}
debug_as_display!(NodeId, Incarnation, ClusterId, Member);

/// The name of a namespace: UTF-8, 1 to 255 bytes, no control characters, compared by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NamespaceError> {
        if name.is_empty() {
            return Err(NamespaceError::Empty);
        }
        if name.len() > Self::BYTES_MAX {
            return Err(NamespaceError::TooLong { bytes: name.len() });
        }
        match name.char_indices().find(|(_, character)| character.is_control()) {
            Some((offset, _)) => Err(NamespaceError::ControlCharacter { offset }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({:?})", &*self.0)
    }
}

impl TryFrom<String> for Namespace {
    type Error = NamespaceError;

    fn try_from(name: String) -> Result<Self, NamespaceError> {
        Self::new(&name)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.as_str().into()
    }
}

/// Why a name is no namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The name has no bytes.
    #[error("a namespace needs at least one byte")]
    Empty,
    /// The name is over [`Namespace::BYTES_MAX`].
    #[error("a namespace has at most 255 bytes, this one has {bytes}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The name holds a control character.
    #[error("a namespace holds no control characters, this one has one at byte {offset}")]
    ControlCharacter {
        /// Where it is.
        offset: usize,
    },
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_bytes() {
        let steps = [0, 1, 127, 128, 255];
        let cases = (0..32).flat_map(|at| steps.map(|one| steps.map(|other| (at, one, other))));
        for (at, one, other) in cases.flatten() {
            // What comes later decides nothing once an earlier byte differs.
            let (mut ours, mut theirs) = ([7; 32], [7; 32]);
            (ours[at], theirs[at]) = (one, other);
            ours[at + 1..].fill(9);
            let expected = ours.cmp(&theirs);
            assert_eq!(NodeId::new(ours).cmp(&NodeId::new(theirs)), expected);
            let half = |bytes: [u8; 32]| Incarnation::new(core::array::from_fn(|i| bytes[i]));
            assert_eq!(half(ours).cmp(&half(theirs)), ours[..16].cmp(&theirs[..16]));
        }
    }

    #[test]
    fn namespaces_are_checked() {
        assert_eq!(Namespace::new(""), Err(NamespaceError::Empty));
        let long = "x".repeat(256);
        assert_eq!(Namespace::new(&long), Err(NamespaceError::TooLong { bytes: 256 }));
        assert_eq!(Namespace::new("a\nb"), Err(NamespaceError::ControlCharacter { offset: 1 }));
        assert_eq!(Namespace::new("/jobs/cron").unwrap().to_string(), "/jobs/cron");
        assert!(Namespace::new(&"x".repeat(255)).is_ok());
    }
}
