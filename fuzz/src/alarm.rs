//! Does the alarm work: looks for planted mistakes, seed after seed, as the simulator looks for
//! real ones.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    Plan, Violation,
    cores::{CorePlan, simulate_cores},
    mistake::Mistake,
    simulate,
};

/// A mistake, and where it is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// In the cores of a run of cores alone.
    Core(meshraft_consensus::Mistake),
    /// In the nodes of a run of whole nodes.
    Node(meshraft_service::mistake::Mistake),
    /// In what surrounds the nodes of a run of whole nodes.
    Around(Mistake),
}

/// How a mistake was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// How many seeds it took.
    pub seeds: u64,
    /// The seed that showed it.
    pub seed: u64,
    /// What it showed.
    pub violation: Violation,
}

impl Planted {
    /// Every mistake.
    pub fn all() -> impl Iterator<Item = Self> {
        let cores = meshraft_consensus::Mistake::ALL.iter().copied().map(Self::Core);
        let nodes = meshraft_service::mistake::Mistake::ALL.into_iter().map(Self::Node);
        cores.chain(nodes).chain(Mistake::ALL.into_iter().map(Self::Around))
    }

    /// What it is about.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Core(mistake) => mistake.topic(),
            Self::Node(mistake) => mistake.topic(),
            Self::Around(mistake) => mistake.topic(),
        }
    }

    /// Runs one seed with the mistake. Says what was wrong about it; that something does not go on
    /// is no sign of a mistake, unless it leads to nothing else.
    pub fn run(self, seed: u64) -> Option<Violation> {
        let violation = match self {
            Self::Core(mistake) => {
                let mut plan = CorePlan::of_seed(seed);
                plan.knobs.mistake = Some(mistake);
                simulate_cores(&plan).err().map(|failure| *failure.violation)
            }
            Self::Node(mistake) => {
                let _planted = meshraft_service::mistake::plant(mistake);
                of_nodes(&Plan::of_seed(seed))
            }
            Self::Around(mistake) => {
                let plan = Plan { mistake: Some(mistake), ..Plan::of_seed(seed) };
                of_nodes(&plan)
            }
        };
        violation.filter(|violation| self.stalls() || !violation.is_liveness())
    }

    /// Whether that nothing goes on is what it leads to.
    const fn stalls(self) -> bool {
        match self {
            Self::Core(mistake) => mistake.stalls(),
            Self::Node(mistake) => mistake.stalls(),
            Self::Around(_) => false,
        }
    }

    /// Tries seeds from one on until the mistake is found, or `goes_on` says that it is enough.
    pub fn find(self, from: u64, mut goes_on: impl FnMut(u64) -> bool) -> Option<Found> {
        let mut seeds = 0;
        while goes_on(seeds) {
            let seed = from.wrapping_add(seeds);
            seeds += 1;
            if let Some(violation) = self.run(seed) {
                return Some(Found { seeds, seed, violation });
            }
        }
        None
    }
}

/// Runs whole nodes.
fn of_nodes(plan: &Plan) -> Option<Violation> {
    let run = catch_unwind(AssertUnwindSafe(|| simulate(plan).err()));
    run.ok().flatten().map(|failure| *failure.violation)
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Core(mistake) => write!(f, "{mistake:?}"),
            Self::Node(mistake) => write!(f, "{mistake:?}"),
            Self::Around(mistake) => write!(f, "{mistake:?}"),
        }
    }
}
