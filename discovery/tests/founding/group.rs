//! A tiny stand-in for a founder set's Raft group: one slot of log, terms, votes and accepts.
//!
//! An old entry and the no-op of a new term are modelled as one accept under the new term. Its
//! writes are durable at once: what is under test is founding, not the core.

use std::collections::BTreeSet;

use meshraft_consensus::{Fate, Member, Term};

/// What a member's disk holds of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Disk {
    pub(crate) term: u64,
    pub(crate) voted: Option<Member>,
    pub(crate) entry: Option<(u64, Decision)>,
}

/// [`Fate`] with an order, so that states can be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Decision {
    Found,
    Abandon,
}

impl From<Decision> for Fate {
    fn from(fate: Decision) -> Self {
        match fate {
            Decision::Found => Self::Found,
            Decision::Abandon => Self::Abandon,
        }
    }
}

impl From<Fate> for Decision {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Found => Self::Found,
            Fate::Abandon => Self::Abandon,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Vote { term: u64, last: u64 },
    Voted { term: u64, granted: bool },
    Append { term: u64, entry: Option<Decision>, committed: bool },
    Accepted { term: u64, stored: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Output {
    Send(Member, Message),
    Led(Term),
    Deposed,
    Decided(Decision),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Role {
    Follower,
    Candidate(BTreeSet<Member>),
    Leader(BTreeSet<Member>),
}

/// The volatile part of one member of the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Core {
    me: Member,
    members: BTreeSet<Member>,
    role: Role,
    decided: bool,
    /// A leader was heard since the last election time-out.
    contact: bool,
}

impl Core {
    pub(crate) fn new(me: Member, members: BTreeSet<Member>) -> Self {
        Self { me, members, role: Role::Follower, decided: false, contact: false }
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub(crate) fn election_timeout(&mut self, disk: &mut Disk, out: &mut Vec<Output>) {
        if !std::mem::take(&mut self.contact) {
            self.campaign(disk, out);
        }
    }

    pub(crate) fn campaign(&mut self, disk: &mut Disk, out: &mut Vec<Output>) {
        if self.is_leader() {
            return;
        }
        disk.term += 1;
        disk.voted = Some(self.me);
        self.role = Role::Candidate(BTreeSet::from([self.me]));
        let last = last(disk);
        self.broadcast(&Message::Vote { term: disk.term, last }, out);
        self.count_votes(disk, out);
    }

    pub(crate) fn first_entry(&mut self, disk: &mut Disk, fate: Decision, out: &mut Vec<Output>) {
        if self.is_leader() && disk.entry.is_none() {
            disk.entry = Some((disk.term, fate));
            self.replicate(disk, out);
        }
    }

    pub(crate) fn heartbeat(&mut self, disk: &mut Disk, out: &mut Vec<Output>) {
        if self.is_leader() {
            self.replicate(disk, out);
        }
    }

    pub(crate) fn receive(
        &mut self,
        disk: &mut Disk,
        from: Member,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let (Message::Vote { term, .. }
        | Message::Voted { term, .. }
        | Message::Append { term, .. }
        | Message::Accepted { term, .. }) = message;
        if term > disk.term {
            (disk.term, disk.voted) = (term, None);
            if self.is_leader() {
                out.push(Output::Deposed);
            }
            self.role = Role::Follower;
        }
        match message {
            Message::Vote { last: theirs, .. } => {
                let free = disk.voted.is_none_or(|voted| voted == from);
                let granted = term == disk.term && free && theirs >= last(disk);
                if granted {
                    disk.voted = Some(from);
                }
                out.push(Output::Send(from, Message::Voted { term: disk.term, granted }));
            }
            Message::Voted { granted, .. } => {
                if let (Role::Candidate(votes), true) = (&mut self.role, granted)
                    && term == disk.term
                {
                    votes.insert(from);
                    self.count_votes(disk, out);
                }
            }
            Message::Append { entry, committed, .. } => {
                if term < disk.term {
                    out.push(Output::Send(
                        from,
                        Message::Accepted { term: disk.term, stored: false },
                    ));
                    return;
                }
                assert!(!self.is_leader(), "two leaders of term {term}");
                self.role = Role::Follower;
                self.contact = true;
                if let Some(fate) = entry {
                    disk.entry = Some((term, fate));
                    if committed {
                        self.decide(fate, out);
                    }
                }
                let stored = entry.is_some();
                out.push(Output::Send(from, Message::Accepted { term, stored }));
            }
            Message::Accepted { stored, .. } => {
                if let (Role::Leader(accepts), true) = (&mut self.role, stored)
                    && term == disk.term
                    && accepts.insert(from)
                    && accepts.len() * 2 > self.members.len()
                {
                    self.commit(disk, out);
                }
            }
        }
    }

    fn count_votes(&mut self, disk: &mut Disk, out: &mut Vec<Output>) {
        let Role::Candidate(votes) = &self.role else { return };
        if votes.len() * 2 <= self.members.len() {
            return;
        }
        self.role = Role::Leader(BTreeSet::new());
        match &mut disk.entry {
            None => {
                out.push(Output::Led(Term::new(disk.term)));
                self.broadcast(
                    &Message::Append { term: disk.term, entry: None, committed: false },
                    out,
                );
            }
            Some((term, _)) => {
                *term = disk.term;
                self.replicate(disk, out);
            }
        }
    }

    fn replicate(&mut self, disk: &mut Disk, out: &mut Vec<Output>) {
        let Role::Leader(accepts) = &mut self.role else { return };
        let entry = disk.entry.map(|(_, fate)| fate);
        let first = entry.is_some() && accepts.insert(self.me);
        if first && accepts.len() * 2 > self.members.len() {
            self.commit(disk, out);
        }
        let committed = self.decided;
        self.broadcast(&Message::Append { term: disk.term, entry, committed }, out);
    }

    fn commit(&mut self, disk: &Disk, out: &mut Vec<Output>) {
        if let Some((_, fate)) = disk.entry {
            self.decide(fate, out);
            let append = Message::Append { term: disk.term, entry: Some(fate), committed: true };
            self.broadcast(&append, out);
        }
    }

    fn decide(&mut self, fate: Decision, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.decided, true) {
            out.push(Output::Decided(fate));
        }
    }

    fn broadcast(&self, message: &Message, out: &mut Vec<Output>) {
        let others = self.members.iter().filter(|member| **member != self.me);
        out.extend(others.map(|member| Output::Send(*member, message.clone())));
    }
}

fn last(disk: &Disk) -> u64 {
    disk.entry.map_or(0, |(term, _)| term)
}
