//! Random histories, with reopenings, against the plain twin.

use meshraft_storage::{Job, Store};
use proptest::prelude::*;

use crate::{script::*, subject::*};

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Act>),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = prop_oneof![8 => 0..200_u32, 2 => 0..6_000_u32, 1 => 0..150_000_u32];
    let (group, count, back) = (any::<u8>(), 0..12_u8, 0..10_u8);
    prop_oneof![
        2 => (0..3_u8).prop_map(|namespace| Act::Create { namespace }),
        1 => (0..3_u8, 0..3_000_u16)
            .prop_map(|(namespace, bytes)| Act::Record { namespace, bytes }),
        1 => group.prop_map(|group| Act::Drop { group }),
        8 => (group, count.clone(), bytes.clone(), any::<bool>(), any::<bool>()).prop_map(
            |(group, count, bytes, next_term, hard)| Act::Append {
                group, count, bytes, next_term, hard
            }
        ),
        4 => (group, back.clone(), count.clone(), bytes).prop_map(
            |(group, back, count, bytes)| Act::Replace { group, back, count, bytes }
        ),
        1 => (group, back.clone()).prop_map(|(group, back)| Act::Truncate { group, back }),
        2 => (group, 0..9_u8).prop_map(|(group, candidate)| Act::Vote { group, candidate }),
        2 => (group, back, count.clone())
            .prop_map(|(group, back, keep)| Act::Snapshot { group, back, keep }),
        1 => (group, count).prop_map(|(group, ahead)| Act::Install { group, ahead }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(act(), 1..12).prop_map(Step::Batch),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn histories_match_the_twin(steps in prop::collection::vec(step(), 1..40)) {
        let mut disk = OnDisk::new();
        let mut script = Script::default();
        for step in &steps {
            match step {
                Step::Batch(acts) => {
                    let jobs: Vec<Job> = acts.iter().filter_map(|act| script.job(act)).collect();
                    if !jobs.is_empty() {
                        disk.commit(jobs);
                    }
                    assert_same_logs(disk.store(), &script.twin);
                }
                Step::Reopen => check_reopened(&mut disk, &script),
            }
        }
        check_reopened(&mut disk, &script);
    }
}

fn check_reopened(disk: &mut OnDisk, script: &Script) {
    let names = script.twin.opened().namespaces.into_iter().map(|one| one.namespace);
    let found: Vec<_> = names.filter_map(|name| disk.found(&name)).collect();
    let opened = disk.reopen();
    assert_eq!(found, opened.namespaces);
    let store: &Store = disk.store();
    assert_same(store, &opened, &script.twin);
}
