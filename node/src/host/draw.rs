//! Numbers that a node draws from its seed, each for one purpose of one life of one namespace.
//!
//! The seed is fresh each run and lives are counted within one, so that no other life of a
//! namespace in any store has the same.

use meshraft_consensus::{Config, Incarnation, Namespace};
use meshraft_storage::SnapshotId;

use super::{HostConfig, NamespaceOptions, vigil::BEAT_MIN};

/// One stretch of a namespace in one process, from its opening or its renewal on: what was asked
/// for in an earlier one has no answer in a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life(u64);

impl Life {
    /// The number, as others echo it.
    pub(super) const fn get(self) -> u64 {
        self.0
    }

    /// The one after this.
    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The same configuration with a seed of its own.
pub(super) fn seeded(config: &Config, seed: u64) -> Config {
    let mut knobs = config.knobs().clone();
    knobs.seed = seed;
    // The seed is under no rule, so knobs that were valid still are.
    knobs.build().unwrap_or_else(|_| config.clone())
}

/// The configuration of a namespace's core: with the number of voters to strive for, and never
/// asleep if its time-outs are too short for the watch over those that are.
pub(super) fn core_of(options: &NamespaceOptions) -> Config {
    let mut knobs = options.core.knobs().clone();
    knobs.voters_target = options.voters_target.max(1);
    if knobs.election < BEAT_MIN * 8 {
        knobs.quiesce_after = None;
    }
    // They are under no other rule than that there is a voter.
    knobs.build().unwrap_or_else(|_| options.core.clone())
}

/// Bytes drawn from the host's seed for one purpose of one life of a namespace.
fn drawn(config: &HostConfig, namespace: &Namespace, life: Life, purpose: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&config.seed);
    context.update(config.node.as_bytes());
    context.update(namespace.as_str().as_bytes());
    context.update(&life.0.to_be_bytes());
    context.update(purpose);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// 128 bits that no other life of this namespace in any store has.
pub(super) fn draw_incarnation(
    config: &HostConfig,
    namespace: &Namespace,
    life: Life,
) -> Incarnation {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] =
        drawn(config, namespace, life, b"incarnation");
    Incarnation::new([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// Draws ids for the snapshots of one opening of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Ids {
    seed: [u8; 32],
    drawn: u64,
}

impl Ids {
    /// Ids that no other opening draws.
    pub(super) fn new(config: &HostConfig, namespace: &Namespace, life: Life) -> Self {
        Self { seed: drawn(config, namespace, life, b"snapshots"), drawn: 0 }
    }

    /// The next one.
    pub(super) fn snapshot(&mut self) -> SnapshotId {
        self.drawn += 1;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&self.seed);
        context.update(&self.drawn.to_be_bytes());
        let mut id = [0; 16];
        for (byte, drawn) in id.iter_mut().zip(context.finish().as_ref()) {
            *byte = *drawn;
        }
        SnapshotId::new(id)
    }
}

/// A seed for another value.
pub(super) fn number_from(
    config: &HostConfig,
    namespace: &Namespace,
    life: Life,
    purpose: &[u8],
) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = drawn(config, namespace, life, purpose);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meshraft_consensus::NodeId;

    use super::*;

    #[test]
    fn no_two_lives_purposes_or_namespaces_draw_the_same() {
        let config = HostConfig::of_test(NodeId::new([1; 32]), [9; 32]);
        let names = ["/a", "/b"].map(|name| Namespace::new(name).unwrap());
        let lives = [Life::default(), Life::default().next()];
        let mut drawn_before = BTreeSet::new();
        for name in &names {
            for life in lives {
                for purpose in [b"core".as_slice(), b"founding"] {
                    assert!(drawn_before.insert(drawn(&config, name, life, purpose)));
                }
            }
        }
        let incarnations = lives.map(|life| draw_incarnation(&config, &names[0], life));
        assert_ne!(incarnations[0], incarnations[1]);
    }
}
