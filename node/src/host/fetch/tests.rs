//! A fetch against a peer and a disk that misbehave by seed, and by hand.

use meshraft_consensus::{Configuration, Index};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CHUNK_BYTES: u32 = 16 * 1024;
const ID: SnapshotId = SnapshotId::new([1; 16]);

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        position: Position::new(Term::new(2), Index::new(9)),
        configuration: Configuration::default(),
        configuration_index: Index::ZERO,
    }
}

/// A file whose every byte tells its place.
fn file(length: usize) -> Bytes {
    (0..length).map(|at| (at / 1000 + at) as u8).collect::<Vec<_>>().into()
}

fn chunk(id: SnapshotId, file: &Bytes, request: &FetchRequest) -> FetchReply {
    let from = usize::try_from(request.offset).unwrap().min(file.len());
    let to = (from + request.bytes_max as usize).min(file.len());
    let (total, bytes) = (file.len() as u64, file.slice(from..to));
    let body = FetchBody::Chunk { id, total, offset: request.offset, bytes };
    FetchReply { term: Term::new(3), body }
}

/// A small generator: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % sides
    }
}

fn drain(fetch: &mut Fetch) -> Vec<Output> {
    std::iter::from_fn(|| fetch.poll()).collect()
}

fn asks(outputs: &[Output]) -> Vec<(AskId, FetchRequest)> {
    let ask = |output: &Output| match output {
        Output::Ask { id, request, .. } => Some((*id, *request)),
        _ => None,
    };
    outputs.iter().filter_map(ask).collect()
}

/// A fetch that found nothing of an earlier one, and its first request.
fn begun() -> (Fetch, AskId, FetchRequest) {
    let mut fetch = Fetch::new(meta(), CHUNK_BYTES, SECOND);
    assert_eq!(drain(&mut fetch), [Output::Resume]);
    fetch.handle(Moment::ZERO, Input::Resumed(Ok(None)));
    let asked = asks(&drain(&mut fetch));
    let [(id, request)] = asked[..] else { panic!("one request first: {asked:?}") };
    assert_eq!((request.id, request.offset), (None, 0));
    (fetch, id, request)
}

/// Runs a fetch on a path that loses, reorders and shortens, until it is over; what was written.
fn run(seed: u64, file: &Bytes, left: usize) -> (Vec<u8>, Result<(), InstallError>) {
    let mut dice = Dice(seed);
    let mut fetch = Fetch::new(meta(), CHUNK_BYTES, SECOND);
    let mut now = Moment::ZERO;
    let mut written = file[..left].to_vec();
    let mut under_way: Vec<(AskId, FetchRequest)> = Vec::new();
    let mut held_max = 0;
    for _ in 0..100_000 {
        while let Some(output) = fetch.poll() {
            match output {
                Output::Resume => {
                    let found = (left > 0).then_some((ID, left as u64));
                    fetch.handle(now, Input::Resumed(Ok(found)));
                }
                Output::Ask { id, request, .. } => under_way.push((id, request)),
                Output::Append { id, total, offset, bytes } => {
                    assert_eq!((id, total), (ID, file.len() as u64), "seed {seed}");
                    assert_eq!(offset, written.len() as u64, "seed {seed}: in order");
                    written.extend_from_slice(&bytes);
                    fetch.handle(now, Input::Appended(Ok(written.len() as u64)));
                }
                Output::Finish => fetch.handle(now, Input::Finished(Ok(()))),
                Output::Progress { term, .. } => assert_eq!(term, Term::new(3)),
                Output::Done(result) => return (written, result),
            }
        }
        held_max = held_max.max(under_way.len());
        assert!(held_max <= 8, "seed {seed}: {held_max} requests at once");
        now = now.plus(Duration::from_millis(dice.roll(20)));
        if under_way.is_empty() {
            now = fetch.deadline().expect("a fetch that waits for nobody has a deadline").max(now);
            fetch.handle(now, Input::Timeout);
            continue;
        }
        let at = dice.roll(under_way.len() as u64) as usize;
        let (id, mut request) = under_way.remove(at);
        let reply = match dice.roll(10) {
            0 => None,
            1 => Some(FetchReply { term: Term::new(3), body: FetchBody::Busy }),
            2 => {
                request.bytes_max = request.bytes_max / 3 + 1;
                Some(chunk(ID, file, &request))
            }
            3 => Some(chunk(SnapshotId::new([9; 16]), &file.slice(..1), &request))
                .filter(|_| written.len() > left),
            _ => Some(chunk(ID, file, &request)),
        };
        fetch.handle(now, Input::Replied(id, reply));
    }
    panic!("seed {seed}: the fetch does not end");
}

