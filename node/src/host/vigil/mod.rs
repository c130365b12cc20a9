//! Watches over the groups that sleep, for all of a node at once: one beat for each node that
//! follows in any of them, however many there are (thesis 3.4 asks for a heartbeat of each).
//!
//! A beat carries a digest of the groups that its sender leads, and in which its receiver follows.
//! One that agrees with what the receiver believes vouches for the leader of all of them. No such
//! beat for an election time-out, and the leader's node is lost to those groups. Upon one that
//! differs the receiver shows what it believes; the sender compares, wakes its own groups that are
//! not in it, and tells which it does not lead. Only what differs twice, a beat apart, is acted on:
//! a beat may overtake, or be overtaken by, the message that a group falls asleep or wakes.
//!
//! Invariants:
//! 1. Nobody is vouched for but by its own node, and only as of when that was heard.
//! 2. Nothing sleeps: no beat, no deadline. Else both are bounded by the number of peers.
//! 3. The groups of a lost node are told one after the other, in an order of this node's own.
//!
//! A beat is an ordinary message on the Control channel, on the handle of any group in it that both
//! nodes share: who speaks is proven by the connection, and no group is told of to a node that is
//! no member of it. Pure: it knows neither cores nor namespaces beyond their names.

mod book;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshraft_consensus::{ClusterId, Member, Moment, Namespace, NodeId, Position, Term};

pub(super) use self::wire::Frame;
use self::{book::Fingerprint, watch::Watch};

/// The shortest interval of beats.
pub(super) const BEAT_MIN: Duration = Duration::from_millis(20);
/// How many handles are tried for one beat; the next one goes on with others.
const PATHS_MAX: usize = 16;

/// A group that sleeps here, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sleeper {
    /// Its cluster.
    pub(super) cluster: ClusterId,
    /// This node's member.
    pub(super) me: Member,
    /// Its leader, perhaps this node's member.
    pub(super) leader: Member,
    /// All other members, if this node leads.
    pub(super) followers: BTreeSet<Member>,
    /// Its term.
    pub(super) term: Term,
    /// Its last entry.
    pub(super) last: Position,
    /// How often its leader would show that it lives.
    pub(super) heartbeat: Duration,
    /// For how long a member waits for that.
    pub(super) election: Duration,
}

/// What the watch asks of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this to the peer, on any handle of the groups that [`Vigil::paths`] gives.
    Beat {
        /// To whom.
        to: NodeId,
        /// What to say.
        frame: Frame,
    },
    /// The node of the group's leader is lost.
    Lost {
        /// The group's namespace.
        namespace: Namespace,
        /// Its leader.
        leader: Member,
    },
    /// The peer disagrees on whether the group sleeps.
    Wake {
        /// The group's namespace.
        namespace: Namespace,
        /// The peer.
        peer: NodeId,
    },
}

/// The watch of one node.
#[derive(Debug)]
pub(super) struct Vigil {
    /// Orders the groups of a lost node.
    seed: [u8; 32],
    groups: BTreeMap<Namespace, Sleeper>,
    peers: BTreeMap<NodeId, Watch>,
    /// The heartbeats of the groups that this node leads.
    heartbeats: BTreeMap<Duration, usize>,
    beat_due: Option<Moment>,
}

