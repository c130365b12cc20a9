//! What passes between this node and one other over the groups that sleep.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use meshraft_consensus::{Moment, Namespace};

use super::{
    BEAT_MIN,
    book::{Book, Fingerprint},
    wire::{Frame, GROUPS_MAX},
};

/// A group's share of the time over which a lost node's groups are woken.
const STAGGER_EACH: Duration = Duration::from_millis(1);
/// A difference that was seen this many beats ago says nothing of one that is seen now.
const SUSPECT_BEATS: u32 = 4;

/// One other node.
#[derive(Debug)]
pub(super) struct Watch {
    /// Groups that this node leads and the other follows in.
    pub(super) led_here: Book,
    /// Groups that the other leads and this node follows in.
    pub(super) led_there: Book,
    /// When the other last vouched for what it leads here.
    agreed: Moment,
    /// Since when it is waited for.
    waited: Moment,
    /// The election time-outs of the groups that it leads.
    patience: BTreeMap<Duration, usize>,
    /// Whom to tell that it is lost, and when.
    losing: VecDeque<(Moment, Namespace)>,
    /// When a view was last shown, and where the next one begins.
    shown: Option<Moment>,
    shows_from: Fingerprint,
    /// In what the other's last view differed, and since when.
    suspects: BTreeMap<Fingerprint, Moment>,
    looked: Moment,
    /// Which of the groups that are led here a beat looks for a handle among.
    pub(super) page: usize,
}

/// What a leader makes of a view.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Groups that it leads and the other does not know to sleep.
    pub(super) here: Vec<Namespace>,
    /// Groups that the other takes it to lead.
    pub(super) there: Vec<Fingerprint>,
}

impl Watch {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            led_here: Book::default(),
            led_there: Book::default(),
            agreed: now,
            waited: now,
            patience: BTreeMap::new(),
            losing: VecDeque::new(),
            shown: None,
            shows_from: Fingerprint::FIRST,
            suspects: BTreeMap::new(),
            looked: now,
            page: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.led_here.is_empty() && self.led_there.is_empty()
    }

    /// A group that the other leads fell asleep: it said so a moment ago.
    pub(super) fn follow(
        &mut self,
        now: Moment,
        fingerprint: Fingerprint,
        namespace: &Namespace,
        election: Duration,
    ) {
        if self.led_there.is_empty() {
            self.agree(now);
        }
        self.led_there.insert(fingerprint, namespace);
        *self.patience.entry(election).or_default() += 1;
    }

    /// A group that the other led woke.
    pub(super) fn unfollow(&mut self, fingerprint: Fingerprint, election: Duration) {
        self.led_there.remove(fingerprint);
        if let Some(count) = self.patience.get_mut(&election) {
            *count -= 1;
            if *count == 0 {
                self.patience.remove(&election);
            }
        }
        if self.led_there.is_empty() {
            self.losing.clear();
        }
    }

    /// When the other last vouched for what it leads here.
    pub(super) const fn agreed(&self) -> Moment {
        self.agreed
    }

    /// The other vouches for what it leads.
    pub(super) fn agree(&mut self, now: Moment) {
        (self.agreed, self.waited) = (now, now);
        self.losing.clear();
    }

    /// When somebody is to be told that the other is lost.
    pub(super) fn due(&self) -> Option<Moment> {
        match self.losing.front() {
            Some((due, _)) => Some(*due),
            None => self.patience.keys().next().map(|patience| self.waited.plus(*patience)),
        }
    }

    /// Who is to be told by now that the other is lost: all of its groups within a bounded time,
    /// in the order of these numbers, so that they do not campaign in one instant.
    pub(super) fn lost(
        &mut self,
        now: Moment,
        order: impl Fn(&Namespace) -> u64,
    ) -> Vec<Namespace> {
        let Some(patience) = self.patience.keys().next().copied() else { return Vec::new() };
        if self.losing.is_empty() && self.waited.plus(patience) <= now {
            let mut groups: Vec<_> = self.led_there.namespaces().cloned().collect();
            groups.sort_by_cached_key(|namespace| (order(namespace), namespace.clone()));
            let count = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let spread = (STAGGER_EACH * count).min(patience);
            let begin = self.waited.plus(patience);
            let at = |place: usize| begin.plus(spread * u32::try_from(place).unwrap_or(0) / count);
            let numbered = groups.into_iter().enumerate();
            self.losing = numbered.map(|(place, namespace)| (at(place), namespace)).collect();
        }
        let mut told = Vec::new();
        while let Some((_, namespace)) = self.losing.pop_front_if(|(due, _)| *due <= now) {
            told.push(namespace);
        }
        if self.losing.is_empty() && !told.is_empty() {
            // Whoever sleeps on all the same is told again; nobody vouched for anything.
            self.waited = now;
        }
        told
    }

    /// What this node believes that the other leads, as much as one frame holds, if it was not
    /// shown a moment ago. The next view goes on where this one ends.
    pub(super) fn show(&mut self, now: Moment) -> Option<Frame> {
        if self.shown.is_some_and(|shown| now < shown.plus(BEAT_MIN / 2)) {
            return None;
        }
        self.shown = Some(now);
        let all = self.led_there.len() <= GROUPS_MAX;
        let first = if all { Fingerprint::FIRST } else { self.shows_from };
        let listed = self.led_there.range(first..=Fingerprint::LAST);
        let groups: Vec<_> = listed.map(|(group, _)| *group).take(GROUPS_MAX).collect();
        let cut = groups.last().filter(|_| groups.len() == GROUPS_MAX && !all).copied();
        self.shows_from = cut.unwrap_or(Fingerprint::FIRST);
        Some(Frame::View { first, last: cut.unwrap_or(Fingerprint::LAST), groups })
    }

    /// Compares a view with what this node leads. What differs in two of them, a beat apart, is no
    /// message that is still on its way.
    pub(super) fn compare(
        &mut self,
        now: Moment,
        beat: Duration,
        (first, last): (Fingerprint, Fingerprint),
        groups: Vec<Fingerprint>,
    ) -> Differences {
        if now > self.looked.plus(beat * SUSPECT_BEATS) {
            self.suspects.clear();
        }
        self.looked = now;
        let theirs: BTreeSet<_> = groups.into_iter().collect();
        let here: Vec<_> = self
            .led_here
            .range(first..=last)
            .filter(|(group, _)| !theirs.contains(group))
            .map(|(group, namespace)| (*group, namespace.clone()))
            .collect();
        let there = theirs.iter().filter(|group| self.led_here.get(group).is_none());
        let there: Vec<_> = there.copied().collect();
        let differ: BTreeSet<_> =
            here.iter().map(|(group, _)| *group).chain(there.iter().copied()).collect();
        let within = |group: &Fingerprint| *group >= first && *group <= last;
        self.suspects.retain(|group, _| !within(group) || differ.contains(group));
        let mut again = |group: &Fingerprint| {
            let since = *self.suspects.entry(*group).or_insert(now);
            let again = since.plus(beat / 2) <= now;
            if again {
                self.suspects.remove(group);
            }
            again
        };
        let here = here.into_iter().filter(|(group, _)| again(group));
        let here = here.map(|(_, namespace)| namespace).collect();
        Differences { here, there: there.into_iter().filter(|group| again(group)).collect() }
    }
}
