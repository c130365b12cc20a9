//! What founding says to its peers, on a handle without a cluster.
//!
//! A message names no author: the handle that it arrives on is bound to the author's node and
//! incarnation, so nobody can speak, promise, refuse or ask for admission in another's name.
//!
//! The encoding is a version byte, then postcard. Variants are only ever appended. What arrives is
//! measured before it is decoded, and nothing in it makes the decoder allocate more than its size.

use core::num::NonZeroU16;
use std::collections::BTreeSet;

use bytes::Bytes;
use meshraft_consensus::{Card, ClusterId, ClusterVersion, Index, Member};
use serde::{Deserialize, Serialize};

use crate::ballot::{Ballot, FounderSet};

const VERSION: u8 = 2;

/// One message of founding or joining.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Message {
    /// How I stand; how do you? Binds nobody.
    Canvass(Standing),
    /// How I stand.
    CanvassAnswer(Standing),
    /// Hold this founder set, as its coordinator and the author of this message do.
    Propose(FounderSet),
    /// I hold this founder set, durably.
    Promised {
        /// Its id.
        cluster: ClusterId,
    },
    /// I do not hold this founder set and never shall, durably: it is dead.
    Refused {
        /// Its id.
        cluster: ClusterId,
        /// Why.
        why: Refusal,
        /// How I stand now.
        standing: Standing,
    },
    /// Admit me, in exactly this incarnation, to the cluster that you said you are in.
    Join {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The cluster committed the admission.
    Admitted {
        /// The cluster.
        cluster: ClusterId,
        /// Who was admitted.
        member: Member,
        /// Where the log of the cluster holds the configuration that admitted it, or a later one.
        index: Index,
        /// Members to take the log from; not all of them if they are many.
        members: BTreeSet<Member>,
        /// The cards by which the joiner proves its membership to members that lag: the one that
        /// the answering member signs for it, and those that the answering member holds for itself.
        cards: Vec<Card>,
    },
    /// The admission was not committed.
    NotAdmitted {
        /// The cluster that was asked for.
        cluster: ClusterId,
        /// Why.
        why: NotAdmitted,
    },
}

impl Message {
    /// The longest encoding, in bytes. Checked before anything is decoded.
    pub const BYTES_MAX: usize = 20 * 1024;

    /// The most members that [`Message::Admitted`] names.
    pub const MEMBERS_MAX: usize = 128;

    /// The most cards that [`Message::Admitted`] carries.
    pub const CARDS_MAX: usize = Card::KEPT_MAX + 1;

    /// The bytes to send.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![VERSION]).expect("memory takes every message");
        assert!(bytes.len() <= Self::BYTES_MAX, "a message outgrew its limit");
        bytes.into()
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// Bytes that are too many, of another version, or no message.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(WireError::TooLong { bytes: bytes.len() });
        }
        let (&version, body) = bytes.split_first().ok_or(WireError::Empty)?;
        if version != VERSION {
            return Err(WireError::Version { found: version });
        }
        match postcard::take_from_bytes(body)? {
            (Self::Admitted { members, .. }, _) if members.len() > Self::MEMBERS_MAX => {
                Err(WireError::TooManyMembers { members: members.len() })
            }
            (Self::Admitted { cards, .. }, _) if cards.len() > Self::CARDS_MAX => {
                Err(WireError::TooManyCards { cards: cards.len() })
            }
            (message, []) => Ok(message),
            (_, rest) => Err(WireError::Trailing { bytes: rest.len() }),
        }
    }
}

/// How a node stands: what a canvass asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// The highest ballot that it answered. A new attempt must lie above it.
    pub seen: Ballot,
    /// How many founders it expects at least.
    pub expect: Option<NonZeroU16>,
    /// What binds it.
    pub binding: Binding,
}

/// What binds a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Binding {
    /// Nothing: it may become a founder.
    Free,
    /// Nothing, but it only joins: it was told not to found, or it knows of a living cluster.
    Joining,
    /// The promise of a founder set whose fate it does not know.
    Founding {
        /// The set's id.
        cluster: ClusterId,
    },
    /// It is a member of a cluster that lives.
    Living {
        /// The cluster.
        cluster: ClusterId,
    },
}

/// Why a member of a founder set refused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// It held the set, until it learned that the set is dead.
    Dead,
    /// It answered a ballot as high or higher already.
    Stale,
    /// Another promise binds it, whose fate is open.
    Bound {
        /// The other set.
        to: ClusterId,
    },
    /// The set is smaller than the number of founders that it expects.
    TooFew {
        /// What it expects.
        expect: NonZeroU16,
    },
    /// It only joins and never founds.
    OnlyJoins,
    /// It knows of a living cluster.
    LivingKnown,
    /// It is a member of a cluster.
    Member {
        /// The cluster.
        of: ClusterId,
    },
    /// It did not meet a founder, and nobody proved a key: the founder may be invented.
    UnknownFounder,
}

/// Why an admission was not committed. Whoever asked keeps asking, unless [`Self::is_final`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// The asked node is in no cluster that lives.
    NotLiving,
    /// The asked node is in another cluster than the one that was named.
    OtherCluster {
        /// The cluster that it is in.
        cluster: ClusterId,
    },
    /// No leader answered in time; the admission may yet commit.
    NoLeader,
    /// Too much is being asked at once.
    Busy,
    /// The cluster's admission rule turned the node down.
    Denied,
    /// The asked node is itself no member of the cluster any more.
    Departed,
    /// The node supports less than the version of commands that is in force in the cluster.
    TooOld {
        /// What it supports at most.
        supports: ClusterVersion,
        /// What is in force.
        in_force: ClusterVersion,
    },
}

impl NotAdmitted {
    /// Whether asking the same member again is of no use.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Denied)
    }
}

impl core::fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotLiving => f.write_str("the asked node is in no living cluster"),
            Self::OtherCluster { cluster } => write!(f, "the asked node is in cluster {cluster}"),
            Self::NoLeader => f.write_str("no leader answered in time"),
            Self::Busy => f.write_str("too many admissions at once"),
            Self::Denied => f.write_str("the cluster's admission rule turned the node down"),
            Self::Departed => f.write_str("the asked node has departed from the cluster itself"),
            Self::TooOld { supports, in_force } => {
                write!(f, "the node supports cluster version {supports}, {in_force} is in force")
            }
        }
    }
}

impl core::error::Error for NotAdmitted {}

/// Why bytes are no founding message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// There are no bytes.
    #[error("the message is empty")]
    Empty,
    /// The message is over [`Message::BYTES_MAX`].
    #[error("the message has {bytes} bytes, at most 20480 are taken")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The message is of a version that this build does not speak.
    #[error("the message has version {found}, this build speaks version {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// The bytes end too early or hold what no message holds.
    #[error("the message is malformed")]
    Malformed(#[from] postcard::Error),
    /// An admission names more than [`Message::MEMBERS_MAX`] members.
    #[error("the admission names {members} members, at most 128 are taken")]
    TooManyMembers {
        /// How many.
        members: usize,
    },
    /// An admission carries more than [`Message::CARDS_MAX`] cards.
    #[error("the admission carries {cards} cards, at most 65 are taken")]
    TooManyCards {
        /// How many.
        cards: usize,
    },
    /// Bytes follow the message.
    #[error("{bytes} bytes follow the message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}
