//! What is checked of a core alone: everything that it hands out, against shadows of all disks.
//!
//! Nothing that a core says of itself is trusted, but for its commit index, its role and the
//! configuration that it counts by, which are compared with what it wrote.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{
    ClusterId, Configuration, Entry, HardState, Index, Member, Message, Outcome, Position,
    ProposalId, ReadId, Term, Write,
};

use super::{
    GroupKey, Violation,
    election::Elections,
    log::Logs,
    rounds::Rounds,
    shadow::{EntryDigest, place},
};

/// The one cluster of a run.
pub(crate) const CLUSTER: ClusterId = ClusterId::new([7; 32]);

/// A proposal, change or transfer that has no answer yet, or had one.
#[derive(Clone, Debug)]
enum Promise {
    Open { by: GroupKey },
    Answered,
}

/// Everything that is checked while cores run.
#[derive(Debug, Default)]
pub(crate) struct CoreChecks {
    pub(super) elections: Elections,
    pub(super) logs: Logs,
    /// Whom a leader, in its term, found to have forgotten what it acknowledged.
    pub(super) forgetful: BTreeMap<Term, BTreeSet<Member>>,
    pub(crate) rounds: Rounds,
    /// The state of a machine after each index.
    states: Vec<u64>,
    promises: BTreeMap<ProposalId, Promise>,
    /// Reads that have no answer yet, with what had been committed and the latest term in which
    /// anyone led when they began.
    reads: BTreeMap<ReadId, (GroupKey, Index, Term)>,
    /// Digests of commands that were said never to take effect.
    rejected: BTreeSet<Vec<u8>>,
    /// Configurations that were appended since the last look.
    appended: Vec<(GroupKey, Position)>,
}

impl CoreChecks {
    /// A disk begins, empty, as this member's.
    pub(crate) fn begin(&mut self, key: GroupKey, me: Member) {
        self.logs.begin(key, CLUSTER, me);
    }

    /// A process goes on from its disk; what was promised by the last one is void.
    pub(crate) fn started(&mut self, key: GroupKey) {
        self.logs.started(key.0);
    }

    /// A process died.
    pub(crate) fn crashed(&mut self, key: GroupKey) {
        let gone = |by: &GroupKey| by.0 == key.0;
        self.promises.retain(|_, promise| !matches!(promise, Promise::Open { by } if gone(by)));
        self.reads.retain(|_, (by, _, _)| !gone(by));
        self.appended.retain(|(by, _)| !gone(by));
    }

    /// A disk is lost.
    pub(crate) fn wiped(&mut self, key: GroupKey) {
        self.logs.wiped(key.0);
    }

    /// A core hands a write to its disk.
    pub(crate) fn submitted(&mut self, key: GroupKey, write: &Write) -> Result<(), Violation> {
        let before = self.logs.known_configurations();
        self.logs.written(key, write, &self.elections)?;
        if self.logs.known_configurations() > before {
            let new = write.append.iter().map(|entry| entry.position);
            let new = new.filter(|position| self.logs.is_configuration(CLUSTER, *position));
            self.appended.extend(new.map(|position| (key, position)));
        }
        Ok(())
    }

    /// A write is durable.
    pub(crate) fn durable(&mut self, key: GroupKey, write: &Write) -> Result<(), Violation> {
        self.logs.written_durably(key, write, &mut self.elections)
    }

    /// How much is committed.
    pub(crate) fn committed(&self) -> Index {
        self.logs.committed_up_to(CLUSTER)
    }

    /// Whether this very entry is committed.
    pub(crate) fn is_committed(&self, entry: &Entry) -> bool {
        let committed = self.logs.all_committed(CLUSTER);
        committed.get(place(entry.position.index.previous())) == Some(&EntryDigest::of(entry))
    }

