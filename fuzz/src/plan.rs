//! What one run is like: how many nodes and clients, how long, and which faults.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    faults::{Faults, Rate, Strike},
    mistake::Mistake,
    random::Random,
};

/// How the nodes of a run come to found a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Each founder expects this many: more than half, so that there can be only one cluster. Those
    /// that are left over join.
    Expect(usize),
    /// Those that see each other within the first part of a window, in percent, found. Two clusters
    /// that share no founder are possible then, if nodes can't see each other; a run that ends so
    /// is counted and says nothing more.
    Window(u8),
    /// The first node founds alone because it is told to; the others join.
    Forced,
}

/// What a hostile actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// A node that nobody admitted, without the key where there is one.
    Stranger,
    /// A node that nobody admitted, with the key.
    KeyHolder,
    /// A member that was removed, with the cards that it had.
    Removed,
    /// The node of a member, in an incarnation that never was one.
    OtherLife,
}

/// A run before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Seeds everything.
    pub seed: u64,
    /// How many nodes may found the cluster.
    pub founders: usize,
    /// How they come to found it.
    pub founding: Founding,
    /// How many nodes only join, some time later.
    pub joiners: usize,
    /// How many namespaces every node hosts.
    pub namespaces: usize,
    /// How many clients write and read.
    pub clients: usize,
    /// How many keys they use.
    pub keys: u64,
    /// How many voters there should be.
    pub voters_target: usize,
    /// After how many entries a snapshot is due.
    pub snapshot_entries: u64,
    /// How many bytes a snapshot has beside the keys: with many, a transfer takes several parts.
    pub padding_bytes: u64,
    /// After how long without work a group sleeps, if groups do.
    pub quiesce_after: Option<Duration>,
    /// Clients begin nothing new for so long, each time this much more has passed.
    pub rests: Option<(Duration, Duration)>,
    /// Whether leaders may serve reads on leases.
    pub leases: bool,
    /// What goes wrong until the world heals.
    pub faults: Faults,
    /// Hostile actors.
    pub hostiles: [Option<Hostile>; 2],
    /// Whether a removed member also lies to those that have not learned of its removal, which
    /// believe it: the limit of what membership can prove.
    pub lies: bool,
    /// Whether nodes, links and disks fail most while clusters are founded.
    pub rough: bool,
    /// The only strikes that happen, if there is such a list.
    pub only: Option<BTreeSet<Strike>>,
    /// How long nothing goes wrong before that.
    pub quiet: Duration,
    /// How long things go wrong.
    pub stormy: Duration,
    /// Within this time of healing every node must serve again.
    pub recovery: Duration,
    /// How long the run is at least: once everything works again, it goes on doing so.
    pub whole: Duration,
    /// Planted on purpose, to see that it is found.
    pub mistake: Option<Mistake>,
    /// Whether to print the trace.
    pub print: bool,
}

impl Plan {
    /// A storm lasts so long at least.
    pub const STORMY_MIN: Duration = Duration::from_secs(20);
    /// A run lasts so long at least.
    pub const WHOLE_MIN: Duration = Duration::from_secs(30);
    /// Within this time of healing somebody leads: ten election time-outs.
    pub const LEADER_WITHIN: Duration = Duration::from_secs(5);

