//! What a snapshot holds is what was applied up to it (thesis 5), and a log is in order: what is
//! cut is covered by a snapshot, what is covered is committed, what is committed is there.

use meshraft_consensus::{ClusterId, Index, SnapshotMeta, Status};

use super::{Checks, Violation, log::Logs};

/// What the file of a snapshot holds, read back by a machine of its own.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// What it stands for.
    pub(crate) meta: SnapshotMeta,
    /// The hash of the state.
    pub(crate) hash: u64,
    /// Each key, with its value and revision if it is there.
    pub(crate) values: Vec<(u64, Option<(u64, u64)>)>,
}

impl Checks {
    /// A node wrote or restored a snapshot.
    pub(crate) fn holds(&mut self, cluster: ClusterId, held: &Held) -> Result<(), Violation> {
        let index = held.meta.position.index;
        let differs = |what| Err(Violation::SnapshotContent { cluster, index, what });
        let told = (held.meta.configuration_index, &held.meta.configuration);
        if self.logs.configuration_at(cluster, index) != Some(told) {
            return differs("configuration");
        }
        for (key, found) in &held.values {
            if self.states.value_at(cluster, *key, index) != *found {
                return differs("value");
            }
        }
        self.hashed(cluster, index, held.hash)
    }

    /// The state of some replica at an index has this hash.
    pub(crate) fn hashed(
        &mut self,
        cluster: ClusterId,
        index: Index,
        hash: u64,
    ) -> Result<(), Violation> {
        if *self.hashes.entry((cluster, index)).or_insert(hash) != hash {
            return Err(Violation::SnapshotContent { cluster, index, what: "state" });
        }
        Ok(())
    }
}

impl Logs {
    /// What a core says of its log is in order, and so is what it wrote of it. `restored` is the
    /// newest snapshot that it recorded, unless that is taking the place of the state just now.
    pub(crate) fn check_order(
        &self,
        status: &Status,
        restored: Option<Index>,
    ) -> Result<(), Violation> {
        let Status { me, cluster, first, applied, commit, last, .. } = *status;
        let base = first.previous();
        let snapshot = self.snapshot_of(me, cluster).index;
        let pairs = [
            (base <= snapshot, "it is cut behind its snapshot"),
            (snapshot <= commit, "its snapshot passes its commit index"),
            (restored.is_none_or(|it| it <= applied), "its snapshot passes what it applied"),
            (applied <= commit, "it applied what is not committed"),
            (commit <= last.index, "it committed what it does not have"),
        ];
        match pairs.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(Violation::Disorder { member: me, what }),
            None => Ok(()),
        }
    }
}