    /// A core leads.
    pub(crate) fn leads(
        &mut self,
        key: GroupKey,
        me: Member,
        term: Term,
        configuration: &Configuration,
    ) -> Result<(), Violation> {
        if !self.elections.leads(CLUSTER, term, me)? {
            return Ok(());
        }
        let hard = self.hard(key);
        if hard.term != term || hard.vote != Some(me) {
            let what = "that it leads, and has not voted for itself for good";
            return Err(Violation::Claim { member: me, what });
        }
        // One that was set back may have forgotten its vote since.
        let voted = |voter: &&Member| {
            self.elections.vote_of(CLUSTER, **voter, term) == Some(me)
                || self.elections.is_set_back(**voter)
        };
        let quorum = |half: &BTreeSet<Member>| {
            half.is_empty() || half.iter().filter(voted).count() * 2 > half.len()
        };
        if !quorum(&configuration.voters) || !quorum(&configuration.outgoing) {
            let what = "that it leads, and has not the votes of a quorum";
            return Err(Violation::Claim { member: me, what });
        }
        self.logs.leads(CLUSTER, term, me)
    }

    /// A core's commit index advanced; each advance is with the configuration by which it was
    /// counted, and with the term that it led, if it did.
    pub(crate) fn commits(
        &mut self,
        me: Member,
        (from, to): (Index, Index),
        term: Term,
        configuration: &Configuration,
        led: Option<Term>,
    ) -> Result<(), Violation> {
        let new = self.logs.committed(me, CLUSTER, from, to, term)?;
        let nobody = BTreeSet::new();
        if let Some(position) = new.last() {
            let forgetful = led.and_then(|led| self.forgetful.get(&led)).unwrap_or(&nobody);
            self.logs.expect_quorum(me, CLUSTER, *position, configuration, forgetful)?;
        }
        match led {
            Some(led) => self.logs.expect_own_term(me, CLUSTER, to, led),
            None => Ok(()),
        }
    }

    /// What is in force at a core is the newest configuration in its log; and what leaders
    /// appended was due, and follows on what was before.
    pub(crate) fn configured(
        &mut self,
        key: GroupKey,
        me: Member,
        founders: &Configuration,
        told: &Configuration,
    ) -> Result<(), Violation> {
        let Some((believed, _)) = self.logs.shadows(key) else { return Ok(()) };
        let newest = self.logs.configuration_of(CLUSTER, believed.entries());
        if newest.map_or(founders, |(_, newest)| newest) != told {
            return Err(Violation::NotInForce { member: me });
        }
        for (by, position) in std::mem::take(&mut self.appended) {
            self.logs.expect_change(by, CLUSTER, position)?;
        }
        Ok(())
    }

    /// A core hands an entry to its machine, which is in `state` after it.
    pub(crate) fn applies(
        &mut self,
        key: GroupKey,
        me: Member,
        applied: Position,
        entry: &Entry,
        state: u64,
    ) -> Result<(), Violation> {
        let position = entry.position;
        let wrong = |what| Err(Violation::Applied { member: me, position, what });
        if position.index != applied.index.next() {
            return wrong("does not follow on what was applied");
        }
        let digest = EntryDigest::of(entry);
        let committed = self.logs.all_committed(CLUSTER);
        if committed.get(place(applied.index)) != Some(&digest) {
            return wrong("is not committed");
        }
        let durable = self.logs.shadows(key).and_then(|(_, durable)| durable.at(position.index));
        if durable != Some(digest) {
            return wrong("is not on its disk");
        }
        self.in_state(me, position, state)
    }

    /// A machine is in a state.
    pub(crate) fn in_state(
        &mut self,
        member: Member,
        position: Position,
        state: u64,
    ) -> Result<(), Violation> {
        let slot = place(position.index);
        if self.states.len() <= slot {
            self.states.resize(slot + 1, 0);
        }
        let known = &mut self.states[slot];
        if *known == 0 {
            *known = state;
        }
        match *known == state {
            true => Ok(()),
            false => Err(Violation::Applied { member, position, what: "gives another state" }),
        }
    }

