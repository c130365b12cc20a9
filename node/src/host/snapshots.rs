//! The way of a snapshot through a namespace: from the replica to files, from a member to a member.
//!
//! The replica says what it wants; this part turns it into jobs on files, requests to the member
//! that offers one, and answers to members that fetch ours.

use std::time::Duration;

use bytes::Bytes;
use meshraft_consensus::{Member, Moment, Position, SnapshotMeta, Term};
use meshraft_transport::{Channel, ReplyToken, Scope, Source};

use super::{
    desk::{Asked, Desk},
    draw::{Ids, Life},
    event::{NodeEvent, SnapshotEvent},
    fetch::{self, AskId, Fetch},
    hosted::Hosted,
    output::Output,
    serving::Serving,
    snapshot_io::{Done, RestoreFailure, SnapshotDone, SnapshotJob, SnapshotWork},
    snapshot_wire::{CHUNK_BYTES_MAX, FetchBody, FetchReply, FetchRequest},
};
use crate::replica;

/// A fetch under way.
#[derive(Debug)]
struct Fetching {
    /// Tells its requests from those of one that it replaced.
    number: u64,
    from: Member,
    fetch: Fetch,
}

/// What a namespace has under way with snapshots.
#[derive(Debug)]
pub(super) struct Traffic {
    fetching: Option<Fetching>,
    fetches: u64,
    serving: Serving,
    ids: Ids,
    /// Which opening of the namespace asks for work on files. A renewal does not change it: the
    /// machine that is away then comes back all the same.
    opening: Life,
}

impl Traffic {
    /// Nothing is under way; snapshots that are taken get their ids from `ids`.
    pub(super) fn new(opening: Life, ids: Ids) -> Self {
        Self { fetching: None, fetches: 0, serving: Serving::default(), ids, opening }
    }

    /// When the namespace is to be woken for it.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.fetching.as_ref().and_then(|fetching| fetching.fetch.deadline())
    }

    /// The group ended, and with it what was fetched and served for it.
    pub(super) fn end(&mut self) {
        self.fetching = None;
        self.serving.clear();
    }
}

/// How long a request for a part may take at first.
fn ask_timeout(election: Duration) -> Duration {
    const LEAST: Duration = Duration::from_secs(2);
    (election * 4).max(LEAST)
}

/// For how long the file of an offered snapshot is kept after the last sign of its transfer.
pub(super) fn pin_time(election: Duration) -> Duration {
    const LEAST: Duration = Duration::from_secs(60);
    (election * 20).max(LEAST)
}

impl Hosted {
    fn job(&self, work: SnapshotWork, desk: &mut Desk) {
        let Some(group) = self.active.as_ref().map(|active| active.number) else { return };
        let (namespace, life) = (self.namespace.clone(), self.traffic.opening.get());
        desk.push(Output::Snapshot(SnapshotJob { namespace, group, life, work }));
    }

    pub(super) fn take_snapshot(
        &mut self,
        meta: SnapshotMeta,
        writer: meshraft_service::SnapshotWriter,
        desk: &mut Desk,
    ) {
        let id = self.traffic.ids.snapshot();
        self.job(SnapshotWork::Take { meta, id, writer }, desk);
    }

    /// Sends the state to be restored; where its group ended meanwhile it goes back as it is.
    pub(super) fn restore_snapshot(
        &mut self,
        now: Moment,
        meta: SnapshotMeta,
        state: Box<meshraft_service::Replicated>,
        desk: &mut Desk,
    ) {
        if self.active.is_none() {
            let result = Err(RestoreFailure::Stopped);
            let input = replica::Input::SnapshotRestored { meta, state, result };
            return self.replica.handle(now, input);
        }
        self.job(SnapshotWork::Restore { meta, state }, desk);
    }

    pub(super) fn retain_snapshots(&mut self, positions: Vec<Position>, desk: &mut Desk) {
        self.job(SnapshotWork::Retain { positions }, desk);
    }

    /// Fetches a snapshot, unless just that is under way.
    pub(super) fn fetch_snapshot(
        &mut self,
        now: Moment,
        from: Member,
        meta: SnapshotMeta,
        desk: &mut Desk,
    ) {
        let known = self.traffic.fetching.as_ref();
        if known.is_some_and(|known| known.from == from && *known.fetch.meta() == meta) {
            return;
        }
        let event = SnapshotEvent::Fetching { from: from.node, at: meta.position };
        self.traffic.fetches += 1;
        let number = self.traffic.fetches;
        let knobs = self.core_config.knobs();
        // What is sent at once of entries may be asked for at once of a snapshot.
        let chunk_bytes = u32::try_from(knobs.append_bytes_max).unwrap_or(CHUNK_BYTES_MAX);
        let chunk_bytes = chunk_bytes.min(CHUNK_BYTES_MAX);
        let fetch = Fetch::new(meta, chunk_bytes, ask_timeout(knobs.election));
        self.traffic.fetching = Some(Fetching { number, from, fetch });
        self.event(desk, NodeEvent::Snapshot(event));
        self.carry_on(now, desk);
    }

    /// A job on files ended.
    pub(super) fn snapshot_done(&mut self, now: Moment, done: SnapshotDone, desk: &mut Desk) {
        if done.life != self.traffic.opening.get() {
            return;
        }
        let current = self.active.as_ref().is_some_and(|active| active.number == done.group);
        match done.done {
            // The state is wanted back, whatever became of its group.
            Done::Restored { meta, state, result } => {
                let input = replica::Input::SnapshotRestored { meta, state, result };
                self.replica.handle(now, input);
            }
            _ if !current => {}
            Done::Taken { meta, result } => {
                self.replica.handle(now, replica::Input::SnapshotTaken { meta, result });
            }
            Done::Read { token, result } => {
                if let Some(served) = self.traffic.serving.done(token, result) {
                    self.serve(now, served, desk);
                }
            }
            Done::Resumed { position, result } => {
                self.fetched_a_step(now, position, fetch::Input::Resumed(result), desk);
            }
            Done::Appended { position, result } => {
                self.fetched_a_step(now, position, fetch::Input::Appended(result), desk);
            }
            Done::Finished { meta, result } => {
                self.fetched_a_step(now, meta.position, fetch::Input::Finished(result), desk);
            }
        }
    }

