//! Releases a stopped node from a cluster, by its operator's word and on its own data folder.
//!
//! A node keeps its cluster for good: no peer can talk it out of one. Only the operator knows that
//! a cluster was a stranger's, or that it is gone. The released node is a new one to all others,
//! as if its disk had been wiped; the log and the snapshots of the cluster are set aside, not
//! deleted.
//!
//! Invariants:
//! 1. The folder is changed by one transaction, or not at all.
//! 2. A new incarnation begins, and the highest ballot that was seen stays: the released node can't
//!    vote, acknowledge or refuse in the name of the old one.
//! 3. A node that votes in its cluster, or may have, is released only with [`Release::as_wiped`].

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use meshraft_consensus::{ClusterId, Configuration, Incarnation, Index, Member, Namespace};
use meshraft_discovery::Record;
use meshraft_storage::{
    Ack, DataDir, DataDirError, Job, OpenError, OpenedGroup, OpenedNamespace, Store, StoreOptions,
    Ticket,
};

use crate::host::{
    RecordError,
    record::{HostRecord, SetAside},
};

/// How long the one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What to release a node from.
#[derive(Clone, Debug)]
pub struct Release {
    /// The data folder; no process may have it open.
    pub data_dir: PathBuf,
    /// The namespace whose cluster is forgotten.
    pub namespace: Namespace,
    /// Release the node also if it votes in the cluster, or may have: the cluster then counts one
    /// disk less, as if this one had been wiped.
    pub as_wiped: bool,
}

/// A group that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The cluster, or the founder set that was promised, to which the group belongs.
    pub cluster: ClusterId,
    /// The incarnation that acted in it.
    pub incarnation: Incarnation,
}

/// What became of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The clusters and founder sets that were forgotten now.
    pub forgotten: Vec<ClusterId>,
    /// The last entry of the log that was set aside.
    pub last: Index,
    /// Whether the node may have been a voter of one of them.
    pub voter: bool,
    /// The incarnation that was ended.
    pub ended: Incarnation,
    /// The one that begins.
    pub incarnation: Incarnation,
    /// Everything that is set aside by now, the oldest first.
    pub aside: Vec<Aside>,
}

/// Why a node is not released. Nothing was changed, unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// The folder holds no node.
    #[error("{} holds no node: there is no log in it", path.display())]
    NoNode {
        /// The folder.
        path: PathBuf,
    },
    /// The folder can't be used; another process may have it open.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log can't be opened.
    #[error("the log in {} can't be opened", path.display())]
    Store {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The folder holds no such namespace.
    #[error("the folder holds no namespace {namespace}; it holds: {}", names(known))]
    UnknownNamespace {
        /// What was asked for.
        namespace: Namespace,
        /// What there is.
        known: Vec<Namespace>,
    },
    /// The record of the namespace can't be read.
    #[error("the record of {namespace} can't be read")]
    Record {
        /// The namespace.
        namespace: Namespace,
        /// Why.
        source: RecordError,
    },
    /// The node is in no cluster and bound by no promise.
    #[error("there is nothing to forget: the node is in no cluster of {namespace}")]
    NothingToForget {
        /// The namespace.
        namespace: Namespace,
    },
    /// The node votes in the cluster, or may have.
    #[error(
        "the node votes in cluster {cluster}, or may have: what only it and members that are gone \
         have acknowledged would be lost; if that is so already, say --as-wiped"
    )]
    Voter {
        /// The cluster, or the founder set that was promised.
        cluster: ClusterId,
        /// The last entry of its log here.
        last: Index,
        /// How many voters the newest configuration has that is known here.
        voters: usize,
    },
    /// So much was set aside already that the record can't name more.
    #[error("{count} clusters are set aside already: begin with an empty data folder")]
    TooManyAside {
        /// How many.
        count: usize,
    },
    /// The operating system gives no randomness for the new incarnation.
    #[error("no randomness for the new incarnation")]
    Randomness(#[source] getrandom::Error),
    /// The write failed, or did not end in time: whether it took effect shows `list`.
    #[error("the write failed, or did not end in time; look at the folder again")]
    NotWritten,
}

