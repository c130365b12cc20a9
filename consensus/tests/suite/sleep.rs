//! Many groups that have nothing to do cost nothing.

use std::time::Duration;

use meshraft_consensus::{ConfigBuilder, Core, Moment};

use crate::cluster::Cluster;

/// Three members of a group that fell asleep.
fn dormant(seed: u64) -> Vec<Core> {
    let quiesce_after = Some(Duration::from_millis(100));
    let mut cluster =
        Cluster::with_knobs(3, ConfigBuilder { quiesce_after, ..ConfigBuilder::lan() });
    cluster.make_leader(1 + (seed % 3) as u8);
    cluster.run_ms(1000 + seed % 500);
    cluster.nodes.into_values().filter_map(|node| node.core).collect()
}

#[test]
fn ten_thousand_sleeping_cores_get_no_call_in_ten_minutes() {
    let cores: Vec<Core> = (0..3_334).flat_map(dormant).collect();
    assert!(cores.len() > 10_000 && cores.iter().all(Core::is_dormant));
    let end = Moment::ZERO.plus(Duration::from_secs(600));
    let due = cores.iter().filter_map(Core::deadline).filter(|due| *due <= end);
    assert_eq!(due.count(), 0);
}
