//! What is kept of a namespace beside its log, and when: its record, whole, one write a change.

use bytes::Bytes;
use meshraft_consensus::{ClusterId, NodeId};
use meshraft_discovery::Record;
use meshraft_storage::{Job, OpenedNamespace};

use super::{
    desk::{Desk, Purpose},
    hosted::Hosted,
    record::{HostRecord, RecordError, remembered},
};

/// Whether what nothing waits for is on its way to the store, as addresses of peers and cards: one
/// write at a time, however often they change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum PeersWrite {
    #[default]
    Idle,
    Out,
    /// They changed since.
    Again,
}

/// What a record on disk holds.
pub(super) fn check(found: &OpenedNamespace, node: NodeId) -> Result<(), RecordError> {
    parse(found, node).map(|_| ())
}

/// The parts of a record, if it is of this node and this build reads it.
pub(super) fn parse(
    found: &OpenedNamespace,
    node: NodeId,
) -> Result<(HostRecord, Record), RecordError> {
    let record = HostRecord::decode(&found.record)?;
    if record.node != node {
        return Err(RecordError::OtherNode { of: record.node, node });
    }
    let founding = Record::decode(&record.founding).map_err(|_| RecordError::Corrupt)?;
    Ok((record, founding))
}

impl Hosted {
    /// Hands the whole record to the store, together with the groups that begin or end with it.
    pub(super) fn write_record(
        &mut self,
        purpose: Purpose,
        create: Option<ClusterId>,
        drop: Vec<ClusterId>,
        desk: &mut Desk,
    ) {
        let create = create.map(|cluster| {
            let group = desk.group();
            self.groups.insert(cluster, group);
            (group, cluster)
        });
        let mut drop: Vec<_> =
            drop.iter().filter_map(|cluster| self.groups.remove(cluster)).collect();
        drop.append(&mut self.dropping);
        let (namespace, record) = (self.namespace.clone(), self.record_bytes());
        desk.store(&self.namespace, self.life, purpose, |ticket| Job::Record {
            ticket,
            namespace,
            record,
            create,
            drop,
        });
    }

    /// The whole record as it is stored.
    pub(super) fn record_bytes(&self) -> Bytes {
        let (vouched, cards) = self.kept_credentials();
        let record = HostRecord {
            node: self.me.node,
            incarnation: self.me.incarnation,
            founding: self.record.encode().to_vec(),
            peers: remembered(&self.peers),
            heard: Vec::new(),
            vouched,
            cards,
            fenced: self.fenced.to_vec(),
            aside: self.released.clone(),
        };
        Bytes::from(record.encode())
    }

    /// Keeps the addresses of peers, cards, and whom to hear: one write at a time.
    pub(super) fn remember(&mut self, desk: &mut Desk) {
        if self.peers_write == PeersWrite::Idle {
            self.peers_write = PeersWrite::Out;
            self.write_record(Purpose::Peers, None, Vec::new(), desk);
        } else {
            self.peers_write = PeersWrite::Again;
        }
    }

    /// The addresses that were handed to the store last are durable.
    pub(super) fn peers_stored(&mut self, desk: &mut Desk) {
        if std::mem::take(&mut self.peers_write) == PeersWrite::Again {
            self.remember(desk);
        }
    }
}