    /// A snapshot that is to become the state must be recorded.
    pub(crate) fn restores(
        &self,
        key: GroupKey,
        me: Member,
        position: Position,
    ) -> Result<(), Violation> {
        let durable = self.logs.shadows(key).map(|(_, durable)| durable.snapshot());
        if durable.is_some_and(|durable| durable >= position) {
            return Ok(());
        }
        Err(Violation::Claim { member: me, what: "to restore a snapshot that is not recorded" })
    }

    fn hard(&self, key: GroupKey) -> HardState {
        self.logs.shadows(key).map_or(HardState::default(), |(_, durable)| durable.hard)
    }

    /// Something was asked for.
    pub(crate) fn asked(&mut self, key: GroupKey, id: ProposalId) {
        self.promises.insert(id, Promise::Open { by: key });
    }

    /// A read began.
    pub(crate) fn read(&mut self, key: GroupKey, id: ReadId) {
        let (committed, led) = (self.committed(), self.elections.last_led());
        self.reads.insert(id, (key, committed, led));
    }

    /// How something that was asked for ended.
    pub(crate) fn resolved(
        &mut self,
        id: ProposalId,
        outcome: &Outcome,
        command: &[u8],
        is_command: bool,
    ) -> Result<(), Violation> {
        let wrong = |what| Err(Violation::Promise { id: id.get(), what });
        match self.promises.insert(id, Promise::Answered) {
            Some(Promise::Open { .. }) => {}
            _ => return wrong("was answered twice, or never asked"),
        }
        let committed = self.logs.all_committed(CLUSTER);
        match outcome {
            Outcome::Rejected(_) if is_command => {
                self.rejected.insert(command.to_vec());
                Ok(())
            }
            Outcome::Committed(position) if is_command => {
                let entry = committed.get(place(position.index.previous()));
                match entry.is_some_and(|it| it.is_command(*position, command)) {
                    true => Ok(()),
                    false => wrong("is said to be committed where it is not"),
                }
            }
            _ => Ok(()),
        }
    }

    /// A read may be served, or failed.
    pub(crate) fn read_ended(
        &mut self,
        id: ReadId,
        index: Option<Index>,
        term: Term,
    ) -> Result<(), Violation> {
        let Some((_, committed, led)) = self.reads.remove(&id) else {
            return Err(Violation::Promise { id: id.get(), what: "a read was answered twice" });
        };
        match index {
            Some(index) if index < committed => Err(Violation::StaleRead { index, committed }),
            // Whoever led then had a quorum that has confirmed no older leader since.
            Some(_) if term < led => Err(Violation::Promise {
                id: id.get(),
                what: "a read was allowed by a leader of old",
            }),
            _ => Ok(()),
        }
    }

    /// Whether everything that was asked for is answered.
    pub(crate) fn is_settled(&self) -> bool {
        self.open().is_empty()
    }

    /// What has no answer yet.
    pub(crate) fn open(&self) -> Vec<u64> {
        let open = self.promises.iter().filter(|(_, it)| matches!(it, Promise::Open { .. }));
        open.map(|(id, _)| id.get()).chain(self.reads.keys().map(|id| id.get())).collect()
    }

    /// What was rejected never took effect.
    pub(crate) fn expect_rejections(&self) -> Result<(), Violation> {
        let committed = self.logs.all_committed(CLUSTER);
        for command in &self.rejected {
            if committed.iter().any(|it| it.is_command(it.position, command)) {
                let what = "a command took effect that was rejected";
                return Err(Violation::Promise { id: 0, what });
            }
        }
        Ok(())
    }

    /// What a message says of its sender must be durable.
    pub(crate) fn says(
        &self,
        key: GroupKey,
        me: Member,
        message: &Message,
    ) -> Result<(), Violation> {
        self.logs.expect_claim(key, me, message)
    }

    /// A vote that is given is durable.
    pub(crate) fn votes(
        &self,
        key: GroupKey,
        me: Member,
        to: Member,
        message: &Message,
    ) -> Result<(), Violation> {
        self.logs.expect_vote(key, me, to, message)
    }
}
