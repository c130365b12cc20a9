//! Mistakes of a core planted on purpose, one a run, to see that the simulator finds them out.
//!
//! Without the feature `mistakes` no configuration holds one, [`ConfigBuilder::plants`] is false at
//! compile time, and nothing of them is left in the code. Each is a mistake that an implementation
//! of Raft has had or could have; what is right stands beside it, where it is planted.

use alloc::borrow::Cow;

use crate::{
    config::ConfigBuilder,
    core::Core,
    identity::Member,
    membership::Configuration,
    types::{Index, Position},
};

macro_rules! mistakes {
    ($($topic:literal { $($(#[$doc:meta])* $name:ident,)* })*) => {
        /// One planted mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(
            not(feature = "mistakes"),
            expect(unreachable_pub, reason = "public with the feature alone")
        )]
        pub enum Mistake {
            $($($(#[$doc])* $name,)*)*
        }

        #[cfg(feature = "mistakes")]
        impl Mistake {
            /// Every mistake, by topic.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// What it is about.
            pub const fn topic(self) -> &'static str {
                match self {
                    $($(Self::$name => $topic,)*)*
                }
            }

            /// Whether nothing is ever wrong with it, only nothing goes on.
            pub const fn stalls(self) -> bool {
                matches!(self, Self::SoundNotReread)
            }
        }
    };
}

mistakes! {
    "elections" {
        /// A voter gives its vote to everyone who asks.
        VoteTwice,
        /// A member that steps down in a term forgets whom it voted for.
        VoteForgottenOnStepDown,
        /// A voter does not look at the candidate's log.
        VoteForAnyLog,
        /// A voter compares the lengths of the logs alone.
        VoteForLongerLog,
        /// A voter compares the last terms of the logs alone.
        VoteForEqualTerm,
        /// A candidate takes every answer for a vote.
        RefusalsCount,
        /// A candidate counts a vote as often as it arrives.
        RepeatedVotesCount,
        /// A candidate takes what it was promised in a pre-vote for a vote.
        PreVotesCount,
        /// A candidate takes votes of its earlier campaigns.
        OldVotesCount,
        /// Half of the voters elect.
        HalfElects,
        /// In a joint change, the incoming half elects alone.
        IncomingHalfElects,
        /// Learners are counted as voters in an election.
        LearnersElect,
        /// A leader that is told of a higher term takes it over, and leads on.
        LeadsOnInHigherTerm,
    }
    "replication" {
        /// A follower takes entries after a slot that it has, whatever stands there.
        PreviousTermIgnored,
        /// A follower drops what stands behind the entries of a request that it knows already.
        LateRequestTruncates,
        /// A follower keeps what it has at a slot, whatever it is sent for it.
        ConflictsKept,
        /// A follower acknowledges its whole log, not only what the request vouches for.
        WholeLogAcknowledged,
        /// A leader takes for granted that a follower has what it has.
        MatchAssumed,
        /// A leader takes acknowledgements that were meant for an earlier term.
        OldAcknowledgementsCount,
        /// A refusal of entries of an earlier term names the number of the request.
        StaleRequestsCount,
        /// A leader's requests to a member that is in again have the numbers of earlier ones.
        NumbersBeginAnew,
        /// A leader counts what it has sent, not what was acknowledged.
        SentCounts,
    }
    "commit" {
        /// A leader commits entries of earlier terms by counting who has them.
        OldTermsCommitted,
        /// Half of the voters commit.
        HalfCommits,
        /// In a joint change, the incoming half commits alone.
        IncomingHalfCommits,
        /// Learners are counted as voters for a commit.
        LearnersCommit,
        /// A follower takes the leader's commit index for its own log, whatever stands there.
        CommitBeyondMatch,
        /// A heartbeat tells the leader's commit index to those who do not have as much.
        HeartbeatCommitsAll,
        /// A follower that is told which entry is committed looks at its slot alone.
        CommittedBySlot,
        /// What is written is applied, committed or not.
        UncommittedApplied,
        /// A member that forgot what it acknowledged counts for a commit all the same.
        ForgetfulCount,
    }
    "membership" {
        /// A change begins before the leader has committed an entry of its term.
        ChangeBeforeOwnCommit,
        /// A change begins while another one is under way.
        ChangesOverlap,
        /// Voters are exchanged at once, without a joint configuration.
        JointSkipped,
        /// A joint configuration is left before it is committed.
        JointLeftEarly,
        /// A leader counts by the newest configuration that is committed, not by the newest.
        ConfigurationAtCommit,
        /// A configuration whose entry is truncated stays in force.
        ConfigurationNotRolledBack,
        /// A restart forgets configurations that it does not know to be committed.
        ConfigurationForgotten,
        /// A snapshot that replaces the log leaves the old configuration in force.
        ConfigurationOutlivesLog,
    }
    "durability" {
        /// A vote leaves before it is durable.
        VoteEarly,
        /// A vote is written with the next term only.
        VoteNotWritten,
        /// A candidate counts its own vote before it is durable.
        OwnVoteEarly,
        /// Messages of a new term leave before that is durable.
        TermEarly,
        /// A follower acknowledges what is not durable.
        AcknowledgementEarly,
        /// A leader counts what its own disk does not have.
        OwnLogEarly,
        /// The end of one write stands for all that were handed out.
        WritesEndTogether,
        /// A write that ends late vouches for what took the place of its entries.
        LateWriteVouches,
        /// What is committed is applied before the own disk has it.
        UnwrittenApplied,
        /// A restart takes its whole log for committed.
        RestartCommitsAll,
    }
    "reads" {
        /// A leader answers reads without a round.
        ReadWithoutRound,
        /// A new leader answers reads before it has committed an entry of its term.
        ReadBeforeOwnCommit,
        /// Any answer confirms the newest round.
        LateAnswersConfirm,
        /// A read joins a round that has begun.
        ReadsJoinRounds,
        /// A follower reads at its own commit index, not at the leader's.
        FollowerReadsItsOwn,
        /// A leader reads at what is applied, not at what is committed.
        ReadAtApplied,
        /// A leader's lease never ends.
        LeaseNeverEnds,
        /// A leader reads on its lease although it has asked another member to campaign.
        LeaseOutlivesHandover,
        /// A leader's lease begins when its voters answer, not when they were asked.
        LeaseFromAnswers,
        /// Voters do not refuse their votes while they hear a leader, on which leases rest.
        LeaderNotHeard,
        /// A candidate that is told to campaign counts its own vote while it hears a leader.
        OwnVoteFree,
        /// A restart forgets that a lease may rest on the word of the run before.
        WordForgotten,
        /// An answer to a heartbeat of an earlier term names its round.
        StaleRoundsCount,
    }
    "snapshots" {
        /// A snapshot leaves entries in the log that contradict it.
        ContradictionKept,
        /// A follower says that a snapshot is installed before that is durable.
        InstalledEarly,
        /// The state is replaced before the snapshot is recorded.
        RestoredEarly,
        /// A leader takes an installed snapshot for the whole of its log.
        SnapshotCountsForAll,
        /// The log that follows on a snapshot begins with the leader's term.
        SnapshotOfLeadersTerm,
    }
    "damage" {
        /// A start drops its log from where it can't be read.
        DamageDropped,
        /// A member votes with a log that it can't read.
        DamagedVotes,
        /// A member acknowledges entries, and its leader, with a log that it can't read.
        DamagedAcknowledges,
        /// What repairs a log counts before it is durable.
        RepairedEarly,
        /// What is sound between slots that are lost is asked of others all the same.
        SoundNotReread,
        /// A member tells what stands in its own log, whether the other's is the same or not.
        AnchorIgnored,
        /// A snapshot takes the place of entries that can't be read, whatever follows on them.
        SnapshotOverAnything,
        /// A member that can't know what it promised goes on writing.
        WhoForgotWrites,
    }
    "sleep" {
        /// A follower falls asleep, and takes all for committed, whatever its log holds.
        SleepsOverAnyLog,
        /// A sleeping leader answers reads as if it had a lease.
        SleeperReads,
    }
}

impl ConfigBuilder {
    /// Whether this mistake is planted.
    #[cfg(feature = "mistakes")]
    pub(crate) fn plants(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whether this mistake is planted: it never is.
    #[cfg(not(feature = "mistakes"))]
    pub(crate) const fn plants(&self, _: Mistake) -> bool {
        false
    }
}

impl ConfigBuilder {
    /// What a restart takes for committed, at most, of the hint that its store held.
    pub(crate) fn believed_hint(&self, stored: Index) -> Index {
        match self.plants(Mistake::RestartCommitsAll) {
            true => Index::new(u64::MAX),
            false => stored,
        }
    }

    /// Up to where a restart looks for configurations in its log.
    pub(crate) fn believed_log(&self, last: Index, commit: Index) -> Index {
        match self.plants(Mistake::ConfigurationForgotten) {
            true => commit,
            false => last,
        }
    }
}

impl Core {
    /// Whether this mistake is planted.
    pub(crate) fn plants(&self, mistake: Mistake) -> bool {
        self.config.knobs().plants(mistake)
    }

    /// The log ends before what can't be read of it.
    pub(crate) fn drop_damage(&mut self) {
        let known = self.damage.take_if(|damage| !damage.forgotten);
        let Some(from) = known.map(|damage| damage.range.first) else { return };
        let from = from.max(self.log.base().index.next());
        self.commit = self.commit.min(from.previous());
        self.log.truncate_from(from);
        self.durability.truncate_from(from, true);
        self.membership.truncate_from(from);
    }

    /// Whose logs make this candidate's look old.
    pub(crate) fn is_ahead_of(&self, candidate: Position) -> bool {
        let own = self.log.last();
        if self.plants(Mistake::VoteForAnyLog) {
            return false;
        } else if self.plants(Mistake::VoteForLongerLog) {
            return candidate.index < own.index;
        } else if self.plants(Mistake::VoteForEqualTerm) {
            return candidate.term < own.term;
        }
        candidate < own
    }

    /// Whose votes elect.
    pub(crate) fn electorate(&self, granted: impl Fn(&Member) -> bool) -> Cow<'_, Configuration> {
        let current = self.membership.current();
        let counted = if self.plants(Mistake::IncomingHalfElects) {
            Some(incoming_half(current))
        } else if self.plants(Mistake::LearnersElect) {
            Some(with_learners(current))
        } else if self.plants(Mistake::ConfigurationAtCommit) {
            Some(self.membership.committed().1.clone())
        } else if self.plants(Mistake::HalfElects) {
            Some(without_one(current, |member| !granted(member)))
        } else {
            None
        };
        counted.map_or(Cow::Borrowed(current), Cow::Owned)
    }

    /// Whose disks commit what they have.
    pub(crate) fn committee(&self, has_more: impl Fn(&Member) -> bool) -> Cow<'_, Configuration> {
        let current = self.membership.current();
        let counted = if self.plants(Mistake::IncomingHalfCommits) {
            Some(incoming_half(current))
        } else if self.plants(Mistake::LearnersCommit) {
            Some(with_learners(current))
        } else if self.plants(Mistake::ConfigurationAtCommit) {
            Some(self.membership.committed().1.clone())
        } else if self.plants(Mistake::HalfCommits) {
            Some(without_one(current, |member| !has_more(member)))
        } else {
            None
        };
        counted.map_or(Cow::Borrowed(current), Cow::Owned)
    }
}

fn incoming_half(current: &Configuration) -> Configuration {
    Configuration { outgoing: [].into(), ..current.clone() }
}

fn with_learners(current: &Configuration) -> Configuration {
    let mut counted = current.clone();
    counted.voters.append(&mut counted.learners);
    counted
}

/// Of an even number of voters one that is `unwanted` is left out: half of them are a majority of
/// the others.
fn without_one(current: &Configuration, unwanted: impl Fn(&Member) -> bool) -> Configuration {
    let mut counted = current.clone();
    for half in [&mut counted.voters, &mut counted.outgoing] {
        let out = half.iter().find(|member| unwanted(member)).copied();
        if let Some(out) = out.filter(|_| half.len() % 2 == 0) {
            half.remove(&out);
        }
    }
    counted
}
