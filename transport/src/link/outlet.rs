//! One namespace and scope on the opener's end: what it is bound to, how far its hello got, and
//! what waits to be written.

use std::time::Duration;

use meshraft_consensus::{Card, Incarnation, Index, Moment};

use super::{
    heard::{self, Vouched},
    pipe::Pipe,
    queue::Queue,
};
use crate::{
    budget::Purse,
    config::Limits,
    error::Refusal,
    introduction::Facts,
    key::KeyId,
    types::{LocalNamespace, Scope},
};

/// The first pause before a refused hello is repeated; it doubles with each refusal.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// The longest pause at first where the peer can't tell us that the reason is gone.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The longest pause at first where the peer's own hello tells us at once.
const RETRY_UNKNOWN_MAX: Duration = Duration::from_secs(5);
/// A refusal that comes again so often is there to stay: the pauses double further...
const RETRIES_SOON: u32 = 16;
/// ... up to this one. A change of facts at either end begins anew.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// What this end's hello says; a handle lives as long as this stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bond {
    pub(super) facts: Facts,
    /// The key ring. The outlet says which of its keys is used.
    pub(super) keys: Vec<KeyId>,
}

impl Bond {
    pub(super) fn of(local: &LocalNamespace, scope: Scope) -> Self {
        let facts = Facts::told(&local.role, scope.cluster(), false);
        Self { facts, keys: local.keys.ids().collect() }
    }
}

/// How far a hello got.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Nothing to say yet.
    #[default]
    Idle,
    /// Says hello as soon as fewer hellos are unanswered.
    Wanting,
    /// Waits for the answer to this hello; `raw` is how it was sent.
    Asked { message: u32, random: [u8; 32], raw: Vec<u8>, bond: Bond },
    /// Has a handle, waits for the other end's proof.
    Proving { pipe: Pipe, facts: Facts, bond: Bond },
    /// Sends.
    Open { pipe: Pipe, facts: Facts, bond: Bond },
    /// Was refused; says hello again at `retry_at`, or when something changes.
    Refused { why: Refusal, retry_at: Option<Moment> },
}

/// One namespace and scope.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pub(super) state: State,
    pub(super) queue: Queue,
    /// Says hello although nothing waits to be sent.
    pub(super) standing: bool,
    pub(super) in_turn: bool,
    /// Refusals in a row.
    pub(super) refusals: u32,
    /// Which key of the ring is tried, or used: the active one at first, the next one if the peer
    /// does not hold that.
    pub(super) key_at: usize,
    /// The peer said hello in this namespace since the own hello left: a refusal that says that the
    /// peer does not have it is out of date.
    pub(super) hinted: bool,
    /// The peer did not know this node as of the configuration at this slot: hellos show the cards
    /// above it.
    pub(super) show_above: Option<Index>,
    /// The cards that the peer was shown in vain, at most [`Card::KEPT_MAX`].
    pub(super) shown: Vec<Card>,
    /// The cards by which the peer is heard, if it is not among the known members.
    pub(super) vouched: Option<Vouched>,
    /// The mistaken incarnation that was last reported: expected, found.
    pub(super) mistaken: Option<(Incarnation, Incarnation)>,
}

impl Outlet {
    /// What the handle, or the hello for one, is bound to.
    pub(super) fn bond(&self) -> Option<&Bond> {
        match &self.state {
            State::Asked { bond, .. } | State::Proving { bond, .. } | State::Open { bond, .. } => {
                Some(bond)
            }
            State::Idle | State::Wanting | State::Refused { .. } => None,
        }
    }

    /// The handle, proven or not.
    pub(super) fn pipe(&mut self) -> Option<&mut Pipe> {
        match &mut self.state {
            State::Proving { pipe, .. } | State::Open { pipe, .. } => Some(pipe),
            State::Idle | State::Wanting | State::Asked { .. } | State::Refused { .. } => None,
        }
    }

