//! What one run is like: how many nodes and clients, how long, and which faults.

use std::time::Duration;

use crate::{faults::Faults, mistake::Mistake, random::Random};

/// A run before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Seeds everything.
    pub seed: u64,
    /// How many nodes may found the cluster.
    pub founders: usize,
    /// How many each of them expects: more than half, so that there can be only one cluster. Those
    /// that are left over join.
    pub expect: usize,
    /// How many nodes only join, some time later.
    pub joiners: usize,
    /// How many namespaces every node hosts.
    pub namespaces: usize,
    /// How many clients write and read.
    pub clients: usize,
    /// How many keys they use.
    pub keys: u64,
    /// What goes wrong until the world heals, from the first moment on.
    pub faults: Faults,
    /// How long things go wrong.
    pub stormy: Duration,
    /// Within this time of healing every node must serve again.
    pub recovery: Duration,
    /// Planted on purpose, to see that it is found.
    pub mistake: Option<Mistake>,
    /// Whether to print the trace.
    pub print: bool,
}

impl Plan {
    /// The run of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed).fork(1);
        let founders = match random.below(20) {
            0 => 1,
            1 => 2,
            2..5 => 4,
            5..9 => 5,
            _ => 3,
        };
        let majority = founders / 2 + 1;
        let expect = if random.below(2) == 0 { majority.max(founders.min(3)) } else { founders };
        let joiners = usize::from(random.below(4) == 0);
        let namespaces = if random.below(4) == 0 { 2 } else { 1 };
        let clients = 1 + random.place(4);
        let keys = 1 + random.below(4);
        let stormy = random.between(Duration::from_secs(10), Duration::from_secs(20));
        let faults = Faults::draw(&mut random);
        let recovery = Duration::from_secs(30);
        let (mistake, print) = (None, false);
        Self {
            seed,
            founders,
            expect,
            joiners,
            namespaces,
            clients,
            keys,
            faults,
            stormy,
            recovery,
            mistake,
            print,
        }
    }

    /// How many nodes there are.
    pub const fn nodes(&self) -> usize {
        self.founders + self.joiners
    }
}
