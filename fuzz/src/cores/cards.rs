//! What stands between cores in place of a transport: signed cards, the judgement of peers, and
//! admissions.
//!
//! Two members that meet judge each other by [`KnownMembers::judge`]: each by what its core knows,
//! and by the cards that the other one keeps. An end that refuses tells the other the slot of its
//! committed configuration. A voter that commits a configuration signs a card for every other
//! member of it. A member that does not know itself to be one asks whom it meets, as a joiner does,
//! and is told the members of a committed configuration that has it.

use std::collections::BTreeMap;

use meshraft_consensus::{
    Card, Core, Dismissed, Index, Input, Judgement, KnownMembers, Member, Message, Namespace,
    NodeId, Role, Signature, Signatures, Term,
};

use super::{
    cluster::{Cluster, Want},
    counts::CoreRare,
    member::Node,
    step::seat_of,
};
use crate::{
    check::{CLUSTER, Violation},
    world::Seat,
};

/// The key of one node. A signature is a pure function of signer and statement: a forger has no key
/// but its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) NodeId);

impl Signatures for Key {
    fn sign(&self, statement: &[u8]) -> Signature {
        signature(&self.0, statement)
    }

    fn verify(&self, signer: &NodeId, statement: &[u8], given: &Signature) -> bool {
        signature(signer, statement) == *given
    }
}

fn signature(signer: &NodeId, statement: &[u8]) -> Signature {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for bytes in [signer.as_bytes().as_slice(), statement] {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 29;
        }
    }
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    Signature::new(&bytes)
}

/// The namespace of every run.
pub(super) fn namespace() -> Namespace {
    Namespace::new("/cores").expect("the name is valid")
}

/// What a driver keeps on the disk of its member, beside the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Wallet {
    /// The cards for itself, and those that lead to their signers, in the order of [`order`].
    cards: Vec<Card>,
    /// Whom the member is to hear, each with the slot that says so.
    vouched: BTreeMap<Member, Index>,
    /// What takes the place of it with the next write.
    next: Option<BTreeMap<Member, Index>>,
}

impl Wallet {
    pub(super) fn cards(&self) -> &[Card] {
        &self.cards
    }

    /// Whom a start is told of.
    pub(super) fn vouched(&self) -> Vec<(Member, Index)> {
        self.vouched.iter().map(|(member, at)| (*member, *at)).collect()
    }

    /// The slot at which a start is told of a member.
    pub(super) fn vouched_at(&self, member: &Member) -> Option<Index> {
        let known = |vouched: &BTreeMap<Member, Index>| vouched.get(member).copied();
        known(&self.vouched).max(self.next.as_ref().and_then(known))
    }

    /// What the core says is stored with the next write.
    pub(super) fn store(&mut self, vouched: Vec<(Member, Index)>) {
        self.next = Some(vouched.into_iter().collect());
    }

    /// A write is durable, and this with it.
    pub(super) fn written(&mut self) {
        if let Some(next) = self.next.take() {
            self.vouched = next;
        }
    }

    /// What no write has taken along is lost.
    pub(super) fn crash(&mut self) {
        self.next = None;
    }

    /// An admission, or cards that counted: stored before the core is told.
    fn vouch(&mut self, members: &[(Member, Index)]) {
        for vouched in [Some(&mut self.vouched), self.next.as_mut()].into_iter().flatten() {
            for (member, at) in members {
                let known = vouched.entry(*member).or_insert(*at);
                *known = (*known).max(*at);
            }
        }
    }

    /// Keeps those of these cards that their signers signed. Of too many, the oldest goes first
    /// that a newer card of the same signer for the same member stands for; else the oldest.
    fn keep(&mut self, me: NodeId, namespace: &Namespace, shown: &[Card]) {
        for card in shown {
            let Err(place) = self.cards.binary_search_by(|kept| order(kept).cmp(&order(card)))
            else {
                continue;
            };
            let full = self.cards.len() >= Card::KEPT_MAX;
            let superseded = self.cards.get(place).is_some_and(|next| is_of_pair(card, next));
            if (full && superseded)
                || card.cluster != CLUSTER
                || !card.is_genuine(&Key(me), namespace)
            {
                continue;
            }
            self.cards.insert(place, *card);
            if full {
                self.drop_one();
            }
        }
    }

