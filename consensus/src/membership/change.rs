//! What can be asked of a configuration.

use alloc::vec::Vec;

use crate::identity::Member;

/// A change of configuration: all its steps at once, through a joint configuration if voters
/// change (thesis 4.3), which the leader leaves by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    /// The steps, applied in order to the configuration in force.
    pub steps: Vec<ChangeStep>,
}

/// One step of a [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeStep {
    /// Let a member receive the log without a vote.
    AddLearner(Member),
    /// Make a learner a voter; every other incarnation of its node leaves in the same change. The
    /// member must be in the configuration before the change.
    Promote(Member),
    /// Make a voter a learner; it votes until the joint configuration is left. A leader that
    /// promotes learners by itself may promote it again.
    Demote(Member),
    /// Take a member out.
    Remove(Member),
}
