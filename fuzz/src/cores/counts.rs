//! How often runs of cores took the branches that are rarely taken, so that silence means
//! something.

use crate::counts::counted;

counted! {
    CoreRare, CoreCounts:
    /// A member began to ask whether it could win.
    PreCampaign = "pre-campaigns",
    /// A member campaigned.
    Campaign = "campaigns",
    /// A member won.
    Leader = "leader changes",
    /// A leader stepped down as it heard no quorum.
    QuorumLost = "quorums lost",
    /// A log was cut where it contradicted its leader's.
    Truncated = "truncations",
    /// A member was handed a message that it had to drop.
    Dropped = "dropped messages",
    /// A member came to know a joint configuration.
    Joint = "joint configurations",
    /// A leader committed while its configuration was joint.
    JointCommit = "joint commits",
    /// A configuration went with its truncated entry.
    RolledBack = "configurations rolled back",
    /// A learner was promoted because it had caught up.
    Promoted = "promotions",
    /// A change of members was committed.
    Changed = "changes committed",
    /// A member learned that it was taken out.
    Departed = "departures",
    /// A member that had departed is in again.
    Readmitted = "readmissions",
    /// A log was cut behind a snapshot.
    Compacted = "compactions",
    /// A snapshot was taken.
    SnapshotTaken = "snapshots taken",
    /// A snapshot became the state of another member.
    SnapshotInstalled = "installed",
    /// A fetch of a snapshot failed.
    FetchFailed = "fetches failed",
    /// Entries were read back from a disk.
    Loaded = "loads",
    /// A disk failed to read.
    LoadFailed = "loads failed",
    /// A leader went down with a proposal that may yet commit.
    OutcomeUnknown = "outcomes unknown",
    /// A read was served.
    Read = "reads",
    /// A process crashed.
    Crash = "crashes",
    /// A disk was lost.
    Wiped = "disks lost",
    /// An old copy took the place of a disk.
    SetBack = "set back",
    /// A disk lost the end of its log.
    TailLost = "ends of logs lost",
    /// A leader found a member to have forgotten what it acknowledged.
    Amnesia = "amnesia raised",
    /// A member that had forgotten began anew.
    Renewed = "renewed",
    /// An entry rotted on a disk.
    Rotted = "entries rotted",
    /// A member found that it can't read its log.
    Damaged = "ranges damaged",
    /// Others told it what stood there, or a snapshot stands for it.
    Repaired = "repaired",
    /// A member fell asleep.
    FellAsleep = "members asleep",
    /// A sleeping member was told that its leader's node lives.
    LeaderSeen = "leaders seen",
    /// A sleeping member was told that its leader's node is lost.
    SleeperLost = "sleepers' leaders lost",
    /// Two members disagreed on whether their group sleeps.
    SleepDisputed = "sleep disputed",
    /// A process stood still.
    Paused = "pauses",
    /// A clock leapt ahead.
    Leapt = "leaps of a clock",
    /// A member was handed the cards that another one signed and keeps.
    CardsHanded = "cards handed over",
    /// The cards of a peer counted.
    CardsCounted = "peers known by their cards",
    /// A joiner was told who the members are.
    Admitted = "admissions",
    /// A transport refused a peer, and told it the slot of its configuration.
    Refused = "peers refused",
    /// A removed member lied to one that had not learned of the removal.
    LiedTo = "lies of removed members",
    /// Hostile actors sent entries.
    HostileEntries = "hostile entries",
    /// Hostile actors acknowledged entries, or said that logs part.
    HostileAcknowledgement = "hostile acknowledgements",
    /// Hostile actors spoke as a leader.
    HostileHeartbeat = "hostile heartbeats",
    /// Hostile actors answered a leader.
    HostileStanding = "hostile heartbeat answers",
    /// Hostile actors asked for a vote.
    HostileCandidate = "hostile vote requests",
    /// Hostile actors gave or refused a vote.
    HostileVote = "hostile votes",
    /// Hostile actors asked for a read, or answered one.
    HostileRead = "hostile reads",
    /// Hostile actors asked a member to campaign.
    HostileTransfer = "hostile transfers",
    /// Hostile actors let a member sleep.
    HostileQuiesce = "hostile words to sleep",
    /// Hostile actors offered a snapshot, or answered an offer.
    HostileSnapshot = "hostile snapshots",
    /// Hostile actors told a member that it lost what it acknowledged.
    HostileVerdict = "hostile verdicts",
    /// Hostile actors told a member that it is out.
    HostileDismissal = "hostile dismissals",
    /// Hostile actors asked for a repair, or answered one.
    HostileRepair = "hostile repairs",
    /// Hostile actors connected.
    HostilePath = "hostile paths",
    /// Hostile actors showed that the leader's node lives.
    HostileSign = "hostile signs of life",
    /// Hostile actors showed cards of others, forged ones or stale ones.
    HostileCards = "hostile shows of cards",
}
