//! The driver loop of a node: one task around the [`Host`] value.
//!
//! A turn takes everything that has come in, up to a bound for each source, hands it to the host,
//! and only then drains it: proposals that came together leave in one write and one message. All
//! that a turn wants durable goes to the store in one submission. A turn never waits: the
//! transport's and the store's queues take without blocking, reads of the log have threads.
//!
//! Invariants:
//! 1. Only this task touches the host.
//! 2. A turn that panics is the last one; dropping the driver resolves every waiting future.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use libp2p::Multiaddr;
use meshraft_consensus::{Moment, Namespace, NodeId};
use meshraft_service::wire::Response;
use meshraft_storage::{Ack, Job, OpenedNamespace, Snapshots, Store};
use meshraft_transport::{Event, Events, KeyRing, LocalNamespace, LocalRole, Transport};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Sleep,
};
use tracing::{error, warn};

use super::{
    board::{Board, Boards},
    command::{Call, Command, NotOpened, Open},
    loads::{Loaded, Loads, Wanted},
    network,
    reopen::{Found, Reopening},
    snapshots::{Finished, SnapshotJobs},
};
use crate::{
    api::session::Permit,
    clock::Clock,
    host::{CallId, Host, Input, Output},
    observe,
    shutdown::{Ending, StopReason},
};

/// What a turn takes from one source at most, so that none starves the others.
const BATCH_MAX: usize = 256;

/// Everything a driver owns and hears from.
pub(super) struct Parts {
    pub(super) node: NodeId,
    pub(super) host: Host,
    pub(super) clock: Clock,
    pub(super) transport: Transport,
    pub(super) network: Events,
    pub(super) store: Store,
    pub(super) snapshots: Snapshots,
    pub(super) acks: mpsc::Receiver<Ack>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) addresses: watch::Sender<Vec<Multiaddr>>,
    pub(super) ending: Ending,
}

/// A call whose answer is awaited.
struct Pending {
    answer: oneshot::Sender<Response>,
    permit: Option<Permit>,
}

impl Pending {
    /// The session moves on before its caller does: its next command finds room.
    fn resolve(self, response: Response) {
        if let Some(permit) = self.permit {
            permit.settle(&response);
        }
        // Fails only if the caller has gone.
        let _ = self.answer.send(response);
    }
}

/// What one turn takes in.
#[derive(Default)]
struct Batch {
    acks: Vec<Ack>,
    network: Vec<Event>,
    loaded: Vec<Loaded>,
    snapshots: Vec<Finished>,
    commands: Vec<Command>,
    reopened: Vec<(Namespace, Found)>,
}

/// The side of the driver that a turn works on.
struct Engine {
    node: NodeId,
    host: Host,
    transport: Transport,
    store: Store,
    loads: Loads,
    snapshots: SnapshotJobs,
    reopening: Reopening,
    boards: Boards,
    keys: BTreeMap<Namespace, KeyRing>,
    pending: BTreeMap<CallId, Pending>,
    next_call: u64,
    closing: Vec<(Namespace, oneshot::Sender<()>)>,
    closed: BTreeSet<Namespace>,
    addresses: watch::Sender<Vec<Multiaddr>>,
    /// Told to end: it waits for leadership to be handed over.
    leaving: bool,
    stop: Option<StopReason>,
}

/// The side that waits for what comes in.
struct Sources {
    clock: Clock,
    network: Events,
    acks: mpsc::Receiver<Ack>,
    loaded: mpsc::Receiver<Loaded>,
    snapshots: mpsc::Receiver<Finished>,
    commands: mpsc::Receiver<Command>,
    reopened: mpsc::Receiver<(Namespace, Found)>,
}