    fn drop_one(&mut self) {
        let lasts = |place: usize, card: &Card| {
            self.cards.get(place + 1).is_none_or(|next| !is_of_pair(card, next))
        };
        let due = |(place, card): &(usize, &Card)| (lasts(*place, card), card.index);
        if let Some((place, _)) = self.cards.iter().enumerate().min_by_key(due) {
            self.cards.remove(place);
        }
    }
}

/// The order in which cards are kept: a newer one directly after older ones of its pair.
fn order(card: &Card) -> (NodeId, Member, Index) {
    (card.signer, card.member, card.index)
}

/// Whether two cards are of one signer for one member.
fn is_of_pair(one: &Card, other: &Card) -> bool {
    (one.signer, one.member) == (other.signer, other.member)
}

/// What a running process knows of the peers around its core.
#[derive(Clone, Debug, Default)]
pub(super) struct Acquaintances {
    /// Under which version of whom its core knows all of this was looked at last, and whom it knew.
    version: Option<u64>,
    known: Vec<Member>,
    /// The cards that it signed, the newest for each member, and at which slot it signed last.
    signed: BTreeMap<Member, Card>,
    signed_at: Index,
    /// The peers to which there is a path, and whether its core was told while it knew them.
    paths: BTreeMap<Member, bool>,
}

impl Node {
    /// Whether its core runs and hears a peer.
    pub(super) fn knows(&self, peer: &Member) -> bool {
        let Some(core) = &self.core else { return false };
        match self.peers.version == Some(core.known_version()) {
            true => self.peers.known.contains(peer),
            false => core.knows(peer),
        }
    }

    /// What was vouched for is heard until its slot is committed, and no longer: none but a leader
    /// that sees it off hears a member that was removed. Each configuration was committed
    /// somewhere up to the slot at which it is `listed`.
    fn expect_known(
        &self,
        vouched: &[(Member, Index)],
        listed: &BTreeMap<Member, Index>,
    ) -> Result<(), Violation> {
        let Some(core) = &self.core else { return Ok(()) };
        let (at, committed) = core.committed_configuration();
        let stored = |member: &Member, from: Index| {
            vouched.iter().any(|(one, until)| one == member && *until >= from)
        };
        let open = self.disk.wallet.vouched.iter().filter(|(_, until)| **until > at);
        let kept = open.into_iter().all(|(member, until)| stored(member, *until));
        if !kept || !committed.voters.iter().all(|voter| stored(voter, at)) {
            let what = "nothing of a member that it is to hear";
            return Err(Violation::Claim { member: self.me, what });
        }
        let removed = |member: &&Member| {
            !committed.contains(member)
                && listed.get(member).is_some_and(|listed| *listed < at)
                && self.disk.newest_with(member) < Some(at)
                && !stored(member, at.next())
        };
        match self.peers.known.iter().find(removed) {
            Some(removed) if core.role() != Role::Leader => {
                Err(Violation::KnowsStranger { member: self.me, stranger: *removed })
            }
            _ => Ok(()),
        }
    }
}

impl Cluster {
    /// A core has nothing more to ask: does what a driver does once whom it knows has changed.
    /// Says whether the core was told of peers.
    pub(super) fn acquaint(&mut self, seat: Seat) -> Result<bool, Violation> {
        let node = &mut self.nodes[seat.0];
        let Some(core) = &node.core else { return Ok(false) };
        let version = Some(core.known_version());
        if std::mem::replace(&mut node.peers.version, version) == version {
            return Ok(false);
        }
        if let Some(stranger) = self.never_members.iter().find(|stranger| core.knows(stranger)) {
            return Err(Violation::KnowsStranger { member: node.me, stranger: *stranger });
        }
        let members = core.known_members().1.into_iter();
        node.peers.known = members.filter(|member| core.knows(member)).collect();
        let vouched = core.vouched();
        node.expect_known(&vouched, &self.listed)?;
        self.nodes[seat.0].disk.wallet.store(vouched);
        self.sign_cards(seat);
        Ok(self.tell_paths(seat))
    }

