//! How scenarios write members, founder sets, messages and outputs.
//!
//! A member is a letter, with the number of its incarnation from the second on: `a`, `a2`. A
//! founder set is its members and its ballot: `{a,b,c}1a` has counter 1 and coordinator `a`.

use std::collections::BTreeMap;
use std::fmt::Write;

use meshraft_consensus::{ClusterId, Fate, Incarnation, Member, NodeId};
use meshraft_discovery::{
    Ballot, Departure, FounderSet, Record,
    founding::{Event, Output, Proof},
    wire::{Binding, Message, Refusal, Standing},
};

use crate::world::namespace;

pub(crate) fn node(letter: char) -> NodeId {
    NodeId::new([letter as u8; 32])
}

pub(crate) fn letter(node: NodeId) -> char {
    char::from(node.as_bytes()[0])
}

pub(crate) fn member(letter: char, incarnation: u8) -> Member {
    Member::new(node(letter), Incarnation::new([incarnation; 16]))
}

pub(crate) fn member_name(member: &Member) -> String {
    match member.incarnation.as_bytes()[0] {
        1 => letter(member.node).to_string(),
        incarnation => format!("{}{incarnation}", letter(member.node)),
    }
}

fn names<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    members.into_iter().map(member_name).collect::<Vec<_>>().join(",")
}

fn ballot(ballot: &Ballot) -> String {
    match ballot.counter {
        0 => "0".into(),
        counter => format!("{counter}{}", letter(ballot.coordinator)),
    }
}

fn set(founders: &FounderSet) -> String {
    format!("{{{}}}{}", names(&founders.members), ballot(&founders.ballot))
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Found => "found",
        Fate::Abandon => "abandon",
    }
}

fn departure(how: Departure) -> &'static str {
    match how {
        Departure::Left => "left",
        Departure::Removed => "removed",
    }
}

/// The founder sets seen so far, to write ids of clusters as what they stand for.
#[derive(Default)]
pub(crate) struct Names(BTreeMap<ClusterId, String>);

impl Names {
    pub(crate) fn learn(&mut self, founders: &FounderSet) {
        self.0.entry(founders.id(&namespace())).or_insert_with(|| set(founders));
    }

    /// Names a cluster that nobody founded.
    pub(crate) fn invent(&mut self, name: &str) -> ClusterId {
        let mut id = [0xEE; 32];
        id.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
        let cluster = ClusterId::new(id);
        self.0.insert(cluster, name.into());
        cluster
    }

    pub(crate) fn cluster(&self, cluster: ClusterId) -> String {
        self.0.get(&cluster).cloned().unwrap_or_else(|| cluster.to_string())
    }

    /// The cluster of which this is the name.
    pub(crate) fn find(&self, name: &str) -> Option<ClusterId> {
        self.0.iter().find(|(_, known)| *known == name).map(|(cluster, _)| *cluster)
    }

    pub(crate) fn record(&self, record: &Record) -> String {
        let mut text = format!("seen={}", ballot(&record.seen));
        if let Some(promise) = &record.promise {
            write!(text, " promise={}", set(promise)).unwrap();
        }
        if let Some(cluster) = record.cluster {
            write!(text, " cluster={}", self.cluster(cluster)).unwrap();
        }
        if let Some(former) = record.former {
            write!(text, " former={}", self.cluster(former)).unwrap();
        }
        if let Some(departed) = record.departed {
            write!(text, " {}", departure(departed)).unwrap();
        }
        if record.forced {
            text.push_str(" forced");
        }
        text
    }

    fn standing(&self, standing: &Standing) -> String {
        let binding = match standing.binding {
            Binding::Free => "free".into(),
            Binding::Joining => "joining".into(),
            Binding::Founding { cluster } => format!("founding={}", self.cluster(cluster)),
            Binding::Living { cluster } => format!("living={}", self.cluster(cluster)),
            _ => unreachable!("a binding without a name"),
        };
        let expect = standing.expect.map_or(0, core::num::NonZeroU16::get);
        format!("[{binding} expect={expect} seen={}]", ballot(&standing.seen))
    }

