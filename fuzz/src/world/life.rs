//! Members that leave, are removed and come back, and namespaces that are closed and opened again.
//!
//! The world knows what each node should be in each namespace: its standing. While things go wrong
//! a request may fail or be forgotten; once the world is healed it is repeated until every node is
//! what it should be. A change of members that would leave no majority of whole disks is not asked
//! for: no protocol could carry it out.

use std::{collections::BTreeMap, time::Duration};

use meshraft::host::{CallId, Input};
use meshraft_consensus::{Moment, Namespace};
use meshraft_service::wire::{NodeRole, Operation, Reply, Response};

use super::{Called, Event, Seat, World};
use crate::{
    check::{Violation, Wanted},
    counts::Rare,
};

/// Numbers from here on are requests of the world itself, below are those of clients.
pub(super) const FIRST_CALL: u64 = 1 << 48;
/// How long such a request may take, on its way included.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a healed world repeats what is not so yet.
const NUDGE_EVERY: Duration = Duration::from_millis(500);
/// What was removed so long ago is so on disk too.
const SURELY: Duration = Duration::from_secs(5);

/// What the nodes should be, and what was asked of them.
#[derive(Debug, Default)]
pub(super) struct Life {
    standings: BTreeMap<(Seat, Namespace), Standing>,
    asked: BTreeMap<u64, (Seat, Namespace)>,
    last_call: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    out: bool,
    /// A request that takes the node out may be on its way until then.
    leaving_until: Moment,
    /// Since when it was seen to be removed.
    removed_since: Option<Moment>,
}

impl World {
    /// What a node should be in a namespace.
    pub(super) fn wanted(&self, seat: Seat, namespace: &Namespace) -> Wanted {
        if self.standing(seat, namespace).out { Wanted::Out } else { Wanted::In }
    }

    fn standing(&self, seat: Seat, namespace: &Namespace) -> Standing {
        let key = (seat, namespace.clone());
        self.life.standings.get(&key).copied().unwrap_or_default()
    }

    fn standing_mut(&mut self, seat: Seat, namespace: &Namespace) -> &mut Standing {
        self.life.standings.entry((seat, namespace.clone())).or_default()
    }

    /// A node is about to begin anew: whoever it was, it joins. A request that takes it out may be
    /// on its way all the same: it names the node, whatever its disk holds.
    pub(super) fn forget_standing(&mut self, seat: Seat) {
        let standings = self.life.standings.iter_mut();
        for (_, standing) in standings.filter(|((at, _), _)| *at == seat) {
            let leaving_until = standing.leaving_until;
            *standing = Standing { leaving_until, ..Standing::default() };
        }
    }

    /// The nodes that may be on their way out of a namespace.
    pub(super) fn leaving(&self, namespace: &Namespace) -> Vec<Seat> {
        let now = self.clock.now();
        let leaves = |seat: &Seat| {
            let standing = self.standing(*seat, namespace);
            standing.out || now < standing.leaving_until
        };
        self.seats().filter(leaves).collect()
    }

    fn role(&self, seat: Seat, namespace: &Namespace) -> Option<NodeRole> {
        let process = self.node(seat).process.as_ref()?;
        Some(process.host.status(namespace)?.role)
    }

    /// Whether a node knows that it is out of a namespace.
    pub(super) fn is_departed(&self, seat: Seat, namespace: &Namespace) -> bool {
        self.role(seat, namespace).is_some_and(is_departed)
    }

    /// A random namespace.
    pub(super) fn some_namespace(&mut self) -> Namespace {
        let place = self.random.place(self.namespaces.len());
        self.namespaces[place].clone()
    }

    /// A member leaves, or another one removes it.
    pub(super) fn strike_departure(&mut self, removed: bool) {
        let (seat, namespace) = (self.victim(), self.some_namespace());
        let asked = if removed { self.victim() } else { seat };
        let stay = self.seats().filter(|it| self.wanted(*it, &namespace) == Wanted::In).count();
        let member = self.role(seat, &namespace).is_some_and(is_member);
        let asks = self.role(asked, &namespace).is_some_and(is_member);
        if stay < 3 || !member || !asks || self.wanted(seat, &namespace) == Wanted::Out {
            return;
        }
        self.standing_mut(seat, &namespace).out = true;
        if !self.bears_departures(&namespace) {
            self.standing_mut(seat, &namespace).out = false;
            return;
        }
        let until = self.clock.now().plus(TIMEOUT * 2);
        self.standing_mut(seat, &namespace).leaving_until = until;
        let node = self.node(seat).id;
        let operation = if removed { Operation::Remove { node } } else { Operation::Leave };
        let by = if removed { format!("is removed through n{}", asked.0) } else { "leaves".into() };
        self.struck(format_args!("n{} {by}", seat.0));
        self.ask(asked, &namespace, operation);
    }

    /// A member that departed comes back.
    pub(super) fn strike_return(&mut self) {
        let (seat, namespace) = (self.victim(), self.some_namespace());
        let departed = self.role(seat, &namespace).is_some_and(is_departed);
        if departed && self.wanted(seat, &namespace) == Wanted::Out {
            self.standing_mut(seat, &namespace).out = false;
            self.struck(format_args!("n{} comes back", seat.0));
            self.ask(seat, &namespace, Operation::Rejoin);
        }
    }

    /// Leadership is asked to be handed over, through any node, to any or the best.
    pub(super) fn strike_transfer(&mut self) {
        let (seat, to, namespace) = (self.victim(), self.victim(), self.some_namespace());
        let to = (self.random.below(3) > 0).then(|| self.node(to).id);
        if self.node(seat).is_running() {
            self.struck(format_args!("n{} is asked for a transfer to {to:?}", seat.0));
            self.ask(seat, &namespace, Operation::Transfer { to });
        }
    }