    /// Signs a card for every other member of a configuration that is newly committed here.
    fn sign_cards(&mut self, seat: Seat) {
        let node = &mut self.nodes[seat.0];
        let Some(core) = &node.core else { return };
        let (at, committed) = core.committed_configuration();
        if at <= node.peers.signed_at {
            return;
        }
        node.peers.signed_at = at;
        for member in committed.members() {
            let listed = self.listed.entry(member).or_insert(at);
            *listed = (*listed).max(at);
            if member == node.me || !committed.is_voter(&node.me) {
                continue;
            }
            let (key, signer) = (Key(node.me.node), node.me.node);
            let card = Card::sign(&key, &self.namespace, CLUSTER, (at, member), signer);
            node.peers.signed.insert(member, card);
            self.wants.push(Want::Cards { from: seat, to: member });
        }
    }

    /// Tells a core once more of the paths to peers that it knows only now.
    fn tell_paths(&mut self, seat: Seat) -> bool {
        let node = &mut self.nodes[seat.0];
        let Some(core) = &node.core else { return false };
        let mut news = Vec::new();
        for (peer, told) in &mut node.peers.paths {
            let known = core.knows(peer);
            if known && !*told {
                news.push(*peer);
            }
            *told = known;
        }
        for peer in &news {
            self.handle(seat, Input::PeerUp(*peer));
        }
        !news.is_empty()
    }

    /// A path to a peer is there, or gone: what the core is told. Two members that do not know each
    /// other yet meet.
    pub(super) fn path(&mut self, seat: Seat, peer: Member, up: bool) -> Input {
        let node = &mut self.nodes[seat.0];
        if !up {
            node.peers.paths.remove(&peer);
            return Input::PeerDown(peer);
        }
        if let Some(core) = &node.core {
            node.peers.paths.insert(peer, core.knows(&peer));
            if self.would_meet(seat, seat_of(peer)) {
                self.wants.push(Want::Meet(seat, seat_of(peer)));
            }
        }
        Input::PeerUp(peer)
    }

    /// Whether two running members have anything to say to each other before they can talk.
    pub(super) fn would_meet(&self, one: Seat, other: Seat) -> bool {
        let (Some(one), Some(other)) = (self.nodes.get(one.0), self.nodes.get(other.0)) else {
            return false;
        };
        let (Some(first), Some(second)) = (&one.core, &other.core) else { return false };
        let mutual = one.knows(&other.me) && other.knows(&one.me);
        !mutual || admission(first, second).is_some() || admission(second, first).is_some()
    }

    /// Two members meet: each judges the other one, and admits it if it asks for that.
    pub(super) fn meet(&mut self, one: Seat, other: Seat) -> Result<(), Violation> {
        // What gathered was said before.
        self.drain(one)?;
        self.drain(other)?;
        for (joiner, asked) in [(one, other), (other, one)] {
            let core = |seat: Seat| self.node(seat).core.as_ref();
            let (Some(joins), Some(asks)) = (core(joiner), core(asked)) else { return Ok(()) };
            if let Some(members) = admission(joins, asks) {
                self.counts.note(CoreRare::Admitted);
                self.vouch(joiner, members);
            }
        }
        for (judge, peer) in [(one, other), (other, one)] {
            if !self.judge(judge, self.node(peer).me) {
                self.refuse(judge, self.node(peer).me);
            }
        }
        self.drain(one)?;
        self.drain(other)
    }

