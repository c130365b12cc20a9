//! Nothing commits before a quorum has it on disk (thesis 3.8, 4.3).
//!
//! The quorum is that of the configuration in force at the member that commits first, of both
//! halves if that is joint. Between the commit and the moment at which it is seen a leader may
//! append a later configuration; so one of those in its log must have decided, from the one that
//! stood at the entry on.

use std::collections::BTreeSet;

use meshraft_consensus::{ClusterId, Configuration, EntryKind, Index, Member, Position};

use super::{
    Violation,
    log::Logs,
    shadow::{EntryDigest, place},
};

impl Logs {
    /// The configuration that stands at an index of a member's log, and those behind it.
    fn configurations_from(
        &self,
        member: Member,
        cluster: ClusterId,
        index: Index,
    ) -> impl Iterator<Item = &Configuration> {
        let group = self.of(member, cluster);
        let entries = group.map(|group| group.believed.entries()).unwrap_or_default();
        let is_configuration = |it: &&EntryDigest| it.kind == EntryKind::Configuration;
        let newest = entries.iter().take(place(index)).rposition(|it| is_configuration(&it));
        let from = entries.get(newest.unwrap_or(0)..).unwrap_or_default();
        let positions = from.iter().filter(is_configuration).map(|entry| entry.position);
        positions.filter_map(move |at| self.configurations.get(&(cluster, at)))
    }

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
        let decides = |it: &Configuration| quorum(&it.voters) && quorum(&it.outgoing);
        let decided = self.configurations_from(member, cluster, position.index).any(decides);
        if decided || decides(configuration) {
            return Ok(());
        }
        let durable = configuration.members().iter().filter(has).copied().collect();
        Err(Violation::NotDurable { cluster, member, position, durable })
    }
}
