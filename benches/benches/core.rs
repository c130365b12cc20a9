//! What the core costs in CPU: a committed entry, a heartbeat, a round of reads, on all three cores
//! of a cluster in memory together.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meshraft_benches::Cores;

const BATCHES: [u64; 3] = [1, 16, 256];

fn committed_entries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/committed entry");
    let command = Bytes::from(vec![7; 100]);
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            let mut cores = Cores::new();
            bencher.iter(|| cores.commit(black_box(&command), batch));
        });
    }
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/read round");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            let mut cores = Cores::new();
            bencher.iter(|| cores.read(black_box(batch)));
        });
    }
    group.finish();
}

fn heartbeats(criterion: &mut Criterion) {
    criterion.bench_function("core/heartbeat round", |bencher| {
        let mut cores = Cores::new();
        bencher.iter(|| cores.heartbeat());
    });
}

criterion_group!(benches, committed_entries, reads, heartbeats);
criterion_main!(benches);
