//! What a namespace key costs: sealing and opening one fragment, small and of the largest size.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meshraft_consensus::{Namespace, NodeId};
use meshraft_transport::{
    Channel, NamespaceKey,
    seal::{Direction, Handshake, Opener, SEAL_BYTES, Sealer},
};

const HEADER: [u8; 11] = [3; 11];

fn ends() -> (Sealer, Opener) {
    let key = NamespaceKey::new([9; 32]);
    let namespace = Namespace::new("/bench").expect("a legal name");
    let nodes = [NodeId::new([1; 32]), NodeId::new([2; 32])];
    let (hello, answer): (&[u8], &[u8]) = (b"hello", b"answer");
    let (ours, theirs) = ([4; 32], [5; 32]);
    let handshake =
        Handshake::new(Channel::Entries, &namespace, nodes, 1, [hello, answer], [&ours, &theirs]);
    let sealer = Sealer::new(&key, &handshake, Direction::Forward);
    (sealer, Opener::new(&key, &handshake, Direction::Forward))
}

fn seal_and_open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for bytes in [100_usize, 32 * 1024 - SEAL_BYTES] {
        group.throughput(Throughput::Bytes(bytes as u64));
        let plain = vec![7; bytes];
        group.bench_function(BenchmarkId::new("seal", bytes), |bencher| {
            let (mut sealer, _) = ends();
            let mut buffer = Vec::with_capacity(bytes + SEAL_BYTES);
            bencher.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(black_box(&plain));
                sealer.seal(&HEADER, &mut buffer, 0);
            });
        });
        // Each fragment opens once, in order: what is opened has to be sealed first.
        group.bench_function(BenchmarkId::new("seal and open", bytes), |bencher| {
            let (mut sealer, mut opener) = ends();
            let mut buffer = Vec::with_capacity(bytes + SEAL_BYTES);
            bencher.iter(|| {
                buffer.clear();
                buffer.extend_from_slice(black_box(&plain));
                sealer.seal(&HEADER, &mut buffer, 0);
                let opened = opener.open(&HEADER, &mut buffer).expect("what was sealed opens");
                black_box(opened.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, seal_and_open);
criterion_main!(benches);