    fn fetched_a_step(
        &mut self,
        now: Moment,
        position: Position,
        input: fetch::Input,
        desk: &mut Desk,
    ) {
        let fetching = self.traffic.fetching.as_mut();
        let Some(it) = fetching.filter(|it| it.fetch.meta().position == position) else { return };
        it.fetch.handle(now, input);
        self.carry_on(now, desk);
    }

    /// The member that offers a snapshot answered a request for a part, or did not.
    pub(super) fn fetch_replied(
        &mut self,
        now: Moment,
        number: u64,
        ask: AskId,
        reply: Option<&Bytes>,
        desk: &mut Desk,
    ) {
        let fetching = self.traffic.fetching.as_mut();
        let Some(it) = fetching.filter(|it| it.number == number) else { return };
        let reply = reply.and_then(|bytes| FetchReply::decode(bytes).ok());
        it.fetch.handle(now, fetch::Input::Replied(ask, reply));
        self.carry_on(now, desk);
    }

    pub(super) fn fetch_timeout(&mut self, now: Moment, desk: &mut Desk) {
        if let Some(it) = &mut self.traffic.fetching {
            it.fetch.handle(now, fetch::Input::Timeout);
            self.carry_on(now, desk);
        }
    }

    /// Does what the fetch wants.
    fn carry_on(&mut self, now: Moment, desk: &mut Desk) {
        while let Some(it) = &mut self.traffic.fetching {
            let (number, from, position) = (it.number, it.from, it.fetch.meta().position);
            let Some(output) = it.fetch.poll() else { return };
            match output {
                fetch::Output::Resume => self.job(SnapshotWork::Resume { position }, desk),
                fetch::Output::Ask { id, request, timeout } => {
                    let asked = Asked::Part { fetch: number, ask: id };
                    self.ask_for_part(from, asked, &request, timeout, desk);
                }
                fetch::Output::Append { id, total, offset, bytes } => {
                    let work = SnapshotWork::Append { position, id, total, offset, bytes };
                    self.job(work, desk);
                }
                fetch::Output::Finish => {
                    let meta = it.fetch.meta().clone();
                    self.job(SnapshotWork::Finish { meta }, desk);
                }
                fetch::Output::Progress { term, offset } => {
                    self.snapshot_arrives(now);
                    let input = replica::Input::SnapshotProgress { peer: from, term, offset };
                    self.replica.handle(now, input);
                }
                fetch::Output::Done(result) => {
                    self.traffic.fetching = None;
                    let event = match &result {
                        Ok(()) => SnapshotEvent::Fetched { at: position },
                        Err(why) => SnapshotEvent::NotFetched { at: position, why: why.clone() },
                    };
                    self.event(desk, NodeEvent::Snapshot(event));
                    let input = replica::Input::SnapshotFetched { position, result };
                    self.replica.handle(now, input);
                }
            }
        }
    }

    fn ask_for_part(
        &self,
        from: Member,
        asked: Asked,
        request: &FetchRequest,
        timeout: Duration,
        desk: &mut Desk,
    ) {
        let Some(active) = &self.active else { return };
        let id = desk.request(&self.namespace, asked);
        desk.push(Output::Request {
            id,
            to: from.node,
            namespace: self.namespace.clone(),
            scope: Scope::Cluster(active.cluster),
            channel: Channel::Snapshot,
            payload: request.encode(),
            timeout,
        });
    }

    /// A member asks for a part of a snapshot. Only members of the group get one.
    pub(super) fn part_requested(
        &mut self,
        from: &Source,
        token: ReplyToken,
        payload: &[u8],
        desk: &mut Desk,
    ) {
        let group = self.active.as_ref();
        let group = group.filter(|group| from.scope == Scope::Cluster(group.cluster));
        let member = from.incarnation.filter(|_| group.is_some());
        let request = FetchRequest::decode(payload).ok();
        let Some((incarnation, request)) = member.zip(request) else {
            return desk
                .push(Output::Reply { token, payload: refusal(Term::ZERO, FetchBody::Gone) });
        };
        match self.traffic.serving.ask(Member::new(from.node, incarnation), token, request) {
            Some(work) => self.job(work, desk),
            None => {
                let payload = refusal(self.replica.term(), FetchBody::Busy);
                desk.push(Output::Reply { token, payload });
            }
        }
    }

    /// Answers with what was read, and tells the replica how the transfer goes.
    fn serve(&mut self, now: Moment, served: super::serving::Served, desk: &mut Desk) {
        let term = self.replica.term();
        let (peer, at, offset, sent) = (served.to, served.position, served.offset, served.sent);
        let token = served.reply;
        desk.push(Output::Reply { token, payload: served.encode(term) });
        if let Some(offset) = offset {
            self.replica.handle(now, replica::Input::SnapshotProgress { peer, term, offset });
        }
        if let Some(ok) = sent {
            self.replica.handle(now, replica::Input::SnapshotSent { peer, ok });
            if ok {
                let event = SnapshotEvent::Sent { to: peer.node, at };
                self.event(desk, NodeEvent::Snapshot(event));
            }
        }
    }
}

fn refusal(term: Term, body: FetchBody) -> Bytes {
    FetchReply { term, body }.encode()
}