impl ForgetError {
    /// The word for it in JSON.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoNode { .. } => "no_node",
            Self::DataDir(DataDirError::InUse { .. }) => "in_use",
            Self::DataDir(_) => "data_dir",
            Self::Store { .. } => "store",
            Self::UnknownNamespace { .. } => "unknown_namespace",
            Self::Record { .. } => "record",
            Self::NothingToForget { .. } => "nothing_to_forget",
            Self::Voter { .. } => "voter",
            Self::TooManyAside { .. } => "too_many_aside",
            Self::Randomness(_) => "randomness",
            Self::NotWritten => "not_written",
        }
    }

    /// Whether what was asked for can't be meant: a folder or a namespace that is none.
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::NoNode { .. } | Self::DataDir(_) | Self::UnknownNamespace { .. })
    }

    /// Whether the node may have been released all the same.
    pub const fn maybe_released(&self) -> bool {
        matches!(self, Self::NotWritten)
    }
}

fn names(known: &[Namespace]) -> String {
    match known {
        [] => "none".into(),
        known => known.iter().map(Namespace::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// Releases the node in a data folder from its cluster. Blocks while the log is read.
///
/// # Errors
/// Says why not; see [`ForgetError`].
pub fn forget(release: &Release) -> Result<Released, ForgetError> {
    let folder = Folder::open(&release.data_dir)?;
    let found = folder.namespace(&release.namespace)?;
    let record = HostRecord::decode(&found.record).map_err(|source| unread(found, source))?;
    let founding =
        Record::decode(&record.founding).map_err(|_| unread(found, RecordError::Corrupt))?;
    let plan = plan(release, found, &record, &founding)?;
    let Plan { released, record } = plan;
    folder.write(&release.namespace, record.encode().into())?;
    Ok(released)
}

/// What is set aside of a namespace in a data folder, the oldest first. Changes nothing.
///
/// # Errors
/// As [`forget`].
pub fn list(data_dir: &Path, namespace: &Namespace) -> Result<Vec<Aside>, ForgetError> {
    let folder = Folder::open(data_dir)?;
    let found = folder.namespace(namespace)?;
    let record = HostRecord::decode(&found.record).map_err(|source| unread(found, source))?;
    Ok(told(&record.aside))
}

fn unread(found: &OpenedNamespace, source: RecordError) -> ForgetError {
    ForgetError::Record { namespace: found.namespace.clone(), source }
}

fn told(aside: &[SetAside]) -> Vec<Aside> {
    let told = |one: &SetAside| Aside { cluster: one.cluster, incarnation: one.incarnation };
    aside.iter().map(told).collect()
}

/// What is written, and what is told of it.
struct Plan {
    released: Released,
    record: HostRecord,
}

fn plan(
    release: &Release,
    found: &OpenedNamespace,
    record: &HostRecord,
    founding: &Record,
) -> Result<Plan, ForgetError> {
    let namespace = &release.namespace;
    let me = Member::new(record.node, record.incarnation);
    let promised = founding.promise.as_ref().map(|set| set.id(namespace));
    let mut forgotten: Vec<_> =
        [founding.cluster, promised, founding.former].into_iter().flatten().collect();
    forgotten.dedup();
    let Some(&first) = forgotten.first() else {
        return Err(ForgetError::NothingToForget { namespace: namespace.clone() });
    };
    let held: Vec<_> = record.aside.iter().map(SetAside::group).collect();
    let groups: Vec<_> = found.groups.iter().filter(|it| !held.contains(&it.group)).collect();
    let group = groups.iter().find(|group| group.cluster == first);
    let last = group.map_or(Index::ZERO, |group| group.last.index);
    // A founder votes in its set, and in the cluster that the set became; of an earlier incarnation
    // nothing is known.
    let voter = promised.is_some()
        || founding.former.is_some()
        || group.is_some_and(|group| may_have_voted(group, &me));
    if voter && !release.as_wiped {
        let voters = group.and_then(|group| newest(group)).map_or(0, |it| it.voters.len());
        let founders = founding.promise.as_ref().map_or(0, |set| set.members.len());
        return Err(ForgetError::Voter { cluster: first, last, voters: voters.max(founders) });
    }
    let mut aside = record.aside.clone();
    let set_aside = groups.iter().map(|it| SetAside::new(it.group, it.cluster, me.incarnation));
    aside.extend(set_aside);
    if aside.len() > SetAside::MAX {
        return Err(ForgetError::TooManyAside { count: record.aside.len() });
    }
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).map_err(ForgetError::Randomness)?;
    let incarnation = Incarnation::new(drawn);
    // As a wiped disk, but for the highest ballot: what was answered once is never answered again.
    let fresh = Record { seen: founding.seen, ..Record::default() };
    let released = Released {
        forgotten,
        last,
        voter,
        ended: me.incarnation,
        incarnation,
        aside: told(&aside),
    };
    let founding = fresh.encode().to_vec();
    // Nothing that proved the old incarnation, or that was vouched to it, is of use to the new one.
    let (vouched, cards) = (Vec::new(), Vec::new());
    let record = HostRecord { incarnation, founding, aside, vouched, cards, ..record.clone() };
    Ok(Plan { released, record })
}

/// Whether a member voted in a group, or may have: what is not known counts as a vote.
fn may_have_voted(group: &OpenedGroup, me: &Member) -> bool {
    let votes = |it: &Configuration| it.voters.contains(me) || it.outgoing.contains(me);
    let logged = || group.configurations.iter().map(|(_, configuration)| configuration);
    let snapshot = group.snapshot.as_ref().map(|meta| &meta.configuration);
    // Before a snapshot that does not name it as a learner it may have been anything.
    let before = snapshot.is_some_and(|it| !it.learners.contains(me));
    group.damage.is_some() || before || logged().chain(snapshot).any(votes)
}

fn newest(group: &OpenedGroup) -> Option<&Configuration> {
    let logged = group.configurations.last().map(|(_, configuration)| configuration);
    logged.or_else(|| group.snapshot.as_ref().map(|meta| &meta.configuration))
}

/// A data folder, opened by nobody else.
struct Folder {
    store: Store,
    namespaces: Vec<OpenedNamespace>,
    acks: mpsc::Receiver<Ack>,
}

impl Folder {
    fn open(path: &Path) -> Result<Self, ForgetError> {
        // A folder that is none is not to be made one.
        if !path.is_dir() {
            return Err(ForgetError::NoNode { path: path.into() });
        }
        let dir = DataDir::open(path)?;
        if !dir.has_log() {
            return Err(ForgetError::NoNode { path: path.into() });
        }
        let (acknowledge, acks) = mpsc::channel();
        // Fails only if nobody waits any more.
        let tell = move |ack| drop(acknowledge.send(ack));
        let (store, opened) = Store::open(&dir, StoreOptions::default(), tell)
            .map_err(|source| ForgetError::Store { path: path.into(), source })?;
        Ok(Self { store, namespaces: opened.namespaces, acks })
    }

    fn namespace(&self, namespace: &Namespace) -> Result<&OpenedNamespace, ForgetError> {
        let found = self.namespaces.iter().find(|found| found.namespace == *namespace);
        found.ok_or_else(|| ForgetError::UnknownNamespace {
            namespace: namespace.clone(),
            known: self.namespaces.iter().map(|found| found.namespace.clone()).collect(),
        })
    }

    fn write(self, namespace: &Namespace, record: Bytes) -> Result<(), ForgetError> {
        let namespace = namespace.clone();
        let (ticket, create, drop) = (Ticket::new(1), None, Vec::new());
        self.store.submit(vec![Job::Record { ticket, namespace, record, create, drop }]);
        let written = match self.acks.recv_timeout(WRITE_TIMEOUT) {
            Ok(Ack::Durable(_)) => Ok(()),
            Ok(_) | Err(_) => Err(ForgetError::NotWritten),
        };
        self.store.close();
        written
    }
}
