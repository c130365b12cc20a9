//! What is owed: the failures of others that a core, a replica or a host can show, and the rules of
//! the thesis that this builds.

use std::ops::RangeInclusive;

/// Failures by letter and number: all of safety, and those of operation that are no matter of a
/// tool or a platform.
pub(crate) const FAILURES: [(char, &[RangeInclusive<u8>]); 2] =
    [('S', &[1..=65]), ('O', &[7..=14, 16..=16, 20..=24, 27..=30, 34..=36])];

/// Sections of the thesis that are built, each with one rule at least.
pub(crate) const SECTIONS: [&str; 23] = [
    "3.3", "3.4", "3.5", "3.6.1", "3.6.2", "3.6.3", "3.7", "3.8", "3.10", "4.1", "4.2.1", "4.2.2",
    "4.2.3", "4.3", "5.1", "5.2", "5.3", "6.2", "6.3", "6.4", "6.4.1", "9.6", "10.2",
];

/// Section and rule, in the words of the table.
pub(crate) const RULES: [(&str, &str); 66] = [
    ("3.3", "an older term is refused and told the current one"),
    ("3.3", "a higher term ends every role"),
    ("3.4", "time-outs are random within bounds"),
    ("3.4", "a sign of life resets the time-out"),
    ("3.4", "a candidate yields to the leader of its term"),
    ("3.4", "split votes are resolved"),
    ("3.4", "one vote a term, each voter counted once"),
    ("3.4", "who has a majority leads, and says so at once"),
    ("3.5", "a majority commits, all apply in order"),
    ("3.5", "entries only directly after one that is there"),
    ("3.5", "what conflicts is replaced"),
    ("3.5", "a conflict skips a term per round trip"),
    ("3.5", "what is acknowledged was shown to be equal"),
    ("3.6.1", "a log that is behind gets no vote"),
    ("3.6.2", "entries of earlier terms commit with one of the own"),
    ("3.6.2", "a new leader commits a no-op"),
    ("3.6.3", "election safety, log matching, leader completeness, state machine safety"),
    ("3.7", "what is not answered is repeated"),
    ("3.7", "what comes twice changes nothing"),
    ("3.8", "a vote survives a restart"),
    ("3.8", "what was acknowledged survives every crash"),
    ("3.8", "nothing is said before it is durable"),
    ("3.10", "proposals stop while leadership is handed over, for an election time-out at most"),
    ("3.10", "the successor has the leader's log"),
    ("3.10", "it campaigns at once, and wins though a leader is heard"),
    ("4.1", "a configuration is in force on append"),
    ("4.1", "and rolled back with its entry"),
    ("4.1 (erratum of 2015)", "no change before a commit in the own term"),
    ("4.2.1", "learners catch up in rounds, then vote"),
    ("4.2.2", "a removed leader sees the change through"),
    ("4.2.2", "a member outside the newest configuration still counts for the change"),
    ("4.2.3", "who returns deposes no leader that is heard"),
    ("4.2.3", "who was taken out and does not know it is told"),
    ("4.3", "a joint configuration needs both majorities"),
    ("4.3", "any number of changes at once, left automatically"),
    ("4.3", "whoever leads next finishes the change"),
    ("4.3", "nobody who dies at any step of a change keeps the others from a leader"),
    ("5.1", "each member compacts its own log"),
    ("5.1", "the last position that a snapshot covers is kept"),
    ("5.1", "so is the configuration there"),
    ("5.1", "a restart applies only what follows"),
    ("5.1", "a snapshot goes to whom it alone helps"),
    ("5.1", "it replaces a log that conflicts"),
    ("5.1", "what follows on it stays"),
    ("5.1", "a new member starts from it"),
    ("5.1", "nothing is said of it before it is recorded"),
    ("5.1", "a transfer under load ends"),
    ("5.1.1", "a snapshot is written while work goes on"),
    ("5.1.2", "it is due by the size of the log, and of the last one"),
    ("5.1.3", "nobody loads half a snapshot"),
    ("5.2", "a machine that keeps its state on disk skips what it has"),
    ("5.3", "logs are cleaned or merged piece by piece"),
    ("6.2", "a leader without a quorum steps down"),
    ("6.2", "a request that comes to a follower goes to the leader"),
    ("6.3", "a command takes effect once"),
    ("6.4", "a read waits for a round that began after it"),
    ("6.4", "a new leader reads after its own commit"),
    ("6.4", "a follower asks the leader for the index"),
    ("6.4.1", "a lease costs no round, and each round extends it"),
    ("6.4.1", "it ends before another can be elected"),
    ("6.4.1", "it weakens no read that asks for more"),
    ("6.4.1", "voters keep their word"),
    ("9.6", "a pre-vote changes nothing"),
    ("10.1", "timing that contradicts itself is refused"),
    ("10.2.1", "the leader's disk and the network overlap"),
    ("10.2.2", "requests are pipelined and batched"),
];