/// Runs a node until it is shut down, its handles are gone, its store fails, or it panics.
pub(super) async fn run(parts: Parts) {
    let Parts {
        node,
        host,
        clock,
        transport,
        network,
        store,
        snapshots,
        acks,
        commands,
        addresses,
        ending,
    } = parts;
    let (loads, loaded) = Loads::new(store.clone());
    let (snapshots, finished) = SnapshotJobs::new(snapshots);
    let (reopening, reopened) = Reopening::new(store.clone());
    let mut engine = Engine {
        node,
        host,
        transport,
        store,
        loads,
        snapshots,
        reopening,
        boards: Boards::new(),
        keys: BTreeMap::new(),
        pending: BTreeMap::new(),
        next_call: 0,
        closing: Vec::new(),
        closed: BTreeSet::new(),
        addresses,
        leaving: false,
        stop: None,
    };
    let mut sources =
        Sources { clock, network, acks, loaded, snapshots: finished, commands, reopened };
    let mut batch = Batch::default();
    let mut timer = Box::pin(tokio::time::sleep_until(clock.instant(Moment::ZERO)));
    let mut armed = None;
    let reason = loop {
        if let Some(reason) = sources.gather(&mut batch, timer.as_mut()).await {
            engine.stop = Some(reason);
        }
        let now = clock.now();
        let turn = || engine.turn(now, &mut batch);
        let Ok(deadline) = catch_unwind(AssertUnwindSafe(turn)) else {
            error!("driver panicked");
            break StopReason::Panicked;
        };
        if let Some(reason) = engine.stop {
            break reason;
        }
        // A timer reaches a day ahead at most: one that fired before its deadline is set again.
        if deadline != armed || timer.is_elapsed() {
            armed = deadline;
            timer.as_mut().reset(clock.instant(deadline.unwrap_or(Moment::from_nanos(u64::MAX))));
        }
    };
    engine.end(reason, sources).await;
    ending.end(reason);
}

impl Sources {
    /// Waits until something comes in or the timer fires, and takes all that is there.
    ///
    /// Returns why the node must end, if a part that it can't do without is gone.
    async fn gather(
        &mut self,
        batch: &mut Batch,
        timer: std::pin::Pin<&mut Sleep>,
    ) -> Option<StopReason> {
        // An elapsed timer is left as it is: the turn asks the host for the next deadline.
        let (count, closed) = tokio::select! {
            count = self.acks.recv_many(&mut batch.acks, BATCH_MAX) => {
                (count, StopReason::StoreFailed)
            }
            event = self.network.recv() => {
                batch.network.extend(event);
                (batch.network.len(), StopReason::TransportFailed)
            }
            count = self.commands.recv_many(&mut batch.commands, BATCH_MAX) => {
                (count, StopReason::Shutdown)
            }
            // Its sender lives in the driver itself, as the next one's: they are never closed.
            count = self.loaded.recv_many(&mut batch.loaded, BATCH_MAX) => {
                (count, StopReason::Shutdown)
            }
            count = self.snapshots.recv_many(&mut batch.snapshots, BATCH_MAX) => {
                (count, StopReason::Shutdown)
            }
            // So does this one's.
            count = self.reopened.recv_many(&mut batch.reopened, BATCH_MAX) => {
                (count, StopReason::Shutdown)
            }
            () = timer => (1, StopReason::Shutdown),
        };
        top_up(&mut batch.acks, || self.acks.try_recv().ok());
        top_up(&mut batch.network, || self.network.try_recv());
        top_up(&mut batch.commands, || self.commands.try_recv().ok());
        top_up(&mut batch.loaded, || self.loaded.try_recv().ok());
        top_up(&mut batch.snapshots, || self.snapshots.try_recv().ok());
        top_up(&mut batch.reopened, || self.reopened.try_recv().ok());
        (count == 0).then_some(closed)
    }
}

fn top_up<T>(batch: &mut Vec<T>, next: impl FnMut() -> Option<T>) {
    let room = BATCH_MAX.saturating_sub(batch.len());
    batch.extend(std::iter::from_fn(next).take(room));
}

impl Engine {
    /// Hands everything in the batch to the host, drains it, and tells when to wake it.
    fn turn(&mut self, now: Moment, batch: &mut Batch) -> Option<Moment> {
        for ack in batch.acks.drain(..) {
            self.acknowledged(now, ack);
        }
        for event in batch.network.drain(..) {
            self.happened(now, event);
        }
        for (load, result) in batch.loaded.drain(..) {
            self.loads.finished();
            self.host.handle(now, Input::Loaded { load, result });
        }
        for finished in batch.snapshots.drain(..) {
            self.snapshots.finished(&finished);
            if let Some(done) = finished.done {
                self.host.handle(now, Input::Snapshot(done));
            }
        }
        for (namespace, found) in batch.reopened.drain(..) {
            self.reopened(now, &namespace, found);
        }
        for command in batch.commands.drain(..) {
            self.command(now, command);
        }
        if self.host.deadline().is_some_and(|deadline| deadline <= now) {
            self.host.handle(now, Input::Timeout);
        }
        self.drain();
        if self.leaving && !self.host.is_handing_over() {
            self.stop.get_or_insert(StopReason::Shutdown);
        }
        self.host.deadline()
    }

