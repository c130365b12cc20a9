//! Which peers this node passes over for a time, because they did not do what they said.
//!
//! A peer is passed over if it said it was free and held no founder set that it was proposed, if
//! it claimed a living cluster that admitted nobody, or if its cluster sent nothing after it had
//! admitted this node. The first time lasts one founding time-out, or as long as the trial of a
//! cluster that sent nothing; each later one twice as long, up to [`DOUBLINGS_MAX`] doublings. So
//! a liar costs ever less, and an honest peer that was slow is asked again soon.
//!
//! Invariants:
//! 1. Nothing here is durable, and no safety rests on it: a peer that is passed over costs a
//!    smaller choice of founders and of members to ask, never a promise.
//! 2. What is remembered of a peer outlives its connections and its incarnations: both are free.

use core::time::Duration;
use std::collections::BTreeMap;

use meshraft_consensus::{ClusterId, Moment, NodeId};

/// The most peers that are remembered. Beyond it the one goes that is free again the soonest.
const PEERS_MAX: usize = 1024;

/// How often the time for which a peer is passed over doubles.
const DOUBLINGS_MAX: u32 = 3;

/// How many proposals a peer may turn down. An honest one refuses now and then, because it knows
/// more than its coordinator.
const REFUSALS_MAX: u32 = 3;

/// For how many founding time-outs a peer is remembered after it was passed over.
const MEMORY: u32 = 64;

/// Why a peer is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Doubt {
    /// It said it was free, and held no founder set that it was proposed.
    NoPromise,
    /// It claimed to live in this cluster, which admitted nobody in time.
    NotAdmitting {
        /// The cluster.
        cluster: ClusterId,
    },
    /// It said that this cluster admitted this node, and nothing came from there.
    NothingCame {
        /// The cluster.
        cluster: ClusterId,
    },
}

impl Doubt {
    /// The word for it in events and logs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoPromise => "no_promise",
            Self::NotAdmitting { .. } => "not_admitting",
            Self::NothingCame { .. } => "nothing_came",
        }
    }
}

/// A peer is passed over from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PassedOver {
    pub(super) peer: NodeId,
    pub(super) why: Doubt,
    pub(super) until: Moment,
}

/// What is remembered of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Remembered {
    /// Until when it is passed over, and why.
    passed_over: Option<(Moment, Doubt)>,
    /// How often it was.
    times: u32,
    /// How many proposals it turned down since it was passed over last.
    refusals: u32,
    /// Since when it claims to live in a cluster, with the first one that it named.
    claim: Option<(Moment, ClusterId)>,
    /// When this is forgotten, unless something keeps it.
    forget_at: Moment,
}

/// What this node remembers of peers that it may pass over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Doubts(BTreeMap<NodeId, Remembered>);

impl Doubts {
    /// Whether the peer is passed over now.
    pub(super) fn is_passed_over(&self, peer: NodeId) -> bool {
        self.why(peer).is_some()
    }

    /// Whether the peer is passed over as one that admits: nothing came from its cluster.
    pub(super) fn is_void_admitter(&self, peer: NodeId) -> bool {
        matches!(self.why(peer), Some(Doubt::NothingCame { .. }))
    }