impl Vigil {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            groups: BTreeMap::new(),
            peers: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            beat_due: None,
        }
    }

    /// What a namespace's group is by now: asleep as told, or awake, or none. Says whether it fell
    /// asleep.
    pub(super) fn note(
        &mut self,
        now: Moment,
        namespace: &Namespace,
        sleeper: Option<Sleeper>,
    ) -> bool {
        if self.groups.get(namespace) == sleeper.as_ref() {
            return false;
        }
        let before = self.groups.remove(namespace);
        if let Some(group) = &before {
            self.forget(group);
        }
        let Some(group) = sleeper else { return false };
        self.enrol(now, namespace, &group);
        self.groups.insert(namespace.clone(), group);
        before.is_none()
    }

    fn enrol(&mut self, now: Moment, namespace: &Namespace, group: &Sleeper) {
        if group.leader != group.me {
            let fingerprint = Fingerprint::of(group, &group.me);
            let watch = self.peers.entry(group.leader.node).or_insert_with(|| Watch::new(now));
            return watch.follow(now, fingerprint, namespace, group.election);
        }
        if group.followers.is_empty() {
            return;
        }
        for follower in &group.followers {
            let watch = self.peers.entry(follower.node).or_insert_with(|| Watch::new(now));
            watch.led_here.insert(Fingerprint::of(group, follower), namespace);
        }
        *self.heartbeats.entry(group.heartbeat).or_default() += 1;
        let next = now.plus(self.interval());
        self.beat_due = Some(self.beat_due.map_or(next, |due| due.min(next)));
    }

    fn forget(&mut self, group: &Sleeper) {
        let leads = group.leader == group.me;
        let others: Vec<Member> = match leads {
            true => group.followers.iter().copied().collect(),
            false => vec![group.leader],
        };
        for other in &others {
            let Some(watch) = self.peers.get_mut(&other.node) else { continue };
            match leads {
                true => watch.led_here.remove(Fingerprint::of(group, other)),
                false => watch.unfollow(Fingerprint::of(group, &group.me), group.election),
            }
            if watch.is_empty() {
                self.peers.remove(&other.node);
            }
        }
        if leads
            && let Some(count) = self.heartbeats.get_mut(&group.heartbeat)
            && !others.is_empty()
        {
            *count -= 1;
            if *count == 0 {
                self.heartbeats.remove(&group.heartbeat);
            }
        }
        if self.heartbeats.is_empty() {
            self.beat_due = None;
        }
    }

    /// How often this node beats: as often as the quickest of the groups would.
    fn interval(&self) -> Duration {
        self.heartbeats.keys().next().copied().unwrap_or(BEAT_MIN).max(BEAT_MIN)
    }

    /// When [`Vigil::timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.peers.values().filter_map(Watch::due).chain(self.beat_due).min()
    }

    /// Beats that are due, and nodes that are lost.
    pub(super) fn timeout(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        let (interval, seed) = (self.interval(), self.seed);
        if self.beat_due.is_some_and(|due| due <= now) {
            self.beat_due = Some(now.plus(interval));
            let led = self.peers.iter().filter(|(_, watch)| !watch.led_here.is_empty());
            actions.extend(led.map(|(to, watch)| {
                let frame = Frame::Beat(watch.led_here.digest());
                Action::Beat { to: *to, frame }
            }));
        }
        for watch in self.peers.values_mut() {
            if watch.due().is_none_or(|due| due > now) {
                continue;
            }
            let lost = watch.lost(now, |namespace| order(&seed, namespace));
            for namespace in lost {
                // It may have woken since.
                let leader = self.groups.get(&namespace).map(|group| group.leader);
                actions.extend(leader.map(|leader| Action::Lost { namespace, leader }));
            }
        }
        actions
    }

    /// Namespaces on whose handles a beat may go: a few of all.
    pub(super) fn paths(&self, to: NodeId) -> impl Iterator<Item = (&Namespace, &Sleeper)> {
        let namespaces = self.peers.get(&to).into_iter().flat_map(|watch| {
            let pages = watch.led_here.len().div_ceil(PATHS_MAX).max(1);
            let skip = watch.page % pages * PATHS_MAX;
            watch.led_here.namespaces().skip(skip).take(PATHS_MAX)
        });
        namespaces.filter_map(|namespace| self.groups.get_key_value(namespace))
    }

    /// None of these had a handle: the next beat tries others.
    pub(super) fn no_path(&mut self, to: NodeId) {
        if let Some(watch) = self.peers.get_mut(&to) {
            watch.page = watch.page.wrapping_add(1);
        }
    }

    /// Takes a frame of a peer: what to answer, and what to do.
    pub(super) fn received(
        &mut self,
        now: Moment,
        from: NodeId,
        frame: Frame,
    ) -> (Option<Frame>, Vec<Action>) {
        let beat = self.interval();
        let Some(watch) = self.peers.get_mut(&from) else {
            // It leads groups that nobody knows here to sleep.
            let (first, last) = (Fingerprint::FIRST, Fingerprint::LAST);
            let empty = Frame::View { first, last, groups: Vec::new() };
            return (matches!(frame, Frame::Beat(_)).then_some(empty), Vec::new());
        };
        match frame {
            Frame::Beat(digest) if digest == watch.led_there.digest() => {
                watch.agree(now);
                (None, Vec::new())
            }
            Frame::Beat(_) => (watch.show(now), Vec::new()),
            Frame::View { first, last, groups } => {
                let differ = watch.compare(now, beat, (first, last), groups);
                let wake = |namespace| Action::Wake { namespace, peer: from };
                let actions = differ.here.into_iter().map(wake).collect();
                (Some(Frame::Checked { wake: differ.there }), actions)
            }
            Frame::Checked { wake } => {
                watch.agree(now);
                let known = wake.iter().filter_map(|group| watch.led_there.get(group).cloned());
                let actions = known.map(|namespace| Action::Wake { namespace, peer: from });
                (None, actions.collect())
            }
        }
    }

    /// Whose node lived when, of a group that sleeps under another's lead.
    pub(super) fn vouches(&self, namespace: &Namespace) -> Option<(Member, Moment)> {
        let group = self.groups.get(namespace).filter(|group| group.leader != group.me)?;
        let watch = self.peers.get(&group.leader.node)?;
        Some((group.leader, watch.agreed()))
    }
}

/// Where a group stands among those that are woken, on this node.
fn order(seed: &[u8; 32], namespace: &Namespace) -> u64 {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(seed);
    context.update(b"order of waking");
    context.update(namespace.as_str().as_bytes());
    let mut number = [0; 8];
    for (byte, drawn) in number.iter_mut().zip(context.finish().as_ref()) {
        *byte = *drawn;
    }
    u64::from_be_bytes(number)
}