    fn refusal(&self, why: &Refusal) -> String {
        match why {
            Refusal::Bound { to } => format!("bound to {}", self.cluster(*to)),
            Refusal::Member { of } => format!("member of {}", self.cluster(*of)),
            Refusal::TooFew { expect } => format!("too few, expects {expect}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }

    pub(crate) fn message(&self, message: &Message) -> String {
        match message {
            Message::Canvass(standing) => format!("canvass {}", self.standing(standing)),
            Message::CanvassAnswer(standing) => format!("answer {}", self.standing(standing)),
            Message::Propose(founders) => format!("propose {}", set(founders)),
            Message::Promised { cluster } => format!("promised {}", self.cluster(*cluster)),
            Message::Refused { cluster, why, standing } => {
                let (cluster, why) = (self.cluster(*cluster), self.refusal(why));
                format!("refused {cluster}: {why} {}", self.standing(standing))
            }
            Message::Join { cluster } => format!("join {}", self.cluster(*cluster)),
            Message::Admitted { cluster, member, index, members, .. } => {
                let (member, members) = (member_name(member), names(members));
                let cluster = self.cluster(*cluster);
                format!("admitted {member} at {index} to {cluster} of {members}")
            }
            Message::NotAdmitted { cluster, why } => {
                format!("not admitted to {}: {why}", self.cluster(*cluster))
            }
            _ => unreachable!("a message without a name"),
        }
    }

    pub(crate) fn output(&self, output: &Output) -> String {
        match output {
            Output::Send { to, message } => {
                format!("-> {} {}", letter(*to), self.message(message))
            }
            Output::Persist { id, record, start, drop, join, enter } => {
                let mut text = format!("write w{} {}", id.get(), self.record(record));
                if let Some(start) = start {
                    write!(text, " create {}", set(start)).unwrap();
                }
                if let Some(drop) = drop {
                    write!(text, " drop {}", self.cluster(*drop)).unwrap();
                }
                if let Some(join) = join {
                    write!(text, " create {}", self.cluster(*join)).unwrap();
                }
                if let Some(enter) = enter {
                    write!(text, " with the first entry of {}", self.cluster(*enter)).unwrap();
                }
                text
            }
            Output::StartGroup(founders) => format!("start {}", set(founders)),
            Output::StopGroup(cluster) => format!("stop {}", self.cluster(*cluster)),
            Output::FirstEntry { cluster, fate: it } => {
                format!("first entry {} of {}", fate(*it), self.cluster(*cluster))
            }
            Output::Campaign { cluster } => format!("campaign in {}", self.cluster(*cluster)),
            Output::AskEmpty { cluster } => format!("ask empty {}", self.cluster(*cluster)),
            Output::Lives { cluster } => format!("lives {}", self.cluster(*cluster)),
            Output::Joined { cluster, index, members } => {
                format!("joined {} at {index} of {}", self.cluster(*cluster), names(members))
            }
            Output::Admitted { cluster, admission, .. } => {
                format!("admitted to {} at {}", self.cluster(*cluster), admission.index)
            }
            Output::Try { cluster, index, members } => {
                format!("try {} at {index} of {}", self.cluster(*cluster), names(members))
            }
            Output::Entered { cluster } => format!("entered {}", self.cluster(*cluster)),
            Output::Admit { member } => format!("admit {}", member_name(member)),
            Output::AskRemoval => "ask removal".into(),
            Output::Observe(event) => format!("({})", self.event(event)),
        }
    }

    fn event(&self, event: &Event) -> String {
        match event {
            Event::Coordinating { cluster, .. } => {
                format!("coordinates {}", self.cluster(*cluster))
            }
            Event::Promised { cluster, .. } => format!("promises {}", self.cluster(*cluster)),
            Event::Refused { cluster, why, .. } => {
                format!("refuses {}: {}", self.cluster(*cluster), self.refusal(why))
            }
            Event::Left { cluster, proof } => {
                let proof = match proof {
                    Proof::Abandoned => "abandoned".into(),
                    Proof::Refused { by, why } => {
                        format!("{} refused, {}", member_name(by), self.refusal(why))
                    }
                    _ => "left alone".to_string(),
                };
                format!("leaves {}: {proof}", self.cluster(*cluster))
            }
            Event::FateProposed { fate: it, .. } => format!("fate {}", fate(*it)),
            Event::Founded { cluster } => format!("founded {}", self.cluster(*cluster)),
            Event::Joining { cluster, by } => {
                format!("joins {} by {}", self.cluster(*cluster), letter(*by))
            }
            Event::OnTrial { cluster, by } => {
                format!("{} says {} admitted it", letter(*by), self.cluster(*cluster))
            }
            Event::PassedOver { peer, why, until } => {
                let (why, until) = (why.as_str(), until.as_nanos() / 1_000_000);
                format!("passes {} over until {until} ms: {why}", letter(*peer))
            }
            Event::Joined { cluster } => format!("is admitted to {}", self.cluster(*cluster)),
            Event::Leaving { cluster } => format!("leaves {}", self.cluster(*cluster)),
            Event::Departed { cluster, how } => {
                format!("is out of {}: {}", self.cluster(*cluster), departure(*how))
            }
            Event::Rejoined { cluster } => format!("is back in {}", self.cluster(*cluster)),
            Event::NotAdmitted { by, why, .. } => {
                format!("not admitted by {}: {why}", letter(*by))
            }
            Event::OtherCluster { peer, theirs, ours } => {
                let (theirs, ours) = (self.cluster(*theirs), self.cluster(*ours));
                format!("{} lives in {theirs}, not in {ours}", member_name(peer))
            }
            Event::Dropped { from, reason } => {
                format!("drops from {}: {reason:?}", member_name(from))
            }
            _ => unreachable!("an event without a name"),
        }
    }
}