    /// The peers that are passed over.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = NodeId> {
        self.0.iter().filter(|(_, it)| it.passed_over.is_some()).map(|(peer, _)| *peer)
    }

    fn why(&self, peer: NodeId) -> Option<Doubt> {
        self.0.get(&peer)?.passed_over.map(|(_, why)| why)
    }

    /// Passes the peer over for `unit`, doubled as often as it was passed over before.
    pub(super) fn pass_over(
        &mut self,
        now: Moment,
        peer: NodeId,
        why: Doubt,
        unit: Duration,
    ) -> PassedOver {
        let remembered = self.of(peer, now, unit);
        let doublings = remembered.times.min(DOUBLINGS_MAX);
        let until = now.plus(unit.saturating_mul(1 << doublings));
        remembered.times = remembered.times.saturating_add(1);
        (remembered.refusals, remembered.claim) = (0, None);
        remembered.passed_over = Some((until, why));
        remembered.forget_at = until.plus(unit.saturating_mul(MEMORY));
        PassedOver { peer, why, until }
    }

    /// The peer refused a proposal, or went, or came back as another incarnation before it
    /// promised; whether that was once too often.
    pub(super) fn turned_down(&mut self, now: Moment, peer: NodeId, unit: Duration) -> bool {
        let remembered = self.of(peer, now, unit);
        remembered.refusals = remembered.refusals.saturating_add(1);
        remembered.refusals >= REFUSALS_MAX
    }

    /// The peer claims to live in a cluster; since when it does. A claim is counted from the first
    /// one until the peer was passed over for it, whatever the peer says in between.
    pub(super) fn claimed(
        &mut self,
        now: Moment,
        peer: NodeId,
        cluster: ClusterId,
        unit: Duration,
    ) -> Option<Moment> {
        if self.is_passed_over(peer) {
            return None;
        }
        let (since, _) = *self.of(peer, now, unit).claim.get_or_insert((now, cluster));
        Some(since)
    }

    /// The peers whose claim is older than `window`, each with the cluster that it named.
    pub(super) fn overdue(&self, now: Moment, window: Duration) -> Vec<(NodeId, ClusterId)> {
        let overdue = |(peer, it): (&NodeId, &Remembered)| {
            let (since, cluster) = it.claim?;
            (since.plus(window) <= now).then_some((*peer, cluster))
        };
        self.0.iter().filter_map(overdue).collect()
    }

    /// Ends what is over.
    pub(super) fn expire(&mut self, now: Moment) {
        self.0.retain(|_, it| {
            it.passed_over = it.passed_over.filter(|(until, _)| *until > now);
            it.passed_over.is_some() || it.claim.is_some() || it.forget_at > now
        });
    }

    /// When a peer is passed over no more, or, if `window` is given, a claim is older than that.
    pub(super) fn deadline(&self, window: Option<Duration>) -> Option<Moment> {
        let ends = self.0.values().flat_map(|it| {
            let passed_over = it.passed_over.map(|(until, _)| until);
            let claim = it.claim.zip(window).map(|((since, _), window)| since.plus(window));
            passed_over.into_iter().chain(claim)
        });
        ends.min()
    }

    /// Forgets everything: this node is in a cluster.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn of(&mut self, peer: NodeId, now: Moment, unit: Duration) -> &mut Remembered {
        if self.0.len() >= PEERS_MAX && !self.0.contains_key(&peer) {
            let free_at = |it: &Remembered| it.passed_over.map_or(it.forget_at, |(until, _)| until);
            let soonest = self.0.iter().min_by_key(|(_, it)| free_at(it)).map(|(peer, _)| *peer);
            soonest.and_then(|peer| self.0.remove(&peer));
        }
        let remembered = self.0.entry(peer).or_default();
        remembered.forget_at = remembered.forget_at.max(now.plus(unit.saturating_mul(MEMORY)));
        remembered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Duration = Duration::from_secs(1);

    fn node(number: u16) -> NodeId {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&number.to_be_bytes());
        NodeId::new(key)
    }

    #[test]
    fn a_peer_is_passed_over_for_growing_and_bounded_times() {
        let (mut doubts, mut now) = (Doubts::default(), Moment::ZERO);
        for seconds in [1, 2, 4, 8, 8, 8] {
            let passed = doubts.pass_over(now, node(1), Doubt::NoPromise, UNIT);
            assert_eq!(passed.until.since(now), Duration::from_secs(seconds));
            assert_eq!(doubts.deadline(Some(UNIT)), Some(passed.until));
            doubts.expire(now);
            assert!(doubts.is_passed_over(node(1)));
            now = passed.until;
            doubts.expire(now);
            assert!(!doubts.is_passed_over(node(1)));
        }
        doubts.expire(now.plus(UNIT * MEMORY));
        assert_eq!(doubts, Doubts::default(), "a peer is remembered for ever");
    }

    #[test]
    fn a_peer_may_refuse_now_and_then() {
        let mut doubts = Doubts::default();
        for _ in 0..2 {
            assert!(!doubts.turned_down(Moment::ZERO, node(1), UNIT));
            assert!(!doubts.turned_down(Moment::ZERO, node(2), UNIT));
        }
        assert!(doubts.turned_down(Moment::ZERO, node(1), UNIT));
        doubts.pass_over(Moment::ZERO, node(1), Doubt::NoPromise, UNIT);
        assert!(!doubts.turned_down(Moment::ZERO, node(1), UNIT), "it is counted anew");
    }

    #[test]
    fn a_claim_counts_from_the_first_one_and_is_void_once_it_is_overdue() {
        let cluster = ClusterId::new([7; 32]);
        let (mut doubts, later) = (Doubts::default(), Moment::from_millis(600));
        assert_eq!(doubts.claimed(Moment::ZERO, node(1), cluster, UNIT), Some(Moment::ZERO));
        assert_eq!(doubts.claimed(later, node(1), cluster, UNIT), Some(Moment::ZERO));
        assert_eq!(doubts.overdue(later, UNIT), []);
        let end = Moment::ZERO.plus(UNIT);
        assert_eq!(doubts.overdue(end, UNIT), [(node(1), cluster)]);
        let passed = doubts.pass_over(end, node(1), Doubt::NotAdmitting { cluster }, UNIT);
        assert_eq!(doubts.claimed(end, node(1), cluster, UNIT), None);
        assert!(!doubts.is_void_admitter(node(1)), "it is asked all the same");
        doubts.expire(passed.until);
        assert_eq!(doubts.claimed(passed.until, node(1), cluster, UNIT), Some(passed.until));
    }

    #[test]
    fn a_flood_of_liars_is_remembered_within_bounds() {
        let mut doubts = Doubts::default();
        for number in 0..3_000 {
            doubts.pass_over(Moment::ZERO, node(number), Doubt::NoPromise, UNIT);
        }
        assert_eq!(doubts.passed_over().count(), PEERS_MAX);
    }
}
