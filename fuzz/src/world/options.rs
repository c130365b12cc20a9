//! How a world opens its namespaces: tiny limits, so that every run meets every one of them.

use std::{num::NonZeroU16, time::Duration};

use meshraft::host::NamespaceOptions;
use meshraft_consensus::{ConfigBuilder, Entry, Namespace};

use super::{Seat, World};
use crate::{
    machine::{Recorder, Recording},
    plan::{Founding, Plan},
};

/// How many entries a log may keep behind its snapshot: the preset of cores.
const KEEP_ENTRIES_MAX: u64 = 8;

/// How many entries a log may hold while nothing goes wrong. A large snapshot is due only when what
/// follows on it costs half as much.
pub(super) const fn kept_max(plan: &Plan) -> u64 {
    let costly = plan.padding_bytes / 2 / Entry::OVERHEAD_BYTES;
    KEEP_ENTRIES_MAX + 3 * plan.snapshot_entries + costly + 50
}

impl World {
    /// How a node opens a namespace.
    pub(super) fn options(&mut self, seat: Seat, namespace: &Namespace) -> NamespaceOptions {
        let founds = !self.node(seat).join_only;
        let expect = self.plan.expect().and_then(|expect| u16::try_from(expect).ok());
        let recording = Recording::default();
        let supports = self.node(seat).supports;
        let machine = Recorder::new(recording.clone(), self.plan.padding_bytes, supports);
        let forced = founds && self.plan.founding == Founding::Forced;
        let process = self.node_mut(seat).process.as_mut().expect("a process that starts");
        process.recordings.insert(namespace.clone(), recording);
        let force = forced && process.host.check_force(namespace, None).is_ok();
        let targets = match self.plan.founding {
            Founding::Window(_) => self.nodes.len() - 1,
            _ => usize::from(seat.0 > 0),
        };
        let core = core(&self.plan).build().expect("the preset is valid");
        NamespaceOptions {
            expect: expect.filter(|_| founds).and_then(NonZeroU16::new),
            found: founds,
            window: Duration::from_secs(1),
            threshold_percent: match self.plan.founding {
                Founding::Window(threshold_percent) => threshold_percent,
                _ => 80,
            },
            force,
            voters_target: self.plan.voters_target,
            core,
            machine: Box::new(machine),
            supports,
            snapshot_bytes: NamespaceOptions::SNAPSHOT_BYTES,
            snapshot_entries: self.plan.snapshot_entries,
            known: Vec::new(),
            keyed: self.plan.keyed(),
            targets,
        }
    }
}

/// The preset of simulations; where a snapshot is large its parts are, too, or no transfer would
/// ever end.
fn core(plan: &Plan) -> ConfigBuilder {
    let preset = ConfigBuilder::simulation();
    let append_bytes_max = preset.append_bytes_max.max(plan.padding_bytes / 16);
    // Two clocks drift apart by at most twice what each may, where leases are read on.
    let permille = u64::from(plan.faults.drift.per_million()) * 21 / 10_000 + 1;
    let lease_drift_permille = plan
        .leases
        .then_some(permille)
        .and_then(|permille| NonZeroU16::new(u16::try_from(permille).ok()?));
    let quiesce_after = plan.quiesce_after;
    ConfigBuilder { append_bytes_max, lease_drift_permille, quiesce_after, ..preset }
}
