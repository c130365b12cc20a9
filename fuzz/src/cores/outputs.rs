//! Does what cores ask for, and looks at them when they have nothing more to ask.

use meshraft_consensus::{
    DropReason, Entry, Event, Fate, Index, Input, Member, Message, Outcome, Output, Position,
    ProposalId, Role, Term,
};

use super::{
    cluster::{Cluster, Want, command},
    counts::CoreRare,
    member::{Advance, Fetch},
    step::seat_of,
};
use crate::{check::Violation, world::Seat};

impl Cluster {
    /// Takes all outputs of a core, does what they ask for, and looks at it.
    pub(super) fn drain(&mut self, seat: Seat) -> Result<(), Violation> {
        self.drain_after(seat, Vec::new())
    }

    /// The same, after these outputs, which a core had before all others.
    pub(super) fn drain_after(&mut self, seat: Seat, before: Vec<Output>) -> Result<(), Violation> {
        self.node_mut(seat).gathers = false;
        let mut resolved = Vec::new();
        let mut before = before.into_iter();
        loop {
            let Some(core) = &mut self.node_mut(seat).core else { return Ok(()) };
            let Some(output) = before.next().or_else(|| core.poll()) else {
                match self.acquaint(seat)? {
                    true => continue,
                    false => break,
                }
            };
            match output {
                Output::Resolve { id, outcome } => resolved.push((id, outcome)),
                Output::NeedFirstEntry { .. } => {
                    self.handle(seat, Input::FirstEntry(Fate::Found));
                }
                other => self.output(seat, other)?,
            }
        }
        self.observe(seat)?;
        for (id, outcome) in resolved {
            self.resolve(id, &outcome)?;
        }
        Ok(())
    }

    fn resolve(&mut self, id: ProposalId, outcome: &Outcome) -> Result<(), Violation> {
        if let Outcome::Unknown = outcome {
            self.counts.note(CoreRare::OutcomeUnknown);
        }
        let bytes = self.proposed.remove(&id);
        if bytes.is_none() && matches!(outcome, Outcome::Committed(_)) {
            self.counts.note(CoreRare::Changed);
        }
        let command = bytes.map(|bytes| command(id, bytes)).unwrap_or_default();
        self.checks.resolved(id, outcome, &command, bytes.is_some())
    }

    fn output(&mut self, seat: Seat, output: Output) -> Result<(), Violation> {
        let node = &mut self.nodes[seat.0];
        match output {
            Output::Send { to, message, .. } => return self.sends(seat, to, message),
            Output::Persist(write) => {
                self.checks.submitted(node.key, &write)?;
                node.expect_same(&write)?;
                let covered = write.snapshot().map(|it| it.meta.position.index);
                let passed = covered.is_some_and(|covered| covered > node.machine.applied.index);
                node.replaced |= passed;
                node.disk.submit(write);
                self.wants.push(Want::Write(seat));
            }
            Output::Apply(entries) => {
                if node.replaced {
                    let (member, what) = (node.me, "comes while the state is being replaced");
                    let position = entries.last().map_or(Position::ZERO, |last| last.position);
                    return Err(Violation::Applied { member, position, what });
                }
                node.handed.extend(entries);
            }
            Output::Load { id, range, bytes_max } => {
                node.loads.push_back((id, range, bytes_max));
                self.wants.push(Want::Load(seat));
            }
            Output::ReadReady { id, index } => {
                self.counts.note(CoreRare::Read);
                let term = node.core.as_ref().map_or(Term::ZERO, |core| core.term());
                self.checks.read_ended(id, Some(index), term)?;
                let leads = node.core.as_ref().filter(|core| core.role() == Role::Leader);
                let leads = leads.map(|core| core.term());
                self.checks.rounds.serves(id, leads, &node.configuration)?;
            }
            Output::ReadFailed { id, .. } => self.checks.read_ended(id, None, Term::ZERO)?,
            Output::FetchSnapshot { from, meta } => {
                node.fetch = Some(Fetch { from, meta: *meta, parts: 0 });
                self.wants.push(Want::Part(seat));
            }
            Output::InstallSnapshot(meta) => {
                self.checks.restores(node.key, node.me, meta.position)?;
                node.install = Some(*meta);
                self.wants.push(Want::Install(seat));
            }
            Output::Amnesia { .. } => self.retires(seat)?,
            Output::Departed { index } => {
                node.expect_departed(index)?;
                self.counts.note(CoreRare::Departed);
            }
            Output::Observe(event) => {
                let (me, core) = (node.me, node.core.as_ref());
                let term = core.map(|core| core.term()).unwrap_or_default();
                self.watch(me, term, &event)?;
            }
            Output::SendSnapshot { .. }
            | Output::Resolve { .. }
            | Output::NeedFirstEntry { .. } => {}
        }
        Ok(())
    }

