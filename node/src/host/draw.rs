//! Numbers that a node draws from its seed, each for one purpose of one namespace.
//!
//! The seed is fresh each run, so that no other life of a namespace in any store has the same.

use meshraft_consensus::{Config, Incarnation, Namespace};

use super::HostConfig;

/// The same configuration with a seed of its own.
pub(super) fn seeded(config: &Config, seed: u64) -> Config {
    let mut knobs = config.knobs().clone();
    knobs.seed = seed;
    // The seed is under no rule, so knobs that were valid still are.
    knobs.build().unwrap_or_else(|_| config.clone())
}

/// Bytes drawn from the host's seed for one purpose of one namespace.
fn drawn(config: &HostConfig, namespace: &Namespace, purpose: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&config.seed);
    context.update(config.node.as_bytes());
    context.update(namespace.as_str().as_bytes());
    context.update(purpose);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// 128 bits that no other life of this namespace in any store has: the seed is fresh each run.
pub(super) fn draw_incarnation(config: &HostConfig, namespace: &Namespace) -> Incarnation {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] =
        drawn(config, namespace, b"incarnation");
    Incarnation::new([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// A seed for another value.
pub(super) fn number_from(config: &HostConfig, namespace: &Namespace, purpose: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = drawn(config, namespace, purpose);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
