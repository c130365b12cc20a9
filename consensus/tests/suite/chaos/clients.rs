//! What clients of a random history did, and what they must be told.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshraft_consensus::{Event, Index, Member, Outcome, Output};

use super::world::World;

/// What clients did, and what they must find.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) proposed: BTreeMap<u64, Bytes>,
    pub(super) resolved: BTreeMap<u64, Outcome>,
    /// For each read the newest commit that anybody knew when it began.
    pub(super) reads: BTreeMap<u64, (Member, Index)>,
    /// Transfers that are not resolved, and who was asked.
    pub(super) transfers: BTreeMap<u64, Member>,
}

impl Clients {
    /// This member crashed: whatever it owed an answer to will never have one.
    pub(super) fn forget(&mut self, me: Member) {
        self.reads.retain(|_, (reader, _)| *reader != me);
        self.transfers.retain(|_, leader| *leader != me);
    }
}

impl World {
    /// Checks what the last step told the clients.
    pub(super) fn look(&mut self) {
        for (me, output) in &self.cluster.outputs {
            match output {
                Output::Resolve { id, outcome } => {
                    let before = self.clients.resolved.insert(id.get(), outcome.clone());
                    assert_eq!(before, None, "{me}: proposal {id} resolved twice");
                    self.clients.transfers.remove(&id.get());
                    if let Outcome::Transferred { leader, term } = outcome {
                        assert_eq!(self.cluster.leader_of(*term), Some(*leader));
                        self.tally.transfers += 1;
                    }
                }
                Output::ReadReady { id, index } => {
                    let asked = self.clients.reads.remove(&id.get());
                    let (reader, floor) = asked.expect("each read is answered once");
                    assert_eq!(reader, *me);
                    assert!(*index >= floor, "read {id} at {index} misses commit {floor}");
                }
                Output::InstallSnapshot(_) => self.tally.installs += 1,
                Output::Departed { index } => {
                    let told = self.departed.insert(*me, *index);
                    assert!(told.is_none_or(|told| told < *index), "{me} is told news");
                    self.tally.departures += 1;
                }
                Output::Observe(Event::Readmitted { .. }) => {
                    // It need not know that it had departed.
                    self.departed.remove(me);
                    self.tally.readmissions += 1;
                }
                Output::Amnesia { .. } | Output::Observe(Event::Amnesia { .. }) => {
                    panic!("{me}: no store went back in time");
                }
                Output::ReadFailed { id, .. } => {
                    assert!(self.clients.reads.remove(&id.get()).is_some(), "answered once");
                }
                _ => {}
            }
        }
        self.cluster.outputs.clear();
        self.cluster.trace.clear();
    }

    pub(super) fn check_outcomes(&mut self) {
        let history = &self.cluster.history;
        for (id, outcome) in &self.clients.resolved {
            let Some(command) = self.clients.proposed.get(id) else { continue };
            let places: Vec<_> = history.values().filter(|entry| entry.bytes == *command).collect();
            match outcome {
                Outcome::Committed(at) => {
                    assert_eq!(places.len(), 1, "proposal {id} is in the history once");
                    assert_eq!(places[0].position, *at);
                }
                Outcome::Rejected(_) => assert!(places.is_empty(), "{id} was rejected"),
                Outcome::Transferred { .. } => panic!("{id} is no transfer"),
                Outcome::Unknown => assert!(places.len() <= 1, "{id} took effect twice"),
            }
        }
    }
}
