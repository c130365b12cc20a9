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
    planted, simulate,
};

/// The simulator that looks for a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simulator {
    /// The simulator of cores alone.
    Cores,
    /// The simulator of whole nodes.
    Nodes,
}

/// A mistake that is compiled into this build, switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Compiled {
    /// The number that switches the mistake on, from one.
    pub number: u16,
    /// The name.
    pub name: &'static str,
    /// The topic.
    pub topic: &'static str,
    /// Whether the mistake never breaks an invariant, and only keeps a cluster from going on.
    pub stalls: bool,
    /// The simulator that looks for the mistake.
    pub simulator: Simulator,
}

/// A mistake, and where it is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// In the sources of this build.
    Inside(&'static Compiled),
    /// In what surrounds the nodes of a run of whole nodes.
    Around(Mistake),
}

/// A mistake of the sources is switched on in the current thread as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct SwitchedOn(());

impl Drop for SwitchedOn {
    fn drop(&mut self) {
        planted::choose(0);
    }
}

impl Compiled {
    /// The mistakes of this build. There are none but in the planter's copy of the sources.
    pub const ALL: &[Self] = planted::COMPILED;

    /// Switches the mistake on in everything that the current thread runs.
    pub fn switch_on(&self) -> SwitchedOn {
        planted::choose(self.number);
        SwitchedOn(())
    }
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
        let inside = Compiled::ALL.iter().map(Self::Inside);
        inside.chain(Mistake::ALL.into_iter().map(Self::Around))
    }

    /// What it is about.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Inside(mistake) => mistake.topic,
            Self::Around(mistake) => mistake.topic(),
        }
    }

    /// Runs one seed with the mistake. Says what was wrong about it; that something does not go on
    /// is no sign of a mistake, unless it leads to nothing else.
    pub fn run(self, seed: u64) -> Option<Violation> {
        let violation = match self {
            Self::Inside(mistake) => {
                let _on = mistake.switch_on();
                match mistake.simulator {
                    Simulator::Cores => of_cores(&CorePlan::of_seed(seed)),
                    Simulator::Nodes => of_nodes(&Plan::of_seed(seed)),
                }
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
            Self::Inside(mistake) => mistake.stalls,
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

/// Runs cores alone.
fn of_cores(plan: &CorePlan) -> Option<Violation> {
    simulate_cores(plan).err().map(|failure| *failure.violation)
}

/// Runs whole nodes.
fn of_nodes(plan: &Plan) -> Option<Violation> {
    let run = catch_unwind(AssertUnwindSafe(|| simulate(plan).err()));
    run.ok().flatten().map(|failure| *failure.violation)
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(mistake) => f.write_str(mistake.name),
            Self::Around(mistake) => write!(f, "{mistake:?}"),
        }
    }
}
