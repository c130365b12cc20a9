//! Visits every state that a small world can come to, and the tests that say which worlds.

use std::{collections::HashSet, rc::Rc};

use super::{Action, Budget, Small};

/// How a state was reached.
struct Step {
    action: Action,
    before: Option<Rc<Self>>,
}

fn explore(budget: Budget) -> (usize, usize) {
    let first = Small::new(budget);
    let mut known = HashSet::from([first.digest()]);
    let mut open: Vec<(Small, Option<Rc<Step>>)> = vec![(first, None)];
    let mut living = 0;
    while let Some((world, path)) = open.pop() {
        for action in world.actions(budget) {
            let trace = || Rc::new(Step { action: action.clone(), before: path.clone() });
            let judged = std::panic::AssertUnwindSafe(|| {
                let next = world.after(&action, budget)?;
                let new = known.insert(next.digest());
                new.then(|| {
                    next.check();
                    if known.len() % 61 == 0 {
                        assert!(next.ends_well(budget), "stuck");
                    }
                    next
                })
            });
            match std::panic::catch_unwind(judged) {
                // What late messages do to members is seen while the others are none yet.
                Ok(Some(next)) if next.all_joined() => {}
                Ok(Some(next)) => {
                    living += usize::from(next.fates.values().any(|(_, found)| *found));
                    open.push((next, Some(trace())));
                }
                Ok(None) => {}
                Err(failure) => {
                    let mut step = Some(trace());
                    while let Some(it) = step {
                        println!("{:?}", it.action);
                        step = it.before.clone();
                    }
                    std::panic::resume_unwind(failure);
                }
            }
        }
    }
    (known.len(), living)
}

/// `MORE=n` explores as many proposals more: see docs/testing.md.
fn safe_in_every_state(budget: Budget) {
    let more = std::env::var("MORE").map_or(0, |more| more.parse().unwrap());
    let budget = Budget { proposals: budget.proposals + more, ..budget };
    let (states, living) = explore(budget);
    println!("{states} states, a cluster lives in {living}");
    assert!(living > 1_000, "an exploration in which hardly anything lives shows nothing");
}

const BUDGET: Budget = Budget {
    expects: &[],
    sets: &[],
    proposals: 2,
    crashes: 0,
    slow_disks: false,
    keyed: true,
    lies: 0,
};

#[test]
fn two_nodes_with_slow_disks_and_a_crash() {
    safe_in_every_state(Budget { expects: &[2, 2], crashes: 1, slow_disks: true, ..BUDGET });
}

#[test]
fn three_nodes_of_which_two_found() {
    safe_in_every_state(Budget { expects: &[2, 2, 2], ..BUDGET });
}

#[test]
fn three_nodes_that_all_found_with_a_crash() {
    safe_in_every_state(Budget { expects: &[3, 3, 3], proposals: 1, crashes: 1, ..BUDGET });
}

/// Without an expected number there may be two clusters, and never a node in both.
#[test]
fn two_nodes_without_an_expected_number() {
    safe_in_every_state(Budget { expects: &[0, 0], crashes: 1, ..BUDGET });
}

#[test]
fn three_nodes_of_which_two_propose_what_they_see() {
    let sets: &[&[u8]] = &[&[0, 2], &[1, 2], &[1]];
    safe_in_every_state(Budget { expects: &[0, 0, 0], sets, ..BUDGET });
}

/// An honest pair beside one that says anything: what it names of sets and clusters, at any time.
#[test]
fn two_nodes_and_a_liar() {
    let open = Budget { expects: &[2, 2], proposals: 1, keyed: false, lies: 2, ..BUDGET };
    safe_in_every_state(open);
}

#[test]
fn two_nodes_and_a_liar_with_a_crash() {
    let open = Budget { expects: &[2, 2], proposals: 1, crashes: 1, keyed: false, ..BUDGET };
    safe_in_every_state(Budget { lies: 1, slow_disks: true, ..open });
}

#[test]
fn three_nodes_and_a_liar() {
    let sets: &[&[u8]] = &[&[0, 1]];
    let open = Budget { expects: &[2, 2, 2], sets, proposals: 1, keyed: false, ..BUDGET };
    safe_in_every_state(Budget { lies: 1, ..open });
}