#[test]
fn a_file_arrives_whole_whatever_is_lost_reordered_cut_or_lied_about() {
    let chunk = CHUNK_BYTES as usize;
    for seed in 0..60 {
        let file = file([1, chunk, 3 * chunk + 17, 20 * chunk][seed as usize % 4]);
        let left = [0, file.len() / 2, file.len()][seed as usize % 3];
        let (written, result) = run(seed, &file, left);
        assert_eq!(result, Ok(()), "seed {seed}");
        assert!(written == file, "seed {seed}: the file that arrived is another one");
    }
}

#[test]
fn a_silent_peer_is_given_up_after_growing_pauses() {
    let (mut fetch, mut ask, _) = begun();
    let mut now = Moment::ZERO;
    for attempt in 0..FAILURES_MAX {
        fetch.handle(now, Input::Replied(ask, None));
        let due = fetch.deadline().expect("it is tried again");
        assert!(due >= now.plus(PAUSE_MIN * 2_u32.pow(attempt).min(50)), "attempt {attempt}");
        assert_eq!(drain(&mut fetch), [], "nothing is asked during the pause");
        now = due;
        fetch.handle(now, Input::Timeout);
        ask = asks(&drain(&mut fetch))[0].0;
    }
    fetch.handle(now, Input::Replied(ask, None));
    assert_eq!(drain(&mut fetch), [Output::Done(Err(InstallError::Interrupted))]);
    assert_eq!(fetch.deadline(), None);
}

/// The sizes that are asked for, in KiB, while a peer answers, or does not, as told of each.
fn sizes(fetch: &mut Fetch, file: &Bytes, mut answers: impl FnMut(u32) -> bool) -> Vec<u32> {
    let mut now = Moment::ZERO;
    let mut sizes = Vec::new();
    let mut written = 0;
    let mut waiting: VecDeque<(AskId, FetchRequest)> = VecDeque::new();
    for _ in 0..60 {
        loop {
            while let Some(output) = fetch.poll() {
                match output {
                    Output::Ask { id, request, timeout } => {
                        assert!(timeout <= SECOND * 10, "{timeout:?}");
                        waiting.push_back((id, request));
                    }
                    Output::Append { bytes, .. } => {
                        written += bytes.len() as u64;
                        fetch.handle(now, Input::Appended(Ok(written)));
                    }
                    _ => {}
                }
            }
            if !waiting.is_empty() {
                break;
            }
            now = fetch.deadline().expect("it goes on");
            fetch.handle(now, Input::Timeout);
        }
        let (id, request) = waiting.pop_front().unwrap();
        sizes.push(request.bytes_max / 1024);
        let answer = answers(request.bytes_max / 1024);
        // What is under way at once is lost at once.
        now = now.plus(Duration::from_millis(1));
        let reply = answer.then(|| chunk(ID, file, &request));
        fetch.handle(now, Input::Replied(id, reply));
    }
    sizes
}

/// A request of a storm is not waited for long after it, and a path that can't carry much in time
/// is not asked for much.
#[test]
fn parts_grow_while_they_arrive_and_shrink_for_a_while_when_they_do_not() {
    const LARGE: u32 = 256 * 1024;
    let file = file(40 * LARGE as usize);
    let mut fetch = Fetch::new(meta(), LARGE, SECOND);
    fetch.handle(Moment::ZERO, Input::Resumed(Ok(None)));
    let (mut asked, mut failed) = (0, 0);
    // The path fails after twenty parts, until a small one has failed.
    let sizes = sizes(&mut fetch, &file, |size| {
        asked += 1;
        let fails = failed == 0 && asked > 20;
        if fails && size == 16 {
            failed = asked;
        }
        !fails
    });
    let (grown, later) = sizes.split_at(20);
    assert_eq!((grown[0], grown[19]), (16, 256), "{grown:?}");
    assert!(grown.is_sorted(), "{grown:?}");
    let careful = &later[failed - 20..];
    assert!(careful[..8].iter().all(|size| *size == 16), "{careful:?}");
    assert_eq!(careful.iter().max(), Some(&256), "{careful:?}");
}

