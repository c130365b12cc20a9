//! Nothing commits before a quorum has it on disk (thesis 3.8, 4.3).
//!
//! The quorum is that of the configuration in force at the member that commits first. A
//! configuration that changes in the very event of a commit may be the next one already, so a joint
//! one asks for its incoming half only when both halves can't be told apart in time: the outgoing
//! half decided alone before it.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Configuration, Member, Position};

use super::{Violation, log::Logs};

impl Logs {
    /// Checks that a quorum of `configuration` has the entry at `position` on disk, without those
    /// that are known to have forgotten what they acknowledged.
    pub(crate) fn expect_durable(
        &self,
        member: Member,
        cluster: ClusterId,
        position: Position,
        configuration: &Configuration,
        forgetful: &BTreeSet<Member>,
    ) -> Result<(), Violation> {
        let has = |voter: &&Member| {
            !forgetful.contains(*voter) && self.has_durable(**voter, cluster, position)
        };
        let quorum = |voters: &BTreeSet<Member>| {
            voters.is_empty() || voters.iter().filter(has).count() * 2 > voters.len()
        };
        let enough = if configuration.is_joint() {
            quorum(&configuration.voters) || quorum(&configuration.outgoing)
        } else {
            quorum(&configuration.voters)
        };
        if enough {
            return Ok(());
        }
        let durable = configuration.members().iter().filter(has).copied().collect();
        Err(Violation::NotDurable { cluster, member, position, durable })
    }
}
