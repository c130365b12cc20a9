//! What a replica does with the snapshots of its group: tells the core, and the host.

use meshraft_consensus::{
    Input as CoreInput, InstallError, Member, Position, SnapshotMeta, Term, WriteId,
};
use meshraft_service::Replicated;
use meshraft_storage::SnapshotError;

use super::{Replica, input::Output};
use crate::host::SnapshotEvent;

impl Replica {
    pub(super) fn persisted(&mut self, write: WriteId) {
        let now = self.now;
        let Some(group) = &mut self.group else { return };
        if let Some(positions) = group.persisted(now, write) {
            self.outputs.push_back(Output::RetainSnapshots { positions });
        }
    }

    pub(super) fn snapshot_taken(
        &mut self,
        meta: SnapshotMeta,
        result: Result<u64, SnapshotError>,
    ) {
        let Some(group) = &mut self.group else { return };
        let at = meta.position;
        group.due.ended(&result);
        group.retained.taken();
        let event = match result {
            Ok(bytes) => {
                group.handle(self.now, CoreInput::SnapshotTaken(meta));
                SnapshotEvent::Taken { at, bytes }
            }
            Err(error) => SnapshotEvent::NotTaken { at, error },
        };
        // So much may have been applied meanwhile that the next one is due.
        let next = group.take_snapshot();
        self.outputs.push_back(Output::Snapshot(event));
        self.act(next.into_iter().collect());
    }

    pub(super) fn snapshot_fetched(
        &mut self,
        position: Position,
        result: Result<(), InstallError>,
    ) {
        self.hand_in(CoreInput::SnapshotFetched { position, result });
    }

    pub(super) fn snapshot_progress(&mut self, peer: Member, term: Term, offset: u64) {
        let now = self.now;
        if let Some(group) = &mut self.group {
            group.retained.served(peer, now);
        }
        self.hand_in(CoreInput::SnapshotProgress { peer, term, offset });
    }

    pub(super) fn snapshot_sent(&mut self, peer: Member, ok: bool) {
        self.hand_in(CoreInput::SnapshotSent { peer, ok });
    }

    /// A snapshot took the place of the running group's state.
    pub(super) fn installed(&mut self, meta: SnapshotMeta, state: Box<Replicated>) {
        let Some(group) = &mut self.group else { return };
        let at = meta.position;
        let effects = group.restored(self.now, meta, state);
        self.outputs.push_back(Output::Snapshot(SnapshotEvent::Installed { at }));
        self.act(effects);
    }
}
