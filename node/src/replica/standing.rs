//! Decides when a member that departed has returned: its core says once that a configuration without
//! it is committed, and nothing of a later one with it. A core that catches up comes by both.

use meshraft_consensus::{Event, Index};

/// How this member stands to the configurations that its core has seen in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The slot of the configuration without it, once that is said to be committed.
    departed: Option<Index>,
    /// The slot of the configuration in force, as far as events told.
    in_force: Index,
}

impl Standing {
    /// The core said that the configuration at this slot is committed, and that this member takes
    /// part no more.
    pub(super) fn departed(&mut self, at: Index) {
        self.departed = Some(at);
    }

    /// Takes note of an event of the core.
    pub(super) fn observe(&mut self, event: &Event) {
        if let Event::ConfigurationChanged { index, .. }
        | Event::ConfigurationRolledBack { index } = event
        {
            self.in_force = *index;
        }
    }

    /// Whether this member is back for sure: once, after everything that the core said is noted.
    /// `member` says whether the configuration in force has it.
    pub(super) fn returned(&mut self, member: bool, commit: Index) -> bool {
        let later = self.departed.is_some_and(|departed| self.in_force > departed);
        let returned = later && member && self.in_force <= commit;
        if returned {
            self.departed = None;
        }
        returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(index: u64) -> Event {
        Event::ConfigurationChanged { index: Index::new(index), joint: false }
    }

    #[test]
    fn a_return_counts_once_it_is_committed_and_only_after_a_departure() {
        let at = Index::new;
        let mut standing = Standing::default();
        standing.observe(&changed(3));
        assert!(!standing.returned(true, at(9)), "it was never away");
        standing.departed(at(4));
        assert!(
            !standing.returned(true, at(9)),
            "it is away, whatever an older configuration says"
        );
        standing.observe(&changed(5));
        assert!(!standing.returned(true, at(4)), "not committed");
        standing.observe(&Event::ConfigurationRolledBack { index: at(4) });
        assert!(!standing.returned(false, at(9)), "taken back");
        standing.observe(&changed(6));
        assert!(standing.returned(true, at(6)));
        assert!(!standing.returned(true, at(7)), "once");
    }

    #[test]
    fn the_order_of_what_a_core_says_at_once_does_not_matter() {
        let mut standing = Standing::default();
        standing.observe(&changed(8));
        standing.departed(Index::new(6));
        assert!(standing.returned(true, Index::new(8)));
    }
}