    fn acknowledged(&mut self, now: Moment, ack: Ack) {
        match ack {
            Ack::Durable(tickets) => self.host.handle(now, Input::Stored(tickets)),
            Ack::Failed(error) => {
                error!(%error, "store failed");
                self.host.handle(now, Input::StoreFailed);
                self.stop = Some(StopReason::StoreFailed);
            }
        }
    }

    fn happened(&mut self, now: Moment, event: Event) {
        observe::transport(self.node, &event);
        match event {
            Event::Listening(address) => {
                self.addresses.send_modify(|addresses| addresses.push(address));
                self.listening(now);
            }
            Event::ListeningEnded(address) => {
                self.addresses.send_modify(|all| all.retain(|known| *known != address));
                self.listening(now);
            }
            event => {
                if let Some(input) = network::input(event) {
                    self.host.handle(now, Input::Network(input));
                }
            }
        }
    }

    /// Tells the host where this node can be reached, as a whole.
    fn listening(&mut self, now: Moment) {
        let all = self.addresses.borrow().iter().filter_map(network::address).collect();
        self.host.handle(now, Input::Listening(all));
    }

    fn command(&mut self, now: Moment, command: Command) {
        match command {
            Command::Open(open) => self.open(now, *open),
            Command::Close { namespace, done } => {
                self.host.handle(now, Input::Close { namespace: namespace.clone() });
                self.closing.push((namespace, done));
            }
            Command::Call(call) => self.call(now, call),
            // Answers below fail only if their asker has gone.
            Command::Status { namespace, answer } => {
                let _ = answer.send(self.host.status(&namespace));
            }
            Command::Peers { answer } => {
                let _ = answer.send(self.transport.peers());
            }
            Command::Shutdown => {
                self.leaving = true;
                self.host.handle(now, Input::HandOver);
            }
        }
    }

    fn open(&mut self, now: Moment, open: Open) {
        let known = self.boards.contains_key(&open.namespace);
        if known || self.reopening.contains(&open.namespace) {
            // Fails only if whoever asked has gone, here and below.
            let _ = open.answer.send(Err(NotOpened::AlreadyOpen));
        } else if self.closed.contains(&open.namespace) {
            self.reopening.start(open);
        } else {
            self.host_namespace(now, open, None);
        }
    }

    /// A namespace that was closed is known as the store holds it now.
    fn reopened(&mut self, now: Moment, namespace: &Namespace, found: Found) {
        let Some(open) = self.reopening.finish(namespace) else { return };
        match found {
            Some(Ok(Some(found))) => self.host_namespace(now, open, Some(Box::new(found))),
            // Its record was written when it was opened first: it can't be missing.
            Some(Ok(None)) | None => {
                let _ = open.answer.send(Err(NotOpened::Lost(None)));
            }
            Some(Err(error)) => {
                let _ = open.answer.send(Err(NotOpened::Lost(Some(error))));
            }
        }
    }

    fn host_namespace(&mut self, now: Moment, open: Open, found: Option<Box<OpenedNamespace>>) {
        let Open { namespace, options, keys, answer } = open;
        let force = options.force;
        let forbidden = || self.host.check_force(&namespace, found.as_deref()).err();
        let opened = if let Err(error) = self.host.check(&namespace) {
            Err(NotOpened::Unreadable(error))
        } else if let Some(error) = force.then(forbidden).flatten() {
            Err(NotOpened::Forced(error))
        } else {
            let board = Arc::new(Board::new());
            self.boards.insert(namespace.clone(), Arc::clone(&board));
            self.keys.insert(namespace.clone(), keys);
            self.closed.remove(&namespace);
            self.host.handle(now, Input::Open { namespace, options, found });
            Ok(board)
        };
        let _ = answer.send(opened);
    }

