//! Shrinks what a failing seed did to a short list of steps that still fails in the same way.
//!
//! What is left reads like a golden scenario. Messages are delivered only if they were sent: where
//! an earlier step is gone, the newest one of the same kind between the same two takes the place.

use std::{
    fmt,
    mem::discriminant,
    panic::{AssertUnwindSafe, catch_unwind},
};

use meshraft_consensus::Message;

use super::{
    CorePlan, CoreWorld,
    cluster::Want,
    run,
    step::{Step, Timed},
    text,
};
use crate::check::Violation;

/// A short list of steps that fails.
#[derive(Debug)]
pub struct Shrunk {
    steps: Vec<Timed>,
    /// How many steps the run had.
    pub before: usize,
    /// How it fails.
    pub violation: Violation,
}

impl Shrunk {
    /// How many steps are left.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing need be done to fail.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|timed| writeln!(f, "{timed}"))?;
        write!(f, "{}", self.violation)
    }
}

/// How many times steps are tried, at most.
const TRIES_MAX: usize = 20_000;

/// Shrinks the run of a plan; nothing if it does not fail, or only by what does not happen.
pub fn shrink(plan: &CorePlan) -> Option<Shrunk> {
    let mut world = CoreWorld::new(CorePlan { print: false, ..plan.clone() });
    world.record = Some(Vec::new());
    let (result, world) = run(world);
    let violation = *result.err()?.violation;
    let steps = world.record.unwrap_or_default();
    if violation.is_liveness() || !fails(plan, &steps, &violation) {
        return None;
    }
    let before = steps.len();
    let mut tries = 0;
    let mut steps = without_parts(plan, steps, &violation, &mut tries);
    for place in 0..steps.len() {
        let mut at_once = steps.clone();
        at_once[place].gathers = false;
        if fails(plan, &at_once, &violation) {
            steps = at_once;
        }
    }
    let steps = without_parts(plan, steps, &violation, &mut tries);
    let (steps, violation) = replay(plan, &steps);
    Some(Shrunk { steps, before, violation: violation? })
}

/// Leaves out ever smaller parts, as long as the rest fails.
fn without_parts(
    plan: &CorePlan,
    mut steps: Vec<Timed>,
    violation: &Violation,
    tries: &mut usize,
) -> Vec<Timed> {
    let mut size = steps.len().div_ceil(2).max(1);
    loop {
        let (mut place, before) = (0, steps.len());
        while place < steps.len() && *tries < TRIES_MAX {
            *tries += 1;
            let end = (place + size).min(steps.len());
            let rest: Vec<Timed> = steps[..place].iter().chain(&steps[end..]).cloned().collect();
            if fails(plan, &rest, violation) {
                steps = rest;
            } else {
                place = end;
            }
        }
        if *tries >= TRIES_MAX || (size == 1 && steps.len() == before) {
            return steps;
        }
        size = (size / 2).max(1);
    }
}

fn fails(plan: &CorePlan, steps: &[Timed], as_before: &Violation) -> bool {
    let (_, violation) = replay(plan, steps);
    violation.is_some_and(|violation| discriminant(&violation) == discriminant(as_before))
}

/// Does a list of steps again. Says what was done, and how that fails, if it does.
fn replay(plan: &CorePlan, steps: &[Timed]) -> (Vec<Timed>, Option<Violation>) {
    let mut done = Vec::with_capacity(steps.len());
    let mut cluster = CoreWorld::new(plan.clone()).cluster;
    let mut sent: Vec<(usize, Step)> = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for timed in steps {
            let mut timed = timed.clone();
            if let Step::Deliver { .. } = timed.step {
                let Some(step) = nearest(&sent, &timed.step) else { continue };
                timed.step = step;
            }
            done.push(timed.clone());
            cluster.step(timed)?;
            for want in std::mem::take(&mut cluster.wants) {
                if let Want::Send { from, to, message } = want {
                    sent.push((kind(&message), Step::Deliver { from, to, message }));
                }
            }
        }
        Ok(())
    }));
    match outcome {
        Ok(result) => (done, result.err()),
        Err(panic) => (done, Some(Violation::Panicked(text(&*panic)))),
    }
}

/// What was sent that is most like a message: the same, or the newest of its kind.
fn nearest(sent: &[(usize, Step)], wanted: &Step) -> Option<Step> {
    if let Some((_, same)) = sent.iter().rev().find(|(_, step)| step == wanted) {
        return Some(same.clone());
    }
    let Step::Deliver { from, to, message } = wanted else { return None };
    let alike = sent.iter().rev().find(|(is, step)| {
        let Step::Deliver { from: by, to: at, .. } = step else { return false };
        *is == kind(message) && (by, at) == (from, to)
    });
    alike.map(|(_, step)| step.clone())
}

/// A number for each kind of message.
const fn kind(message: &Message) -> usize {
    match message {
        Message::AppendRequest(request) => 100 + !request.entries.is_empty() as usize,
        Message::AppendResponse(_) => 1,
        Message::Heartbeat(_) => 2,
        Message::HeartbeatResponse(_) => 3,
        Message::VoteRequest(request) => 20 + request.kind as usize,
        Message::VoteResponse(response) => 30 + response.kind as usize,
        Message::ReadRequest(_) => 4,
        Message::ReadResponse(_) => 5,
        Message::TimeoutNow(_) => 6,
        Message::Quiesce(_) => 7,
        Message::SnapshotOffer(_) => 8,
        Message::SnapshotResponse(_) => 9,
        Message::Amnesia(_) => 10,
        Message::Dismissed(_) => 11,
        Message::Committed(_) => 13,
        Message::RepairRequest(_) => 14,
        Message::RepairResponse(_) => 15,
        _ => 12,
    }
}
