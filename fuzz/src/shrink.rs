//! Shrinks a failing run of whole nodes to a short list of what went wrong.
//!
//! A run is its plan, so what is left out is a part of the plan: the end of the storm, kinds of
//! faults, nodes, clients, keys, and at last single strikes ([`Plan::only`]). Each attempt is a run
//! of its own, and replays like any other. What is left must fail in the same way.

use std::{
    collections::BTreeSet,
    fmt,
    mem::discriminant,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    Founding, Plan, Struck, Violation, World,
    cores::text,
    faults::{Fault, Strike},
};

/// How many runs are tried at most.
const TRIES_MAX: usize = 2_000;

/// A short run that fails.
#[derive(Clone, Debug)]
pub struct ShrunkPlan {
    /// Replays it.
    pub plan: Plan,
    /// What goes wrong in it.
    pub story: Vec<Struck>,
    /// How much went wrong at first.
    pub before: usize,
    /// How many runs were tried.
    pub tries: usize,
    /// How it fails.
    pub violation: Violation,
}

impl fmt::Display for ShrunkPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, founders, joiners, founding, namespaces, clients, keys, .. } = self.plan;
        writeln!(
            f,
            "seed {seed}: {founders} founders ({founding:?}), {joiners} joiners, {namespaces} \
             namespaces, {clients} clients, {keys} keys, {:?} of storm{}",
            self.plan.stormy,
            if self.plan.rough { ", rough at first" } else { "" },
        )?;
        for Struck { at, strike, what } in &self.story {
            writeln!(f, "{at:>16} {strike}: {what}")?;
        }
        write!(f, "{}", self.violation)
    }
}

/// Shrinks the run of a plan; nothing if it does not fail.
pub fn shrink_plan(plan: &Plan) -> Option<ShrunkPlan> {
    let plan = Plan { print: false, whole: Duration::ZERO, ..plan.clone() };
    let first = Run::of(&plan, false);
    let violation = first.violation?;
    // What fails while things go wrong need not be healed to be seen.
    let storm_only =
        Run::of(&plan, true).violation.as_ref().map(discriminant) == Some(discriminant(&violation));
    let before = first.story.len();
    let mut search = Search { plan, violation, storm_only, tries: 0 };
    search.shorten();
    search.fewer_kinds();
    search.smaller();
    search.fewer_strikes();
    search.smaller();
    search.fewer_strikes();
    let last = Run::of(&search.plan, storm_only);
    let Search { plan, tries, .. } = search;
    Some(ShrunkPlan { plan, story: last.story, before, tries, violation: last.violation? })
}

/// How a run went.
struct Run {
    violation: Option<Violation>,
    story: Vec<Struck>,
}

impl Run {
    fn of(plan: &Plan, storm_only: bool) -> Self {
        let mut world = World::new(plan.clone());
        world.tell();
        let run = || if storm_only { world.storm() } else { world.run() };
        let violation = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(*failure.violation),
            Err(panic) => Some(Violation::Panicked(text(&*panic))),
        };
        let violation = violation.filter(|violation| !world.allows(violation));
        Self { violation, story: world.story() }
    }
}

struct Search {
    /// The shortest plan so far that fails.
    plan: Plan,
    violation: Violation,
    storm_only: bool,
    tries: usize,
}

impl Search {
    /// Goes on with another plan if that fails as well.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.tries >= TRIES_MAX || plan == self.plan {
            return false;
        }
        self.tries += 1;
        let run = Run::of(&plan, self.storm_only);
        let same =
            run.violation.is_some_and(|it| discriminant(&it) == discriminant(&self.violation));
        if same {
            self.plan = plan;
        }
        same
    }

    fn shorten(&mut self) {
        loop {
            let stormy = self.plan.stormy;
            let shorter = [stormy / 2, stormy * 3 / 4, stormy * 9 / 10];
            let mut plans = shorter.map(|stormy| Plan { stormy, ..self.plan.clone() }).into_iter();
            if !plans.any(|plan| self.attempt(plan)) {
                return;
            }
        }
    }

    fn fewer_kinds(&mut self) {
        for fault in Fault::ALL {
            let faults = self.plan.faults.without(*fault);
            self.attempt(Plan { faults, ..self.plan.clone() });
        }
    }

    /// Fewer nodes, clients and keys.
    fn smaller(&mut self) {
        let plan = self.plan.clone();
        self.attempt(Plan { joiners: 0, ..plan });
        let plan = self.plan.clone();
        self.attempt(Plan { namespaces: 1, ..plan });
        for clients in 1..self.plan.clients {
            if self.attempt(Plan { clients, ..self.plan.clone() }) {
                break;
            }
        }
        for keys in 1..self.plan.keys {
            if self.attempt(Plan { keys, ..self.plan.clone() }) {
                break;
            }
        }
        for founders in 1..self.plan.founders {
            let founding = match self.plan.founding {
                Founding::Expect(_) => Founding::Expect(founders),
                founding => founding,
            };
            if self.attempt(Plan { founders, founding, ..self.plan.clone() }) {
                break;
            }
        }
        let plan = self.plan.clone();
        self.attempt(Plan { padding_bytes: 0, ..plan });
    }

    /// Leaves out ever smaller parts of what strikes.
    fn fewer_strikes(&mut self) {
        let run = Run::of(&self.plan, self.storm_only);
        let mut strikes: Vec<Strike> = run.story.iter().map(|struck| struck.strike).collect();
        strikes.sort_unstable();
        strikes.dedup();
        if !self.attempt_only(&strikes) {
            return;
        }
        let mut size = strikes.len().div_ceil(2).max(1);
        loop {
            let (mut place, before) = (0, strikes.len());
            while place < strikes.len() {
                let end = (place + size).min(strikes.len());
                let rest = [&strikes[..place], &strikes[end..]].concat();
                if self.attempt_only(&rest) {
                    strikes = rest;
                } else {
                    place = end;
                }
            }
            if self.tries >= TRIES_MAX || (size == 1 && strikes.len() == before) {
                return;
            }
            size = (size / 2).max(1);
        }
    }

    fn attempt_only(&mut self, strikes: &[Strike]) -> bool {
        let only: BTreeSet<Strike> = strikes.iter().copied().collect();
        let known = self.plan.only.as_ref() == Some(&only);
        known || self.attempt(Plan { only: Some(only), ..self.plan.clone() })
    }
}
