//! The configuration of a group: voters, the outgoing voters of a joint change, learners.
//!
//! Invariants:
//! 1. No member is a voter and a learner at once; but an outgoing voter may be a learner, which is
//!    all that it is once the joint change is left.
//! 2. Outside a joint change `outgoing` is empty (thesis 4.3).
//!
//! The encoding is our own, versioned, and part of the log for ever: a version byte, then the three
//! sets, each as a big-endian `u16` count and 48 bytes a member in ascending order.

use alloc::{collections::BTreeSet, vec::Vec};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::identity::{Incarnation, Member, NodeId};

const VERSION: u8 = 1;
const MEMBER_BYTES: usize = 48;

/// Who takes part in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Configuration {
    /// The voters; in a joint change the incoming half.
    pub voters: BTreeSet<Member>,
    /// The outgoing half of a joint change; empty outside one.
    pub outgoing: BTreeSet<Member>,
    /// Members that receive the log and do not vote (thesis 4.2.1), or will not once a joint change
    /// is left.
    pub learners: BTreeSet<Member>,
}

impl Configuration {
    /// The most members of one set.
    pub const MEMBERS_MAX: usize = u16::MAX as usize;

    /// The configuration of these voters, without learners.
    pub fn of_voters(voters: impl IntoIterator<Item = Member>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Whether decisions need both halves.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `member` votes in either half.
    pub fn is_voter(&self, member: &Member) -> bool {
        self.voters.contains(member) || self.outgoing.contains(member)
    }

    /// Whether `member` takes part at all.
    pub fn contains(&self, member: &Member) -> bool {
        self.is_voter(member) || self.learners.contains(member)
    }

    /// Every member once, in ascending order.
    pub fn members(&self) -> BTreeSet<Member> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// The bytes of a configuration entry.
    pub fn encode(&self) -> Bytes {
        let members = self.voters.len() + self.outgoing.len() + self.learners.len();
        let mut bytes = BytesMut::with_capacity(1 + 3 * 2 + members * MEMBER_BYTES);
        bytes.put_u8(VERSION);
        for set in [&self.voters, &self.outgoing, &self.learners] {
            let count = u16::try_from(set.len()).unwrap_or(u16::MAX);
            bytes.put_u16(count);
            for member in set.iter().take(usize::from(count)) {
                bytes.put_slice(member.node.as_bytes());
                bytes.put_slice(member.incarnation.as_bytes());
            }
        }
        bytes.freeze()
    }

    /// Reads the bytes of a configuration entry.
    ///
    /// # Errors
    /// Refuses any input that [`Configuration::encode`] does not produce.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, ConfigurationError> {
        if bytes.is_empty() {
            return Err(ConfigurationError::Truncated);
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(ConfigurationError::Version { version });
        }
        let configuration = Self {
            voters: decode_set(&mut bytes)?,
            outgoing: decode_set(&mut bytes)?,
            learners: decode_set(&mut bytes)?,
        };
        if bytes.has_remaining() {
            return Err(ConfigurationError::Trailing { bytes: bytes.remaining() });
        }
        if !configuration.voters.is_disjoint(&configuration.learners) {
            return Err(ConfigurationError::VoterAndLearner);
        }
        Ok(configuration)
    }
}

fn decode_set(bytes: &mut &[u8]) -> Result<BTreeSet<Member>, ConfigurationError> {
    if bytes.remaining() < 2 {
        return Err(ConfigurationError::Truncated);
    }
    let count = usize::from(bytes.get_u16());
    if bytes.remaining() < count * MEMBER_BYTES {
        return Err(ConfigurationError::Truncated);
    }
    let members: Vec<Member> = (0..count)
        .map(|_| {
            let (mut node, mut incarnation) = ([0; 32], [0; 16]);
            bytes.copy_to_slice(&mut node);
            bytes.copy_to_slice(&mut incarnation);
            Member::new(NodeId::new(node), Incarnation::new(incarnation))
        })
        .collect();
    if !members.is_sorted_by(|one, next| one < next) {
        return Err(ConfigurationError::Unordered);
    }
    Ok(members.into_iter().collect())
}

/// Why bytes are no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes follow the configuration.
    #[error("{bytes} bytes follow the configuration")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A version that this build does not know.
    #[error("version {version} is not known")]
    Version {
        /// The version found.
        version: u8,
    },
    /// A set is not strictly ascending.
    #[error("members are not strictly ascending")]
    Unordered,
    /// A member is both voter and learner.
    #[error("a member is both voter and learner")]
    VoterAndLearner,
}
