//! A cluster on trial: it is said to have admitted this node, and sent nothing yet.
//!
//! Its group exists in the store, and its record does not name it: after a crash the group is
//! dropped, and the node is as free as before. The first write of its core that holds an entry or
//! a snapshot goes into one transaction with the record that names the cluster.
//!
//! Invariants:
//! 1. On trial no vote is granted: a restart would forget it.
//! 2. Nothing of what is acknowledged as received is durable before the record is.
//! 3. The founder set's core that is set aside says and hears nothing until it goes on.

use meshraft_consensus::{ClusterId, Message, Moment, Write, WriteId};
use meshraft_discovery::founding::{self, RecordId};
use meshraft_storage::{GroupId, Job};

use super::{
    desk::{Desk, Purpose},
    hosted::Hosted,
};
use crate::replica;

/// The writes of a core on trial that wait for the record, the first one with an entry in front.
#[derive(Clone, Debug, Default)]
pub(super) struct Trial {
    held: Vec<Write>,
}

/// Whether a message can be meant for a node that has nothing of the cluster's log. Nothing else is
/// heard on trial: no request for a vote, no verdict on what the store lost, no dismissal.
pub(super) const fn is_for_joiners(message: &Message) -> bool {
    matches!(
        message,
        Message::AppendRequest(_)
            | Message::Heartbeat(_)
            | Message::Committed(_)
            | Message::SnapshotOffer(_)
    )
}

impl Hosted {
    /// Starts the core of a cluster on trial; the founder set's core that runs is set aside.
    pub(super) fn begin_trial(&mut self, now: Moment, cluster: ClusterId, desk: &mut Desk) {
        if let Some(active) = self.active.take() {
            self.end_group();
            self.aside = Some(active);
            self.replica.handle(now, replica::Input::SetAside);
        }
        self.start_group(now, cluster, None, desk);
    }

    /// Goes on with the founder set's core that was set aside, if it is that one.
    pub(super) fn resume_aside(&mut self, now: Moment, cluster: ClusterId) -> bool {
        let Some(aside) = self.aside.take_if(|aside| aside.cluster == cluster) else {
            return false;
        };
        let persisted = aside.persisted;
        self.credentials.turn_to(self.me, cluster);
        self.active = Some(aside);
        self.replica.handle(now, replica::Input::Resume);
        self.replica.handle(now, replica::Input::Persisted(persisted));
        // Who went meanwhile; who is there is told once the core goes on.
        let founders = self.founding.record().promise.clone();
        for member in founders.iter().flat_map(|set| &set.members) {
            let facts = self.shared.get(&member.node);
            let here = facts.is_some_and(|facts| facts.clusters.contains(&cluster));
            if *member != self.me && !here {
                self.replica.handle(now, replica::Input::PeerDown(*member));
            }
        }
        true
    }

    /// The cluster that was on trial is on record.
    pub(super) fn entered(&mut self, now: Moment, cluster: ClusterId, desk: &mut Desk) {
        let runs = self.active.as_ref().is_some_and(|active| active.cluster == cluster);
        if runs {
            if self.aside.take().is_some() {
                self.replica.handle(now, replica::Input::DropAside);
            }
            self.replica.handle(now, replica::Input::Entered);
            self.tell_serving(cluster, desk);
        }
    }

    /// The write, unless it waits for the record: the first one with an entry or a snapshot, and
    /// all after it, until the record that names the cluster is handed to the store.
    pub(super) fn held_on_trial(&mut self, now: Moment, write: Write) -> Option<Write> {
        let Some(active) = &mut self.active else { return Some(write) };
        let cluster = active.cluster;
        let Some(trial) = &mut active.trial else { return Some(write) };
        let first = trial.held.is_empty();
        if first && write.append.is_empty() && write.snapshot().is_none() {
            return Some(write);
        }
        active.submitted = write.id;
        trial.held.push(write);
        if first {
            self.founding.handle(now, founding::Input::Arrived { cluster });
        }
        None
    }

    /// Hands the record that names the cluster to the store, with the write that waits for it.
    pub(super) fn write_entered(&mut self, record: RecordId, desk: &mut Desk) {
        let Some(active) = &mut self.active else { return };
        let (group, held) = (active.number, active.trial.take().unwrap_or_default().held);
        let mut held = held.into_iter();
        let Some(write) = held.next() else { return };
        let purpose = Purpose::Entered { record, group, write: write.id };
        let (namespace, bytes) = (self.namespace.clone(), self.record_bytes());
        desk.store(&self.namespace, self.life, purpose, |ticket| Job::Enter {
            ticket,
            namespace,
            record: bytes,
            group,
            write,
        });
        for write in held {
            let purpose = Purpose::Log(group, write.id);
            let job = |ticket| Job::Log { ticket, group, write };
            desk.store(&self.namespace, self.life, purpose, job);
        }
    }

    /// Part of a snapshot is here.
    pub(super) fn snapshot_arrives(&mut self, now: Moment) {
        let tried = self.active.as_ref().filter(|active| active.trial.is_some());
        if let Some(cluster) = tried.map(|active| active.cluster) {
            self.founding.handle(now, founding::Input::Arriving { cluster });
        }
    }

    /// A write of a group's core is durable: of the one that runs, or of the one set aside.
    pub(super) fn log_stored(&mut self, now: Moment, group: GroupId, write: WriteId) {
        if let Some(active) = self.active.as_mut().filter(|it| it.number == group) {
            active.persisted = write;
            self.replica.handle(now, replica::Input::Persisted(write));
        } else if let Some(aside) = self.aside.as_mut().filter(|it| it.number == group) {
            aside.persisted = write;
        }
    }

    /// Drops the groups of trials that a crash interrupted: no record names their clusters.
    pub(super) fn drop_orphans(&mut self, desk: &mut Desk) {
        let promised = self.record.promise.as_ref().map(|set| set.id(&self.namespace));
        let named = [self.record.cluster, promised];
        let orphan = |cluster: &&ClusterId| !named.contains(&Some(**cluster));
        let orphans: Vec<_> = self.groups.keys().filter(orphan).copied().collect();
        if !orphans.is_empty() {
            self.on_disk.retain(|cluster, _| !orphans.contains(cluster));
            self.write_record(Purpose::Orphans, None, orphans, desk);
        }
    }
}
