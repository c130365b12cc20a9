//! The driver's part of snapshots: takes them, carries their files from disk to disk, and puts them
//! in place of a state.

use meshraft_consensus::{Index, Input, InstallError, Member, SnapshotMeta};

use crate::{cluster::Cluster, disk::File};

/// Pieces that a file is carried in.
const CHUNKS: u64 = 3;

/// A file on its way to a member.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    from: Member,
    meta: SnapshotMeta,
    offset: u64,
}

impl Fetch {
    pub(crate) const fn new(from: Member, meta: SnapshotMeta) -> Self {
        Self { from, meta, offset: 0 }
    }

    pub(crate) fn into_meta(self) -> SnapshotMeta {
        self.meta
    }
}

impl Cluster {
    /// Takes a snapshot of what a member has applied, and says so. Nothing if there is one.
    pub(crate) fn take_snapshot(&mut self, me: Member) {
        let node = self.node(me);
        let Some(position) = node.applied_at else { return };
        if node.core.is_none() || node.disk.files.contains_key(&position.index) || node.replaced {
            return;
        }
        let (configuration_index, configuration) = node.configuration.clone();
        let meta = SnapshotMeta { position, configuration, configuration_index };
        let file = File { meta: meta.clone(), state: node.state };
        node.disk.files.insert(position.index, file);
        self.input(me, Input::SnapshotTaken(meta));
    }

    /// A member that fetches, or has to install, and can.
    pub(crate) fn transferring(&self) -> Option<Member> {
        let ready = |me: &Member| {
            let node = &self.nodes[me];
            let fetches = node.fetch.as_ref().is_some_and(|fetch| self.is_open(*me, fetch.from));
            !node.slow_transfer && (fetches || node.install.is_some())
        };
        self.nodes.keys().copied().find(ready)
    }

    fn is_open(&self, me: Member, from: Member) -> bool {
        let runs = self.nodes.get(&from).is_some_and(|node| node.core.is_some());
        runs && !self.cuts.contains(&(me, from)) && !self.cuts.contains(&(from, me))
    }

    /// Carries one more piece to a member, or finishes what has arrived.
    pub(crate) fn transfer(&mut self, me: Member) {
        if self.node(me).install.is_some() {
            return self.finish_install(me);
        }
        let Some(mut fetch) = self.node(me).fetch.clone() else { return };
        if !self.is_open(me, fetch.from) {
            return;
        }
        let (from, position) = (fetch.from, fetch.meta.position);
        let source = self.nodes[&from].disk.files.get(&position.index).cloned();
        let Some(file) = source.filter(|file| file.meta == fetch.meta) else {
            self.node(me).fetch = None;
            let result = Err(InstallError::Interrupted);
            self.input(me, Input::SnapshotFetched { position, result });
            return self.input(from, Input::SnapshotSent { peer: me, ok: false });
        };
        fetch.offset += 1;
        let (offset, done) = (fetch.offset, fetch.offset == CHUNKS);
        let source = self.node(from).core.as_ref();
        let term = source.map_or(Default::default(), |core| core.term());
        self.node(me).fetch = (!done).then_some(fetch);
        self.input(from, Input::SnapshotProgress { peer: me, term, offset });
        self.input(me, Input::SnapshotProgress { peer: from, term, offset });
        if done {
            self.node(me).disk.files.insert(position.index, file);
            self.input(from, Input::SnapshotSent { peer: me, ok: true });
            self.input(me, Input::SnapshotFetched { position, result: Ok(()) });
        }
    }

    fn finish_install(&mut self, me: Member) {
        let node = self.node(me);
        let Some(meta) = node.install.take() else { return };
        let file = node.disk.files.get(&meta.position.index).cloned();
        let file = file.expect("what is installed is durable");
        node.applied.clear();
        node.begin_at(&file);
        node.replaced = false;
        self.check_state(me, meta.position.index);
        self.input(me, Input::SnapshotInstalled(Ok(meta)));
    }

    /// Files that members keep for others.
    pub(crate) fn pin(&mut self, me: Member, to: Member, index: Index) {
        self.node(me).pins.insert(to, index);
    }
}