    /// A message reaches a member: if one of both ends does not know the other one, they are judged
    /// as their transports would have judged them. A refusal opens nothing.
    pub(super) fn introduce(&mut self, seat: Seat, from: Member, message: &Message) {
        if matches!(message, Message::Dismissed(_)) {
            return;
        }
        if !self.node(seat).knows(&from) {
            // A refusal is the core's own answer.
            self.judge(seat, from);
        }
        let other = seat_of(from);
        let sender = self.nodes.get(other.0).filter(|node| node.me == from && node.core.is_some());
        if sender.is_some_and(|sender| !sender.knows(&self.node(seat).me)) {
            self.wants.push(Want::Meet(other, seat));
        }
    }

    /// Whether a member hears a peer, by what it knows or by the cards that the peer keeps.
    pub(super) fn judge(&mut self, seat: Seat, peer: Member) -> bool {
        let Some(core) = &self.node(seat).core else { return false };
        if core.knows(&peer) {
            return true;
        }
        let shows = self.nodes.get(seat_of(peer).0).filter(|node| node.me == peer);
        let cards = shows.map_or(&[][..], |node| node.disk.wallet.cards());
        match known_of(core).judge((&self.namespace, CLUSTER), peer, cards, &Key(core.me().node)) {
            Ok(Judgement::Known) => true,
            Ok(Judgement::Vouched { at }) => {
                self.counts.note(CoreRare::CardsCounted);
                self.vouch(seat, vec![(peer, at)]);
                true
            }
            Err(_) => false,
        }
    }

    /// A peer is refused, and told the slot of the committed configuration.
    fn refuse(&mut self, seat: Seat, peer: Member) {
        let node = &self.nodes[seat.0];
        let index = node.core.as_ref().map_or(Index::ZERO, |core| core.committed_configuration().0);
        if index > Index::ZERO {
            let message = Box::new(Message::Dismissed(Dismissed { term: Term::ZERO, index }));
            self.counts.note(CoreRare::Refused);
            self.wants.push(Want::Send { from: node.me, to: peer, message });
        }
    }

    fn vouch(&mut self, seat: Seat, members: Vec<(Member, Index)>) {
        self.node_mut(seat).disk.wallet.vouch(&members);
        self.handle(seat, Input::Vouch { members });
    }

    /// Whether a member may be handed cards: both ends run and know each other.
    pub(super) fn may_hand_cards(&self, from: Seat, to: Member) -> bool {
        let (signer, Some(receiver)) = (self.node(from), self.nodes.get(seat_of(to).0)) else {
            return false;
        };
        receiver.me == to && signer.knows(&to) && receiver.knows(&signer.me)
    }

    /// A member is handed the card that a peer signed for it, and those that the peer keeps.
    pub(super) fn hand_cards(&mut self, from: Seat, to: Member) {
        let signer = self.node(from);
        let Some(card) = signer.peers.signed.get(&to).filter(|_| self.may_hand_cards(from, to))
        else {
            return;
        };
        let kept = signer.disk.wallet.cards();
        let shown: Vec<Card> = [card].into_iter().chain(kept).copied().collect();
        let Self { nodes, namespace, .. } = self;
        nodes[seat_of(to).0].disk.wallet.keep(to.node, namespace, &shown);
        self.counts.note(CoreRare::CardsHanded);
    }
}

/// Whom a core knows, as its transport sees it.
pub(super) fn known_of(core: &Core) -> KnownMembers {
    let (committed, members) = core.known_members();
    KnownMembers { committed, members, cards: Vec::new() }
}

/// What a member that does not know itself to be one is told by a peer that knows it better: the
/// members of the committed configuration that has it, and its leader.
fn admission(joiner: &Core, asked: &Core) -> Option<Vec<(Member, Index)>> {
    let (me, (at, committed)) = (joiner.me(), asked.committed_configuration());
    let knows = joiner.configuration().contains(&me) || joiner.committed_configuration().0 >= at;
    if knows || !committed.contains(&me) || joiner.vouched().contains(&(me, at)) {
        return None;
    }
    let members = committed.members().into_iter().chain(asked.leader());
    Some(members.map(|member| (member, at)).collect())
}
