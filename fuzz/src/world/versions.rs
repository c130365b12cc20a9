//! Nodes of different releases: each supports some versions of commands, and restarts as a newer
//! release, or for a while as an older one.
//!
//! An older release may be too old for what is in force: it halts then, and is a whole member again
//! once it is upgraded. Nobody else halts: a release that never supported a version never meets it.

use std::time::Duration;

use meshraft::host::HaltReason;
use meshraft_consensus::{ClusterId, ClusterVersion, EntryKind, Member, Namespace, Position};
use meshraft_service::envelope::{Envelope, VERSION_LATEST};
use meshraft_storage::Job;

use super::{Event, Seat, World};
use crate::{
    check::{HaltText, Violation},
    counts::Rare,
    faults::Rate,
    plan::Plan,
    random::Random,
};

/// The newest version that a release of a simulation supports.
pub(super) const NEWEST: ClusterVersion = ClusterVersion::new(3);
/// How long a restart takes.
const RESTART: Duration = Duration::from_millis(50);

/// What each node supports when it first starts.
pub(super) fn first_releases(plan: &Plan) -> impl Iterator<Item = ClusterVersion> + use<> {
    let mixed = plan.faults.versions > Rate::NEVER;
    let mut random = Random::new(plan.seed).fork(11);
    std::iter::repeat_with(move || if mixed { draw(&mut random) } else { VERSION_LATEST })
}

fn draw(random: &mut Random) -> ClusterVersion {
    let number = 1 + random.below(u64::from(NEWEST.get()));
    ClusterVersion::new(u16::try_from(number).unwrap_or(1))
}

impl World {
    /// What comes into force once everything works again.
    pub(super) fn version_at_the_end(&self) -> ClusterVersion {
        if self.plan.faults.versions > Rate::NEVER { NEWEST } else { VERSION_LATEST }
    }

    /// A node restarts as another release; as an older one only for a while.
    pub(super) fn strike_versions(&mut self) -> Result<(), Violation> {
        let (seat, lasts) = (self.victim(), self.while_it_lasts() * 4);
        let (from, to) = (self.node(seat).supports, draw(&mut self.random));
        if !self.node(seat).is_running() || from == to {
            return Ok(());
        }
        self.struck(format_args!("n{} restarts as a release of version {to}", seat.0));
        self.checks.counts.note(if to > from { Rare::Upgraded } else { Rare::Downgraded });
        if to < from {
            self.clock.after(lasts, Event::Upgrade { seat, to: from });
        }
        self.become_release(seat, to)
    }

    /// A node restarts as a newer release, unless it did already.
    pub(super) fn upgrade(&mut self, seat: Seat, to: ClusterVersion) -> Result<(), Violation> {
        if self.node(seat).supports >= to {
            return Ok(());
        }
        self.trace.note(self.clock.now(), format_args!("n{} is upgraded to {to}", seat.0));
        self.become_release(seat, to)
    }

    fn become_release(&mut self, seat: Seat, to: ClusterVersion) -> Result<(), Violation> {
        self.node_mut(seat).supports = to;
        if self.node(seat).is_running() {
            self.crash(seat)?;
            self.clock.after(RESTART, Event::Start(seat));
        }
        Ok(())
    }

    /// A replica halted: only one that is too old for what came into force, and was not always, or
    /// was out of the cluster by then.
    pub(super) fn halted(
        &mut self,
        seat: Seat,
        namespace: &Namespace,
        reason: HaltReason,
    ) -> Result<(), Violation> {
        let wrong = Err(Violation::Halted(HaltText(reason)));
        let HaltReason::ClusterVersion { needed, supports } = reason else { return wrong };
        let Some((member, cluster)) = self.member(seat, namespace) else { return wrong };
        let too_old = supports == self.node(seat).supports && supports < needed;
        if !too_old || !self.checks.may_halt(cluster, member, needed) {
            return wrong;
        }
        self.checks.counts.note(Rare::HaltedTooOld);
        Ok(())
    }

    /// A member is out of its cluster.
    pub(super) fn departed(&mut self, seat: Seat, namespace: &Namespace) {
        if let Some((member, _)) = self.member(seat, namespace) {
            self.checks.versions.departed(member);
        }
    }

    fn member(&self, seat: Seat, namespace: &Namespace) -> Option<(Member, Option<ClusterId>)> {
        let status = self.node(seat).process.as_ref()?.host.status(namespace)?;
        Some((Member::new(status.node, status.incarnation), status.cluster))
    }

    /// Who proposes a version was told by every member that it supports it.
    pub(super) fn expect_supported(&mut self, seat: Seat, jobs: &[Job]) -> Result<(), Violation> {
        for job in jobs {
            let Some((group, write)) = job.write() else { continue };
            for entry in write.append.iter().filter(|entry| entry.kind == EntryKind::Command) {
                if let Ok(Envelope::ClusterVersion(version)) = Envelope::decode(&entry.bytes)
                    && let Some(cluster) = self.checks.cluster_of(seat, group)
                    && self.checks.versions.is_proposed(cluster, entry.position, version)
                {
                    self.expect_told(seat, cluster, entry.position, version)?;
                }
            }
        }
        Ok(())
    }

    fn expect_told(
        &mut self,
        seat: Seat,
        cluster: ClusterId,
        at: Position,
        version: ClusterVersion,
    ) -> Result<(), Violation> {
        self.checks.counts.note(Rare::VersionRaised);
        let index = at.index;
        for namespace in &self.namespaces {
            let status = self.status(seat, namespace);
            let Some(status) = status.filter(|it| it.cluster == cluster && it.term == at.term)
            else {
                continue;
            };
            for member in status.configuration.members() {
                let supports = if member == status.me {
                    Some(self.node(seat).supports)
                } else {
                    let peer = self.network.seat_of(member.node);
                    let heard = peer.and_then(|peer| self.network.heard(seat, peer, namespace));
                    let heard = heard.filter(|(incarnation, _)| *incarnation == member.incarnation);
                    heard.map(|(_, supports)| supports)
                };
                if supports < Some(version) {
                    let what = "is proposed by one whom not every member told that it supports it";
                    return Err(Violation::Version { cluster, index, version, what });
                }
            }
        }
        Ok(())
    }
}