    fn ask(&mut self, seat: Seat, namespace: &Namespace, operation: Operation) {
        if !self.node(seat).is_running() {
            return;
        }
        if matches!(operation, Operation::Rejoin) {
            self.standing_mut(seat, namespace).removed_since = None;
        }
        self.life.last_call += 1;
        let (number, life) = (FIRST_CALL + self.life.last_call, self.node(seat).life);
        self.life.asked.insert(number, (seat, namespace.clone()));
        let namespace = namespace.clone();
        let call = Box::new(Called { number, namespace, operation, timeout: TIMEOUT });
        self.clock.after(Duration::ZERO, Event::Called { seat, life, call });
    }

    /// A request of the world itself is answered.
    pub(super) fn life_answered(
        &mut self,
        id: CallId,
        response: &Response,
    ) -> Result<(), Violation> {
        if self.life.asked.remove(&id.get()).is_none() {
            let what = "was answered twice, or never asked";
            return Err(Violation::Promise { id: id.get(), what });
        }
        match response {
            Ok(Reply::Left) => self.checks.counts.note(Rare::Left),
            Ok(Reply::Removed { .. }) => self.checks.counts.note(Rare::Removed),
            Ok(Reply::Rejoining) => self.checks.counts.note(Rare::Returned),
            Ok(Reply::Transferred { .. }) => self.checks.counts.note(Rare::Transferred),
            _ => {}
        }
        Ok(())
    }

    /// A process died, and with it what was asked of it.
    pub(super) fn life_crashed(&mut self, seat: Seat) {
        self.life.asked.retain(|_, (at, _)| *at != seat);
    }

    /// Notes who is out by now.
    pub(super) fn watch_standing(&mut self, seat: Seat, namespace: &Namespace) {
        let now = self.clock.now();
        let role = self.role(seat, namespace);
        let removed = role == Some(NodeRole::Removed);
        if role == Some(NodeRole::Stopped) {
            // It says nothing until another release runs.
            return;
        }
        let since = self.standing(seat, namespace).removed_since;
        if removed != since.is_some() {
            self.standing_mut(seat, namespace).removed_since = removed.then_some(now);
        }
    }

    /// A process started: whoever was removed, and not told to come back, is still out.
    pub(super) fn check_removed(&self, seat: Seat) -> Result<(), Violation> {
        let now = self.clock.now();
        for namespace in &self.namespaces {
            let since = self.standing(seat, namespace).removed_since;
            let surely = since.is_some_and(|since| now.since(since) > SURELY);
            let is_back = |role| !is_departed(role) && role != NodeRole::Stopped;
            if surely && self.role(seat, namespace).is_some_and(is_back) {
                let namespace = namespace.clone();
                return Err(Violation::CameBack { node: seat.number(), namespace });
            }
        }
        Ok(())
    }

    /// From now on, half of those that are out shall come back, and everything is repeated until
    /// it is so.
    pub(super) fn settle(&mut self) {
        for standing in self.life.standings.values_mut() {
            standing.out &= self.random.below(2) == 0;
        }
        self.clock.after(Duration::ZERO, Event::Nudge);
    }

    /// Asks again for what is not so yet.
    pub(super) fn nudge(&mut self) {
        for seat in self.seats() {
            for namespace in self.namespaces.clone() {
                let waits = self.life.asked.values().any(|it| *it == (seat, namespace.clone()));
                let Some(role) = self.role(seat, &namespace).filter(|_| !waits) else { continue };
                match self.wanted(seat, &namespace) {
                    Wanted::In if is_departed(role) => {
                        self.ask(seat, &namespace, Operation::Rejoin);
                    }
                    Wanted::Out if !is_departed(role) => {
                        self.ask(seat, &namespace, Operation::Leave);
                    }
                    _ => {}
                }
            }
        }
        self.clock.after(NUDGE_EVERY, Event::Nudge);
    }

    /// A namespace is closed in a running process, and soon opened again.
    pub(super) fn strike_reopen(&mut self) -> Result<(), Violation> {
        let (seat, namespace) = (self.victim(), self.some_namespace());
        let wait = self.random.between(Duration::ZERO, Duration::from_millis(300));
        if self.role(seat, &namespace).is_none() || self.node(seat).paused_until.is_some() {
            return Ok(());
        }
        let life = self.node(seat).life;
        self.struck(format_args!("n{} closes {namespace} for {wait:?}", seat.0));
        self.clock.after(wait, Event::Reopen { seat, life, namespace: namespace.clone() });
        self.input_now(seat, Input::Close { namespace })
    }

    /// Opens a closed namespace as soon as all that was written for it is durable.
    pub(super) fn reopen(
        &mut self,
        seat: Seat,
        life: u64,
        namespace: Namespace,
    ) -> Result<(), Violation> {
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        let Some(found) = self.node(seat).disk.reopen(&namespace) else {
            self.clock.after(Duration::from_millis(1), Event::Reopen { seat, life, namespace });
            return Ok(());
        };
        self.trace.note(self.clock.now(), format_args!("n{} reopens {namespace}", seat.0));
        self.checks.counts.note(Rare::Reopened);
        for group in &found.groups {
            self.checks.reopened(seat, group.cluster);
        }
        let (options, found) = (self.options(seat, &namespace), Some(Box::new(found)));
        self.input_now(seat, Input::Open { namespace, options, found })
    }
}

const fn is_departed(role: NodeRole) -> bool {
    matches!(role, NodeRole::Left | NodeRole::Removed)
}

const fn is_member(role: NodeRole) -> bool {
    matches!(role, NodeRole::Follower | NodeRole::Candidate | NodeRole::Leader | NodeRole::Learner)
}