    /// What a reply that is not whole yet holds of a purse.
    pub(super) fn held(&self, purse: Purse) -> usize {
        self.open_pipe().filter(|pipe| pipe.purse() == purse).map_or(0, Pipe::held)
    }

    /// Whether a reply is unfinished for longer than it may be.
    pub(super) fn is_overdue(&self, now: Moment, limits: &Limits) -> bool {
        self.open_pipe().is_some_and(|pipe| pipe.is_overdue(now, limits))
    }

    const fn open_pipe(&self) -> Option<&Pipe> {
        match &self.state {
            State::Proving { pipe, .. } | State::Open { pipe, .. } => Some(pipe),
            State::Idle | State::Wanting | State::Asked { .. } | State::Refused { .. } => None,
        }
    }

    /// Whether a handle would be of use now.
    pub(super) fn has_use(&self) -> bool {
        self.standing || !self.queue.is_empty()
    }

    /// Whether there is something else to show to a peer that refused: another key of the ring, or
    /// cards; or the same key, if the peer was only about to open the namespace. Cards are shown
    /// again only after a pause, so the peer can't make this end repeat itself.
    pub(super) fn has_more_to_show(
        &mut self,
        local: &LocalNamespace,
        scope: Scope,
        why: &Refusal,
    ) -> bool {
        match why {
            Refusal::KeyMismatch if core::mem::take(&mut self.hinted) => {
                self.key_at = 0;
                true
            }
            Refusal::KeyMismatch => {
                let more = local.keys.at(self.key_at + 1).is_some();
                self.key_at = if more { self.key_at + 1 } else { 0 };
                more
            }
            Refusal::NotAMember { index } | Refusal::UnknownMember { index, .. } => {
                self.show_above = Some(*index);
                let known = scope.cluster().and_then(|cluster| local.role.known(cluster));
                let Some(known) = known else { return false };
                self.shown.retain(|card| known.cards.contains(card));
                let news = heard::shown(known, *index);
                let news = news.into_iter().filter(|card| !self.shown.contains(card));
                let news: Vec<_> = news.collect();
                self.shown.extend_from_slice(&news);
                !news.is_empty()
            }
            _ => false,
        }
    }

    /// Notes a refusal, and when to try again if that may help.
    pub(super) fn refuse(&mut self, now: Moment, why: Refusal) -> Option<Moment> {
        let longest = match why {
            Refusal::UnknownNamespace => RETRY_UNKNOWN_MAX,
            _ => RETRY_MAX,
        };
        let soon = RETRY_FIRST.saturating_mul(1 << self.refusals.min(10)).min(longest);
        let doublings = self.refusals.saturating_sub(RETRIES_SOON).min(16);
        let pause = match why {
            // An open handle counts no refusals, and the next message may not be decoded either.
            Refusal::Undecodable | Refusal::Unfinished => RETRY_MAX,
            // The peer lags behind, and does not say when it has caught up.
            Refusal::NotAMember { .. } | Refusal::UnknownMember { .. } => soon,
            _ => soon.saturating_mul(1 << doublings).min(RETRY_LONGEST),
        };
        self.refusals = self.refusals.saturating_add(1);
        let retry_at = why.may_pass().then(|| now.plus(pause));
        if retry_at.is_none() {
            self.queue.clear();
        }
        self.state = State::Refused { why, retry_at };
        retry_at
    }
}

/// Whether a message is for another life of the peer: `Some`, and the refusal unless it is the one
/// that was reported last.
#[expect(
    clippy::option_option,
    reason = "the outer says whether to send, the inner whether to tell"
)]
pub(super) fn mistake(
    expected: Option<Incarnation>,
    found: Option<Incarnation>,
    reported: &mut Option<(Incarnation, Incarnation)>,
) -> Option<Option<Refusal>> {
    let expected = expected?;
    match found {
        Some(found) if found == expected => None,
        Some(found) => {
            let news = reported.replace((expected, found)) != Some((expected, found));
            Some(news.then_some(Refusal::WrongIncarnation { expected, found }))
        }
        None => Some(None),
    }
}
