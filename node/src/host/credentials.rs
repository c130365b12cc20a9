//! How a member proves itself in its cluster, and which members it hears beside those of its log.
//!
//! The core knows who is heard; the transport opens handles to those alone. What the core can't
//! know from its log is kept here and in the record: the members that an admission named, those
//! whose cards counted, and the cards that this member holds for itself.
//!
//! When a configuration commits, each voter signs a card for every other member of it and sends it
//! together with the cards that it holds for itself, and again whenever a connection comes up.

use std::collections::{BTreeMap, BTreeSet};

use meshraft_consensus::{
    Card, ClusterId, Core, Dismissed, Index, KnownMembers, Member, Message, Moment, Namespace,
    NodeId, Term,
};
use meshraft_discovery::{Record, founding::Admission};
use meshraft_transport::{Body, Channel, Scope};

use super::{
    card_pool::{CardBundle, CardPool},
    desk::Desk,
    event::NodeEvent,
    hosted::Hosted,
    output::Output,
};
use crate::replica;

/// What a member holds to prove itself, and what it was told of others.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    /// The cluster, or founder set, that all of this is about.
    cluster: Option<ClusterId>,
    pub(super) cards: CardPool,
    /// Whom to hear beside the members of the log, each as of a slot: kept in the record.
    pub(super) vouched: Vec<(Member, Index)>,
    /// The newest committed configuration that cards were signed for, and the members that have
    /// been in it without a break, each since which slot.
    signed: (Index, BTreeMap<Member, Index>),
    /// What the core knew when that was looked at last.
    version: Option<u64>,
    /// The members to which there is a path, as far as the core was told.
    pub(super) reached: BTreeSet<Member>,
}

impl Credentials {
    /// The most members that a record keeps.
    pub(super) const VOUCHED_MAX: usize = 128;

    /// What a record holds of a member.
    pub(super) fn restore(
        me: Member,
        cluster: Option<ClusterId>,
        cards: Vec<Card>,
        vouched: Vec<(Member, Index)>,
    ) -> Self {
        let cards = CardPool::restore(me, cards);
        let (signed, reached) = ((Index::ZERO, BTreeMap::new()), BTreeSet::new());
        Self { cluster, cards, vouched, signed, version: None, reached }
    }

    /// From now on all of this is about that cluster: what was known of another one, which may
    /// have been a liar's, proves nothing in it.
    pub(super) fn turn_to(&mut self, me: Member, cluster: ClusterId) {
        if self.cluster != Some(cluster) {
            self.begin_anew(me);
            self.cluster = Some(cluster);
        }
    }

    /// The group's core ended: the next one knows nothing of this.
    pub(super) fn end_group(&mut self) {
        self.signed = (Index::ZERO, BTreeMap::new());
        self.version = None;
        self.reached.clear();
    }

    /// Another incarnation, or another cluster: nothing of the old one proves anything.
    pub(super) fn begin_anew(&mut self, me: Member) {
        *self = Self::restore(me, None, Vec::new(), Vec::new());
    }
}

/// The cluster whose log a record speaks of: the one that it names, or its promise's.
pub(super) fn named_cluster(record: &Record, namespace: &Namespace) -> Option<ClusterId> {
    record.cluster.or_else(|| record.promise.as_ref().map(|set| set.id(namespace)))
}

impl Hosted {
    /// The members that are heard in the active group, as the transport judges peers by them.
    pub(super) fn known_members(&self) -> KnownMembers {
        let cards = self.credentials.cards.iter().copied().collect();
        let (committed, members) = match self.replica.core() {
            Some(core) => core.known_members(),
            // Its state is being restored: nothing is served meanwhile, but handles may open.
            None => (Index::ZERO, self.credentials.vouched.iter().map(|(one, _)| *one).collect()),
        };
        KnownMembers { committed, members, cards }
    }

    /// Looks whether the members that are heard changed: tells the core who can be reached, signs
    /// cards, and keeps what the log does not hold.
    pub(super) fn check_known(&mut self, now: Moment, desk: &mut Desk) -> bool {
        let Some(core) = self.replica.core() else { return false };
        let version = Some(core.known_version());
        if std::mem::replace(&mut self.credentials.version, version) == version {
            return false;
        }
        let mut vouched = core.vouched();
        vouched.truncate(Credentials::VOUCHED_MAX);
        if vouched != self.credentials.vouched {
            self.credentials.vouched = vouched;
            self.remember(desk);
        }
        self.release_fenced(desk);
        self.tell_reachable(now);
        self.sign_cards(desk);
        true
    }

    /// The members that are heard beside those of the log, each as of a slot; this member too,
    /// where its cards say so.
    pub(super) fn vouched_members(&self) -> Vec<(Member, Index)> {
        let own = self.credentials.cards.newest().map(|at| (self.me, at));
        self.credentials.vouched.iter().copied().chain(own).collect()
    }

    /// The core is told of them once more, as there are others.
    fn vouch_for_known(&mut self, now: Moment) {
        let members = self.vouched_members();
        self.replica.handle(now, replica::Input::Vouch { members });
    }