#[test]
fn a_file_of_which_large_parts_were_lost_arrives_whole_in_small_ones() {
    const LARGE: u32 = 256 * 1024;
    let file = file(300 * 1024);
    let mut fetch = Fetch::new(meta(), LARGE, SECOND);
    fetch.handle(Moment::ZERO, Input::Resumed(Ok(None)));
    let (mut now, mut written, mut losses) = (Moment::ZERO, 0, 20);
    let done = loop {
        let Some(output) = fetch.poll() else {
            now = fetch.deadline().unwrap_or_else(|| panic!("stuck at {written} bytes"));
            fetch.handle(now, Input::Timeout);
            continue;
        };
        match output {
            Output::Ask { id, request, .. } => {
                let lose = request.offset > 0 && losses > 0 && request.bytes_max > 16 * 1024;
                losses -= i32::from(lose);
                let reply = (!lose).then(|| chunk(ID, &file, &request));
                fetch.handle(now, Input::Replied(id, reply));
            }
            Output::Append { offset, bytes, .. } => {
                assert_eq!(offset, written, "in order");
                written += bytes.len() as u64;
                fetch.handle(now, Input::Appended(Ok(written)));
            }
            Output::Finish => fetch.handle(now, Input::Finished(Ok(()))),
            Output::Resume | Output::Progress { .. } => {}
            Output::Done(result) => break result,
        }
    };
    assert_eq!((done, written), (Ok(()), 300 * 1024));
}

#[test]
fn what_is_gone_ends_the_fetch_at_once() {
    let (mut fetch, ask, _) = begun();
    let gone = FetchReply { term: Term::new(3), body: FetchBody::Gone };
    fetch.handle(Moment::ZERO, Input::Replied(ask, Some(gone)));
    assert_eq!(drain(&mut fetch), [Output::Done(Err(InstallError::Interrupted))]);
}

#[test]
fn another_file_at_the_position_is_fetched_from_its_first_byte() {
    let mut fetch = Fetch::new(meta(), CHUNK_BYTES, SECOND);
    let file = file(1000);
    fetch.handle(Moment::ZERO, Input::Resumed(Ok(Some((ID, 400)))));
    let (ask, request) = asks(&drain(&mut fetch))[0];
    assert_eq!((request.id, request.offset), (Some(ID), 400), "it goes on where it stopped");
    let other = FetchReply { term: Term::new(3), body: FetchBody::OtherId };
    fetch.handle(Moment::ZERO, Input::Replied(ask, Some(other)));
    let now = fetch.deadline().expect("after a pause");
    fetch.handle(now, Input::Timeout);
    let (ask, request) = asks(&drain(&mut fetch))[0];
    assert_eq!((request.id, request.offset), (None, 0));
    let new = SnapshotId::new([2; 16]);
    fetch.handle(now, Input::Replied(ask, Some(chunk(new, &file, &request))));
    let appended = Output::Append { id: new, total: 1000, offset: 0, bytes: file };
    assert!(drain(&mut fetch).contains(&appended));
}

#[test]
fn a_file_that_fails_its_checks_is_told_and_so_is_a_full_disk() {
    let finished = [
        (SnapshotError::Gone, InstallError::Damaged),
        (SnapshotError::NoSpace, InstallError::Failed),
    ];
    for (error, told) in finished {
        let (mut fetch, ask, request) = begun();
        let reply = chunk(ID, &file(10), &request);
        fetch.handle(Moment::ZERO, Input::Replied(ask, Some(reply)));
        fetch.handle(Moment::ZERO, Input::Appended(Ok(10)));
        assert!(drain(&mut fetch).contains(&Output::Finish));
        fetch.handle(Moment::ZERO, Input::Finished(Err(error)));
        assert_eq!(drain(&mut fetch), [Output::Done(Err(told))]);
    }
    let (mut fetch, ask, request) = begun();
    fetch.handle(Moment::ZERO, Input::Replied(ask, Some(chunk(ID, &file(10), &request))));
    drain(&mut fetch);
    fetch.handle(Moment::ZERO, Input::Appended(Err(SnapshotError::NoSpace)));
    assert_eq!(drain(&mut fetch), [Output::Done(Err(InstallError::Failed))]);
}

#[test]
fn a_partial_file_that_does_not_fit_begins_anew_but_not_for_ever() {
    let mut fetch = Fetch::new(meta(), CHUNK_BYTES, SECOND);
    let file = file(10);
    let mut now = Moment::ZERO;
    for _ in 0..=FAILURES_MAX {
        assert_eq!(drain(&mut fetch), [Output::Resume]);
        fetch.handle(now, Input::Resumed(Ok(None)));
        now = fetch.deadline().unwrap_or(now);
        fetch.handle(now, Input::Timeout);
        let (ask, request) = asks(&drain(&mut fetch))[0];
        fetch.handle(now, Input::Replied(ask, Some(chunk(ID, &file, &request))));
        drain(&mut fetch);
        let gap = SnapshotError::Gap { expected: 5, found: 0 };
        fetch.handle(now, Input::Appended(Err(gap)));
    }
    assert_eq!(drain(&mut fetch), [Output::Done(Err(InstallError::Interrupted))]);
}