    fn call(&mut self, now: Moment, call: Call) {
        let Call { namespace, operation, timeout, answer, permit } = call;
        let id = CallId::new(self.next_call);
        self.next_call += 1;
        self.pending.insert(id, Pending { answer, permit });
        self.host.handle(now, Input::Call { id, namespace, operation, timeout });
    }

    fn drain(&mut self) {
        let mut jobs = Vec::new();
        while let Some(output) = self.host.poll() {
            self.perform(output, &mut jobs);
        }
        if !jobs.is_empty() {
            self.store.submit(jobs);
        }
        for (namespace, done) in self.closing.drain(..) {
            self.boards.remove(&namespace);
            self.keys.remove(&namespace);
            self.closed.insert(namespace);
            let _ = done.send(());
        }
    }

    fn perform(&mut self, output: Output, jobs: &mut Vec<Job>) {
        match output {
            Output::Store(job) => jobs.push(job),
            Output::Send { to, namespace, scope, incarnation, channel, body } => {
                self.transport.send(to, &namespace, scope, incarnation, channel, body);
            }
            Output::Request { id, to, namespace, scope, channel, payload, timeout } => {
                self.transport.request(id, to, &namespace, scope, channel, payload, timeout);
            }
            Output::Reply { token, payload } => {
                // A reply that can't be sent is told to its asker, and logged, by the transport.
                let _ = self.transport.reply(token, payload);
            }
            Output::Snapshot(job) => self.snapshots.want(job),
            Output::Answer { id, response } => {
                if let Some(pending) = self.pending.remove(&id) {
                    pending.resolve(response);
                }
            }
            Output::Load { load, range, bytes_max } => {
                self.loads.want(Wanted { load, range, bytes_max });
            }
            Output::Share { namespace, incarnation, clusters, supports } => {
                let keys = self.keys.get(&namespace).cloned().unwrap_or_default();
                let role = LocalRole::Member { incarnation, clusters, supports };
                self.transport.open(LocalNamespace { namespace, keys, role });
            }
            Output::Unshare { namespace } => self.transport.close(&namespace),
            Output::AddAddress { peer, address, source } => match network::told(&address) {
                Some(address) => self.transport.add_address(Some(peer), address, source),
                None => warn!(%peer, "unusable address on record"),
            },
            Output::Hear { teller, peer, addresses } => {
                // What is no address at all is not worth a line: a peer may send any amount of it.
                let addresses =
                    addresses.iter().filter_map(network::told).map(Into::into).collect();
                self.transport.hear(teller, peer, addresses);
            }
            Output::Members { namespace, members } => {
                self.transport.members(&namespace, members);
            }
            Output::Event { namespace, event } => {
                observe::node(self.node, &namespace, &event);
                if let Some(board) = self.boards.get(&namespace) {
                    board.pin(event);
                }
            }
        }
    }

    /// Answers whoever waits, lets the last answers leave, and makes durable what was submitted.
    async fn end(mut self, reason: StopReason, sources: Sources) {
        let Sources { clock, network, acks, commands, mut loaded, mut snapshots, mut reopened } =
            sources;
        // Whoever comes too late learns it at once; the store's writer waits for nobody.
        drop((network, acks, commands));
        if reason != StopReason::Panicked {
            let close = || self.close_all(clock.now());
            if catch_unwind(AssertUnwindSafe(close)).is_err() {
                error!("driver panicked while it ended");
            }
        }
        self.pending.clear();
        self.closing.clear();
        self.transport.shutdown().await;
        while self.loads.running() > 0 && loaded.recv().await.is_some() {
            self.loads.finished();
        }
        while self.reopening.running() > 0
            && let Some((namespace, _)) = reopened.recv().await
        {
            self.reopening.finish(&namespace);
        }
        self.snapshots.end();
        while self.snapshots.running() > 0
            && let Some(finished) = snapshots.recv().await
        {
            self.snapshots.finished(&finished);
        }
        drop((self.loads, self.reopening, self.snapshots));
        // Joining the writer's thread blocks; what went wrong there was told by its last ack.
        let store = self.store;
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }

    fn close_all(&mut self, now: Moment) {
        let namespaces: Vec<Namespace> = self.boards.keys().cloned().collect();
        for namespace in namespaces {
            self.host.handle(now, Input::Close { namespace });
        }
        self.drain();
        self.boards.clear();
    }
}