    /// The admission of this member is committed: the members that it named are heard, and its
    /// cards prove this one. They go into the record with what founding writes next.
    ///
    /// A member that returns has a log of the cluster, which strangers could ruin: without a key,
    /// only a member that it knows names others. Everybody else has to show cards.
    pub(super) fn admitted(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        by: NodeId,
        admission: Admission,
    ) {
        let Admission { index, members, cards } = admission;
        if self.record.cluster != Some(cluster) {
            self.credentials.turn_to(self.me, cluster);
        } else if !self.founding_config.keyed && by != self.me.node && !self.knows_node(by) {
            return;
        }
        let named = members.into_iter().chain([self.me]).map(|member| (member, index));
        self.credentials.vouched.splice(..0, named);
        self.credentials.vouched.truncate(Credentials::VOUCHED_MAX);
        let signatures = self.host_config.signatures.clone();
        let bundle = CardBundle::from(cards);
        self.credentials.cards.take(&self.namespace, cluster, bundle, &*signatures);
        if self.active.as_ref().is_some_and(|active| active.cluster == cluster) {
            self.vouch_for_known(now);
        }
    }

    /// What the record keeps of this: nothing that is about a cluster which the record does not
    /// name, as one on trial.
    pub(super) fn kept_credentials(&self) -> (Vec<(Member, Index)>, Vec<Card>) {
        let named = named_cluster(&self.record, &self.namespace);
        if named.is_none() || self.credentials.cluster != named {
            return (Vec::new(), Vec::new());
        }
        let cards = self.credentials.cards.iter().copied().collect();
        (self.credentials.vouched.clone(), cards)
    }

    fn knows_node(&self, node: NodeId) -> bool {
        let known = |core: &Core| core.known_members().1.iter().any(|one| one.node == node);
        self.replica.core().is_some_and(known)
    }

    /// The cards that a joiner is sent with its admission at `index`: none before this member
    /// itself knows that configuration, or a later one with the joiner, to be committed.
    pub(super) fn cards_for(&self, joiner: Member, index: Index) -> Vec<Card> {
        let Some(core) = self.replica.core() else { return Vec::new() };
        let (at, configuration) = core.committed_configuration();
        if at < index || !configuration.contains(&joiner) {
            return Vec::new();
        }
        let signatures = &*self.host_config.signatures;
        let of = (at, joiner);
        let card = Card::sign(signatures, &self.namespace, core.cluster(), of, self.me.node);
        CardBundle::new(card, &self.credentials.cards).into()
    }

    /// The cards of a peer counted: the configuration committed at `at` has it.
    pub(super) fn vouched(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        (member, at): (Member, Index),
        desk: &mut Desk,
    ) {
        if self.active.as_ref().is_none_or(|active| active.cluster != cluster) {
            return;
        }
        self.replica.handle(now, replica::Input::Vouch { members: vec![(member, at)] });
        self.event(desk, NodeEvent::Vouched { member, at });
    }

    /// A member of the newest configuration that it knows to be committed, at `index`, does not
    /// know this member. The core decides whether that is news.
    pub(super) fn not_a_member(&mut self, now: Moment, peer: NodeId, index: Index) {
        let Some(core) = self.replica.core() else { return };
        let from = core.known_members().1.into_iter().find(|known| known.node == peer);
        let Some(from) = from else { return };
        let message = Message::Dismissed(Dismissed { term: Term::ZERO, index });
        self.replica.handle(now, replica::Input::Receive { from, message });
    }

    /// Signs a card for every other member of the configuration that committed last, if this
    /// member votes in it, and sends it to those that can be reached.
    fn sign_cards(&mut self, desk: &mut Desk) {
        let Some(core) = self.replica.core() else { return };
        let (index, configuration) = core.committed_configuration();
        let (before, signed) = &mut self.credentials.signed;
        if index == *before || index == Index::ZERO {
            return;
        }
        *before = index;
        let mut named = BTreeMap::new();
        if configuration.is_voter(&self.me) {
            let others = configuration.members().into_iter().filter(|one| *one != self.me);
            // An earlier card proves as much to everybody who does not know the member.
            named = others.map(|one| (one, signed.get(&one).copied().unwrap_or(index))).collect();
        }
        let news: Vec<Member> =
            named.keys().filter(|one| !signed.contains_key(one)).copied().collect();
        *signed = named;
        for member in news {
            self.send_cards(member, desk);
        }
    }

    /// Sends a member the card that this member signs for it, with those that prove this member.
    pub(super) fn send_cards(&self, to: Member, desk: &mut Desk) {
        let Some(active) = self.active.as_ref() else { return };
        let Some(index) = self.credentials.signed.1.get(&to).copied() else { return };
        if self.shared.get(&to.node).is_none_or(|facts| facts.incarnation != Some(to.incarnation)) {
            return;
        }
        let (cluster, signatures) = (active.cluster, &self.host_config.signatures);
        let of = (index, to);
        let card = Card::sign(&**signatures, &self.namespace, cluster, of, self.me.node);
        let bundle = CardBundle::new(card, &self.credentials.cards);
        desk.push(Output::Send {
            to: to.node,
            namespace: self.namespace.clone(),
            scope: Scope::Cluster(cluster),
            incarnation: Some(to.incarnation),
            channel: Channel::Peers,
            body: Body::Bytes(bundle.encode().into()),
        });
    }

    /// Takes the cards that another member sends.
    pub(super) fn take_cards(
        &mut self,
        now: Moment,
        cluster: ClusterId,
        bytes: &[u8],
        desk: &mut Desk,
    ) {
        let here = self.active.as_ref().is_some_and(|active| active.cluster == cluster);
        let Ok(bundle) = CardBundle::decode(bytes) else { return };
        let signatures = self.host_config.signatures.clone();
        let news = |pool: &mut CardPool| pool.take(&self.namespace, cluster, bundle, &*signatures);
        if here && news(&mut self.credentials.cards) {
            self.vouch_for_known(now);
            self.remember(desk);
            self.told_known = None;
        }
    }
}