    fn sends(&mut self, seat: Seat, to: Member, message: Message) -> Result<(), Violation> {
        let node = &self.nodes[seat.0];
        self.checks.says(node.key, node.me, &message)?;
        self.checks.votes(node.key, node.me, to, &message)?;
        if let Message::Heartbeat(heartbeat) = &message {
            self.checks.rounds.sends(node.me, heartbeat, self.now);
        }
        node.expect_whole(&message)?;
        self.wants.push(match node.opens(&to, &message) {
            true => Want::Send { from: node.me, to, message: Box::new(message) },
            // There is no handle that could carry it.
            false => Want::Meet(seat, seat_of(to)),
        });
        Ok(())
    }

    /// Counts what is rare, and refuses what no correct cluster shows.
    fn watch(&mut self, me: Member, term: Term, event: &Event) -> Result<(), Violation> {
        let rare = match event {
            Event::Dropped { from, reason } => {
                let reason = *reason;
                if matches!(
                    reason,
                    DropReason::Malformed
                        | DropReason::SecondLeader
                        | DropReason::CommittedConflict
                ) {
                    return Err(Violation::Dropped { member: me, from: *from, reason });
                }
                CoreRare::Dropped
            }
            Event::Amnesia { member, .. } => {
                self.checks.forgot(term, *member)?;
                CoreRare::Amnesia
            }
            Event::BecameRole { role: Role::Leader, .. } => CoreRare::Leader,
            Event::BecameRole { role: Role::Candidate, .. } => CoreRare::Campaign,
            Event::BecameRole { role: Role::PreCandidate, .. } => CoreRare::PreCampaign,
            Event::QuorumLost { .. } => CoreRare::QuorumLost,
            Event::Truncated { .. } => CoreRare::Truncated,
            Event::ConfigurationChanged { joint: true, .. } => CoreRare::Joint,
            Event::ConfigurationRolledBack { .. } => CoreRare::RolledBack,
            Event::LearnerCaughtUp { .. } => CoreRare::Promoted,
            Event::Compacted { .. } => CoreRare::Compacted,
            Event::Damaged { .. } => CoreRare::Damaged,
            Event::Repaired { .. } => CoreRare::Repaired,
            Event::Readmitted { .. } => CoreRare::Readmitted,
            _ => return Ok(()),
        };
        self.counts.note(rare);
        Ok(())
    }

    /// Looks at a core that has nothing more to ask for.
    fn observe(&mut self, seat: Seat) -> Result<(), Violation> {
        let node = &self.nodes[seat.0];
        let Some(core) = &node.core else { return Ok(()) };
        let leads = (core.role() == Role::Leader).then(|| core.term());
        if let Some(term) = leads
            && node.led != leads
        {
            self.checks.leads(node.key, node.me, term, &node.configuration)?;
            self.expect_no_lease(seat, term)?;
        }
        let node = &mut self.nodes[seat.0];
        let Some(core) = &node.core else { return Ok(()) };
        if !std::mem::replace(&mut node.sleeps, core.is_dormant()) && node.sleeps {
            self.counts.note(CoreRare::FellAsleep);
        }
        let term = core.term();
        let led = std::mem::replace(&mut node.led, leads);
        for Advance { to, configuration, led: leader } in std::mem::take(&mut node.advances) {
            let by = led.filter(|_| leader && leads == led);
            self.checks.commits(node.me, (node.commit, to), term, &configuration, by)?;
            if leader && configuration.is_joint() {
                self.counts.note(CoreRare::JointCommit);
            }
            node.commit = to;
        }
        if !node.disk.is_known_lost(node.machine.applied.index) {
            self.checks.configured(node.key, node.me, &node.founders(), &node.configuration)?;
        }
        core.check_invariants();
        let handed = std::mem::take(&mut node.handed);
        if handed.is_empty() {
            return Ok(());
        }
        self.wants.push(Want::Applied(seat));
        handed.iter().try_for_each(|entry| self.apply(seat, entry))?;
        self.consider_snapshot(seat);
        Ok(())
    }

    /// Whoever leads in a new term: nobody may still read on the lease of an older one.
    fn expect_no_lease(&self, seat: Seat, term: Term) -> Result<(), Violation> {
        for other in self.seats().filter(|other| *other != seat) {
            let node = self.node(other);
            let Some(core) = node.core.as_ref().filter(|core| core.term() < term) else { continue };
            if core.lease_until().is_some_and(|until| node.clock.local(self.now) < until) {
                let what = "that it may read on its lease, when another leads already";
                return Err(Violation::Claim { member: node.me, what });
            }
        }
        Ok(())
    }

    fn apply(&mut self, seat: Seat, entry: &Entry) -> Result<(), Violation> {
        let node = &mut self.nodes[seat.0];
        let before = node.machine.applied;
        node.machine.apply(entry);
        self.checks.applies(node.key, node.me, before, entry, node.machine.state)
    }

    /// Takes a snapshot if one is due.
    fn consider_snapshot(&mut self, seat: Seat) {
        let snapshot_entries = self.snapshot_entries;
        let node = self.node_mut(seat);
        let applied: Index = node.machine.applied.index;
        let due = applied.distance_from(node.machine.covered) >= snapshot_entries;
        if due && node.taking.is_none() {
            node.machine.covered = applied;
            node.taking = Some(node.machine.file());
            self.wants.push(Want::Take(seat));
        }
    }
}