    /// The run of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed).fork(1);
        let founders = match random.below(20) {
            0 => 1,
            1 => 2,
            2..5 => 4,
            5..9 => 5,
            _ => 3,
        };
        let majority = founders / 2 + 1;
        let expect = if random.below(2) == 0 { majority.max(founders.min(3)) } else { founders };
        let founding = match random.below(10) {
            0..2 => Founding::Window([50, 80, 100][random.place(3)]),
            2 => Founding::Forced,
            _ => Founding::Expect(expect),
        };
        // Who founds by what it sees within a window must be able to see.
        let quiet = match founding {
            Founding::Window(_) => Duration::from_secs(6),
            _ => Duration::ZERO,
        };
        let joiners = usize::from(random.below(4) == 0);
        let namespaces = if random.below(4) == 0 { 2 } else { 1 };
        // Now and then more than a core has room for.
        let clients = if random.below(12) == 0 { 24 } else { 1 + random.place(4) };
        let keys = 1 + random.below(4);
        let stormy = random.between(Self::STORMY_MIN, Self::STORMY_MIN + Duration::from_secs(6));
        let faults = Faults::draw(&mut random);
        // Leases rest on clocks that run evenly.
        let leases = faults.leap == Rate::NEVER && random.below(4) > 0;
        let (mistake, print) = (None, false);
        let voters_target =
            if random.below(3) == 0 { founders.max(3) } else { usize::from(u16::MAX) };
        let (joiners, voters_target) = if draw_standby(seed, &faults) {
            (1, founders.max(3))
        } else {
            (joiners, voters_target)
        };
        let snapshot_entries = 8 << random.below(4);
        let padding_bytes = draw_padding(&mut random);
        let quiesce_after = (random.below(2) == 0)
            .then(|| random.between(Duration::from_millis(200), Duration::from_secs(2)));
        let rests = quiesce_after.map(|after| draw_rests(after, &mut random));
        Self {
            seed,
            founders,
            founding,
            joiners,
            namespaces,
            clients,
            keys,
            voters_target,
            snapshot_entries,
            padding_bytes,
            quiesce_after,
            rests,
            leases,
            faults,
            hostiles: draw_hostiles(seed),
            lies: false,
            rough: quiet.is_zero() && Random::new(seed).fork(13).below(3) == 0,
            only: None,
            quiet,
            stormy,
            recovery: recovery_of(seed, founding),
            whole: Self::WHOLE_MIN,
            mistake,
            print,
        }
    }

    /// How many each founder expects, if it expects anything.
    pub const fn expect(&self) -> Option<usize> {
        match self.founding {
            Founding::Expect(expect) => Some(expect),
            Founding::Window(_) | Founding::Forced => None,
        }
    }

    /// Whether every node proves that it holds the namespaces' key. Half of the runs have none: an
    /// admission then binds in memory only at first.
    pub const fn keyed(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// How many nodes there are.
    pub const fn nodes(&self) -> usize {
        self.founders + self.joiners
    }
}

/// One or two hostile actors in a third of the seeds, from a stream of their own.
fn draw_hostiles(seed: u64) -> [Option<Hostile>; 2] {
    let mut random = Random::new(seed).fork(14);
    if random.below(3) > 0 {
        return [None; 2];
    }
    let mut draw = || {
        let all = [Hostile::Stranger, Hostile::KeyHolder, Hostile::Removed, Hostile::OtherLife];
        all[random.place(all.len())]
    };
    let (first, second) = (draw(), draw());
    [Some(first), (random.below(3) == 0).then_some(second)]
}

/// Within which time of healing everything works again: a part of a snapshot that was lost on the
/// way is asked for again after ten seconds.
fn recovery_of(seed: u64, founding: Founding) -> Duration {
    let mut liars = draw_hostiles(seed).into_iter().flatten();
    let open = !seed.is_multiple_of(2);
    let lied_to = liars.any(|one| matches!(one, Hostile::Stranger | Hostile::KeyHolder));
    match founding {
        // Without a key, and where no number of founders is expected, every peer is believed for
        // eight founding time-outs that it lives in a cluster, and again after it was passed over.
        Founding::Window(_) if open && lied_to => Duration::from_secs(180),
        _ => Duration::from_secs(30),
    }
}

/// How large snapshots are: with much, a transfer takes several parts.
fn draw_padding(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => 300_000 + random.below(600_000),
        1 => 66_000 + random.below(60_000),
        _ => random.below(500),
    }
}

/// Whether a learner stands by: it has a say in which version of commands comes into force.
fn draw_standby(seed: u64, faults: &Faults) -> bool {
    faults.versions > Rate::NEVER && Random::new(seed).fork(12).below(2) == 0
}

/// For how long clients rest, long enough for groups to sleep, and for how long they work between.
fn draw_rests(quiesce_after: Duration, random: &mut Random) -> (Duration, Duration) {
    let rest = quiesce_after + random.between(Duration::ZERO, Duration::from_secs(3));
    (rest, random.between(Duration::from_millis(500), Duration::from_secs(3)))
}
