//! What durability costs on this machine's disk: one append, and one of each of many groups.
//!
//! Each iteration submits, waits for the acknowledgement of the writer's thread, and so pays one
//! commit: encoding, one redb transaction, one synchronisation of the file.

use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meshraft_consensus::{
    ClusterId, Entry, EntryKind, Index, Namespace, Position, Term, Write, WriteId,
};
use meshraft_storage::{Ack, DataDir, GroupId, Job, Store, StoreOptions, Ticket};
use tempfile::TempDir;

/// A store with groups, and how far each log is.
struct Logs {
    store: Store,
    acks: Receiver<usize>,
    ticket: u64,
    index: u64,
    groups: u64,
    _folder: TempDir,
}

impl Logs {
    fn new(groups: u64) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let directory = DataDir::open(folder.path()).expect("an empty folder");
        let (sender, acks) = sync_channel(1024);
        let told = move |ack| {
            let count = match ack {
                Ack::Durable(tickets) => tickets.len(),
                Ack::Failed(error) => panic!("the disk failed: {error}"),
            };
            // Nobody listens any more when a bench is over.
            let _ = sender.send(count);
        };
        let (store, _) =
            Store::open(&directory, StoreOptions::default(), told).expect("a new store");
        let mut logs = Self { store, acks, ticket: 0, index: 0, groups, _folder: folder };
        let create = (1..=groups).map(|number| logs.create(number)).collect();
        logs.write(create);
        logs
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket::new(self.ticket)
    }

    fn create(&mut self, number: u64) -> Job {
        let cluster = ClusterId::new([u8::try_from(number % 251).unwrap_or(0); 32]);
        Job::Record {
            ticket: self.ticket(),
            namespace: Namespace::new(&format!("/bench/{number}")).expect("a legal name"),
            record: Bytes::from_static(b"record"),
            create: Some((GroupId::new(number), cluster)),
            drop: Vec::new(),
        }
    }

    /// Submits jobs and waits until all of them are durable.
    fn write(&mut self, jobs: Vec<Job>) {
        let mut left = jobs.len();
        self.store.submit(jobs);
        while left > 0 {
            left -= self.acks.recv().expect("the writer lives");
        }
    }

    /// One entry to every group.
    fn append(&mut self, payload: &Bytes) {
        self.index += 1;
        let jobs = (1..=self.groups).map(|number| self.entry(number, payload)).collect();
        self.write(jobs);
    }

    fn entry(&mut self, number: u64, payload: &Bytes) -> Job {
        let position = Position::new(Term::new(1), Index::new(self.index));
        let append = vec![Entry { position, kind: EntryKind::Command, bytes: payload.clone() }];
        let id = WriteId::new(self.index);
        let write = Write { id, hard: None, change: None, append };
        Job::Log { ticket: self.ticket(), group: GroupId::new(number), write }
    }
}

fn durable_appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/durable append of 100 B");
    group.sample_size(20);
    let payload = Bytes::from(vec![7; 100]);
    for groups in [1, 256] {
        group.throughput(Throughput::Elements(groups));
        group.bench_function(BenchmarkId::new("groups", groups), |bencher| {
            let mut logs = Logs::new(groups);
            bencher.iter(|| logs.append(&payload));
        });
    }
    group.finish();
}

criterion_group!(benches, durable_appends);
criterion_main!(benches);
