//! Founding alone because an operator said so: at once, without a window and without asking peers.
//!
//! It answers the question that no node can answer by itself, whether those who do not answer are
//! gone for good. So it is taken only where nothing on record could contradict it, and remembered.

use meshraft_consensus::{ClusterId, Moment};

use super::Founding;
use crate::{ballot::Ballot, record::Record};

/// Why a node may not found alone although an operator said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForceError {
    /// It promised a founder set, which may yet live.
    #[error("it promised to found with {founders} nodes (ballot {})", ballot.counter)]
    Promised {
        /// The set's ballot.
        ballot: Ballot,
        /// How many founders it has.
        founders: usize,
    },
    /// It is or was a member of a cluster.
    #[error("it is a member of cluster {cluster}")]
    Member {
        /// The cluster.
        cluster: ClusterId,
    },
    /// An earlier life of its store was in a cluster.
    #[error("its store was in cluster {former} before it was renewed")]
    Renewed {
        /// The cluster.
        former: ClusterId,
    },
}

impl Founding {
    /// Whether a node with this record may be told to found alone.
    ///
    /// # Errors
    /// Says what on record forbids it. Nothing about the record changes then: the node is not to be
    /// opened.
    pub fn check_force(record: &Record) -> Result<(), ForceError> {
        match record {
            Record { cluster: Some(cluster), .. } => Err(ForceError::Member { cluster: *cluster }),
            Record { promise: Some(set), .. } => {
                Err(ForceError::Promised { ballot: set.ballot, founders: set.members.len() })
            }
            Record { former: Some(former), .. } => Err(ForceError::Renewed { former: *former }),
            _ => Ok(()),
        }
    }

    /// Proposes this node alone, if it was told to and its record allows it.
    pub(super) fn force(&mut self, now: Moment) {
        self.config.force &= Self::check_force(self.record()).is_ok();
        if self.config.force {
            self.coordinate(now, [self.config.me].into());
        }
    }

    /// Whether this node holds a set that it founds alone by order: nothing turns it back.
    pub(super) fn is_forced(&self) -> bool {
        self.record().forced && self.record().cluster.is_none()
    }
}
