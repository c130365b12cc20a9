//! Drives the hosts: what the runtime does with tasks, files and streams, done in one thread.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use meshraft::host::{
    CallId, HaltReason, Host, HostConfig, Input, LoadToken, NodeEvent, Output, SleepEvent,
};
use meshraft_consensus::{Event as CoreEvent, IndexRange, LoadError, Member, Namespace, NodeId};
use meshraft_discovery::{founding::Event as FoundingEvent, wire as founding_wire};
use meshraft_service::{ServiceError, wire::Reply};
use meshraft_storage::{Job, Ticket};
use meshraft_transport::{Body, Refusal, Scope};

use super::{
    Called, Event, LoadAnswer, Seat, World,
    disk::Kept,
    life,
    network::{Network, Question, Shares, Wake, WorldSignatures},
    node::Process,
    snapshots::SnapshotJobs,
};
use crate::{check::Violation, counts::Rare, faults::Fault, plan::Founding};

impl World {
    /// A process starts on what its disk holds.
    pub(super) fn start(&mut self, seat: Seat) -> Result<(), Violation> {
        if self.node(seat).is_running() {
            return Ok(());
        }
        let now = self.clock.now();
        let seed = self.random.bytes();
        let node = self.node_mut(seat);
        node.life += 1;
        node.paused_until = None;
        node.told_of_failure = false;
        node.awake_since = now;
        let (id, life, local) = (node.id, node.life, node.clock.local(now));
        let host = Host::new(
            HostConfig { node: id, seed, signatures: Arc::new(WorldSignatures(id)) },
            node.disk.open(),
            local,
        );
        node.process = Some(Process {
            host,
            recordings: BTreeMap::new(),
            deadline: None,
            gathers: false,
            jobs: Vec::new(),
            snapshots: SnapshotJobs::new(),
        });
        self.trace.note(now, format_args!("n{} starts, life {life}", seat.0));
        self.checks.started(seat);
        let id = self.node(seat).id;
        self.checks.begins(id);
        let stranger = self.node(seat).stranger;
        self.network.at(now).start(seat, life, stranger);
        // The first node knows nobody, each later one its predecessor; but who founds by what it
        // sees within a window is told of everyone.
        let all = matches!(self.plan.founding, Founding::Window(_));
        for peer in self.seats().filter(|peer| all || peer.0 + 1 == seat.0) {
            self.network.at(now).learn(seat, &Network::address(peer));
        }
        let listening = Input::Listening(vec![Network::address(seat)]);
        self.host(seat).handle(local, listening);
        for namespace in self.namespaces.clone() {
            let options = self.options(seat, &namespace);
            self.host(seat).handle(local, Input::Open { namespace, options, found: None });
        }
        self.drain(seat)?;
        self.check_removed(seat)
    }

    fn host(&mut self, seat: Seat) -> &mut Host {
        let process = self.node_mut(seat).process.as_mut();
        &mut process.expect("a process that was looked at").host
    }

    /// A process dies, and what its disk had not committed is gone.
    pub(super) fn crash(&mut self, seat: Seat) -> Result<(), Violation> {
        let kept = if self.random.below(2) == 0 { Kept::All } else { Kept::Nothing };
        self.crash_and_keep(seat, kept)
    }

    fn crash_and_keep(&mut self, seat: Seat, kept: Kept) -> Result<(), Violation> {
        let now = self.clock.now();
        let Some(process) = self.node_mut(seat).process.take() else { return Ok(()) };
        self.crashes += 1;
        self.crash_snapshots(seat, process.snapshots)?;
        let node = self.nodes.get_mut(seat.0).expect("a seat of this world");
        let jobs = node.disk.crash(kept, &mut self.random);
        self.checks.durable(seat, &jobs)?;
        self.node_mut(seat).paused_until = None;
        self.node_mut(seat).deferred.clear();
        self.trace.note(now, format_args!("n{} crashes", seat.0));
        self.network.at(now).stop(seat);
        self.life_crashed(seat);
        for (client, wait) in self.workload.crashed(seat, now, &mut self.checks)? {
            self.clock.after(wait, Event::Client(client));
        }
        Ok(())
    }

    /// A process dies in the middle of a commit.
    pub(super) fn tear(&mut self, seat: Seat, life: u64) -> Result<(), Violation> {
        self.end(seat, life, Kept::Part)
    }

    /// A process hears that its disk failed: it ends soon, and until then it acknowledges nothing.
    pub(super) fn store_failed(&mut self, seat: Seat, life: u64) -> Result<(), Violation> {
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        let wait = self.random.between(Duration::ZERO, Duration::from_millis(300));
        self.clock.after(wait, Event::Ended { seat, life });
        // What it had decided on before goes out before it hears.
        self.drain(seat)?;
        self.node_mut(seat).told_of_failure = true;
        self.input_now(seat, Input::StoreFailed)
    }

    /// A process ends whose disk failed, and is started again.
    pub(super) fn ended(&mut self, seat: Seat, life: u64) -> Result<(), Violation> {
        self.end(seat, life, Kept::Nothing)
    }

    /// A process ends by itself, and is started again.
    fn end(&mut self, seat: Seat, life: u64, kept: Kept) -> Result<(), Violation> {
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        let down = self.downtime();
        self.crash_and_keep(seat, kept)?;
        self.clock.after(down, Event::Start(seat));
        Ok(())
    }

    pub(super) fn resume(&mut self, seat: Seat) {
        let now = self.clock.now();
        if self.node(seat).paused_until.is_some_and(|until| until <= now) {
            self.node_mut(seat).paused_until = None;
            self.node_mut(seat).awake_since = now;
            for event in std::mem::take(&mut self.node_mut(seat).deferred) {
                self.clock.at(now, event);
            }
            self.network.at(now).pause(seat, false);
        }
    }

    pub(super) fn deadline(&mut self, seat: Seat, life: u64) -> Result<(), Violation> {
        let now = self.clock.now();
        let Some(process) = self.node_mut(seat).living(life) else { return Ok(()) };
        if process.deadline.is_none_or(|planned| planned > now) {
            return Ok(());
        }
        process.deadline = None;
        if process.gathers {
            return self.drain(seat);
        }
        let due = process.host.deadline();
        let local = self.node(seat).clock.local(now);
        if due.is_some_and(|due| due <= local) {
            self.trace.note(now, format_args!("n{} deadline", seat.0));
            return self.input(seat, Input::Timeout);
        }
        self.plan_deadline(seat);
        Ok(())
    }

    pub(super) fn committed(&mut self, seat: Seat, life: u64) -> Result<(), Violation> {
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        let kept = self.random.below(2) == 0;
        if let Some(jobs) = self.node_mut(seat).disk.fail(kept) {
            self.trace.note(self.clock.now(), format_args!("n{} fails to commit", seat.0));
            self.checks.counts.note(Rare::StoreFailed);
            self.checks.durable(seat, &jobs)?;
            self.clock.after(Duration::ZERO, Event::StoreFailed { seat, life });
            return Ok(());
        }
        let (jobs, durable, begins) = self.node_mut(seat).disk.commit();
        self.trace.note(self.clock.now(), format_args!("n{} commits {}", seat.0, jobs.len()));
        if durable {
            self.checks.durable(seat, &jobs)?;
        }
        if begins {
            self.plan_commit(seat);
        }
        // A disk goes on while its process stands still; the process hears of it later.
        let told = self.node(seat).disk.lies_about(&jobs);
        let tickets: Vec<Ticket> =
            jobs.iter().map(Job::ticket).filter(|ticket| !told.contains(ticket)).collect();
        if !tickets.is_empty() {
            self.clock.after(Duration::ZERO, Event::Stored { seat, life, tickets });
        }
        Ok(())
    }

    pub(super) fn stored(
        &mut self,
        seat: Seat,
        life: u64,
        tickets: Vec<Ticket>,
    ) -> Result<(), Violation> {
        match self.node_mut(seat).living(life) {
            Some(_) => self.input(seat, Input::Stored(tickets)),
            None => Ok(()),
        }
    }

    pub(super) fn loaded(
        &mut self,
        seat: Seat,
        life: u64,
        answer: LoadAnswer,
    ) -> Result<(), Violation> {
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        let LoadAnswer { load, result } = answer;
        self.trace.note(self.clock.now(), format_args!("n{} loads {:?}", seat.0, load.id));
        self.input(seat, Input::Loaded { load, result })
    }

    pub(super) fn called(&mut self, seat: Seat, life: u64, call: Called) -> Result<(), Violation> {
        let now = self.clock.now();
        let Called { number, namespace, operation, timeout } = call;
        if self.node_mut(seat).living(life).is_none() {
            return Ok(());
        }
        self.trace.note(now, format_args!("n{} call {number} {operation:?}", seat.0));
        let id = CallId::new(number);
        self.workload.taken(number, now);
        self.input(seat, Input::Call { id, namespace, operation, timeout })
    }

    pub(super) fn network_woke(&mut self, wake: Wake) -> Result<(), Violation> {
        let now = self.clock.now();
        match wake {
            Wake::Dial(one, other) => self.network.at(now).dialled(one, other),
            Wake::Stall(one, other, epoch) => self.network.at(now).stalled(one, other, epoch),
            Wake::Expire(number) => self.network.at(now).expire(number),
            Wake::Arrive(arrival) if arrival.to.0 >= self.nodes.len() => {
                self.network.at(now).reaches_actor(&arrival);
            }
            Wake::Arrive(arrival) if arrival.is_lie() => self.lied_to(arrival)?,
            Wake::Arrive(arrival) => {
                let seat = arrival.to;
                for input in self.network.at(now).arrive(arrival) {
                    if !self.node(seat).is_running() {
                        break;
                    }
                    self.trace.note(now, format_args!("n{} <- {input:?}", seat.0));
                    self.input(seat, Input::Network(input))?;
                }
            }
        }
        Ok(())
    }

    /// Hands an input to a host that is not waited for, and drains it.
    pub(super) fn input_now(&mut self, seat: Seat, input: Input) -> Result<(), Violation> {
        let local = self.node(seat).clock.local(self.clock.now());
        self.host(seat).handle(local, input);
        self.drain(seat)
    }

    /// Hands an input to a host, and drains it now or a little later.
    pub(super) fn input(&mut self, seat: Seat, input: Input) -> Result<(), Violation> {
        let now = self.clock.now();
        let gather = self.force.hits(Fault::Batch, &mut self.random);
        let wait = self.random.between(Duration::ZERO, Duration::from_micros(800));
        let node = self.node_mut(seat);
        let (local, life) = (node.clock.local(now), node.life);
        let Some(process) = &mut node.process else { return Ok(()) };
        process.host.handle(local, input);
        if process.gathers {
            return Ok(());
        }
        if gather {
            process.gathers = true;
            self.clock.after(wait, Event::Drain { seat, life });
            return Ok(());
        }
        self.drain(seat)
    }

    pub(super) fn drain_later(&mut self, seat: Seat, life: u64) -> Result<(), Violation> {
        match self.node_mut(seat).living(life) {
            Some(process) if process.gathers => self.drain(seat),
            _ => Ok(()),
        }
    }

    fn drain(&mut self, seat: Seat) -> Result<(), Violation> {
        self.host_gathers(seat);
        while let Some(output) = self.host(seat).poll() {
            self.output(seat, output)?;
        }
        self.submit(seat)?;
        self.observe(seat)?;
        self.note_raised(seat)?;
        self.plan_deadline(seat);
        self.hand_out(seat)
    }

    /// Hands answers to whoever asked, once it was seen what they rest on.
    fn hand_out(&mut self, seat: Seat) -> Result<(), Violation> {
        let now = self.clock.now();
        for (id, response) in std::mem::take(&mut self.answers) {
            if self.node(seat).told_of_failure && matches!(response, Ok(Reply::Written { .. })) {
                let (node, what) = (seat.number(), "acknowledges a write");
                return Err(Violation::AfterFailure { node, what });
            }
            if id.get() >= life::FIRST_CALL {
                self.life_answered(id, &response)?;
                continue;
            }
            match &response {
                Err(ServiceError::Overloaded) => self.checks.counts.note(Rare::Overloaded),
                Err(ServiceError::SessionExpired { .. }) => self.checks.counts.note(Rare::Expired),
                Err(ServiceError::NotInForce { .. }) => {
                    self.checks.counts.note(Rare::GateClosed);
                }
                Err(error) if error.maybe() => self.checks.counts.note(Rare::Uncertain),
                _ => {}
            }
            let answered = self.workload.answered(id.get(), now, &response, &mut self.checks);
            let (client, wait) = answered?;
            self.clock.after(wait, Event::Client(client));
        }
        Ok(())
    }

    fn host_gathers(&mut self, seat: Seat) {
        if let Some(process) = &mut self.node_mut(seat).process {
            process.gathers = false;
        }
    }

    fn output(&mut self, seat: Seat, output: Output) -> Result<(), Violation> {
        let now = self.clock.now();
        match output {
            Output::Share { namespace, incarnation, clusters, supports } => {
                let member = Member::new(self.node(seat).id, incarnation);
                self.checks.versions.tells(member, supports);
                self.expect_known(&namespace, member, &clusters)?;
                let shares = Shares { incarnation, clusters, supports };
                self.network.at(now).share(seat, &namespace, shares);
            }
            Output::Unshare { namespace } => self.network.at(now).unshare(seat, &namespace),
            Output::Send { to, namespace, scope, incarnation, channel, body } => {
                if self.node(seat).told_of_failure && matches!(body, Body::Consensus(_)) {
                    let (node, what) = (seat.number(), "takes part in consensus");
                    return Err(Violation::AfterFailure { node, what });
                }
                if let (Body::Consensus(message), Some(cluster)) = (&body, scope.cluster()) {
                    let to = incarnation.map(|incarnation| Member::new(to, incarnation));
                    self.checks.says(seat, cluster, to, message)?;
                }
                if let (Body::Bytes(bytes), Scope::Free) = (&body, &scope)
                    && let Ok(message) = founding_wire::Message::decode(bytes)
                {
                    self.checks.founds(seat, &namespace, &message)?;
                }
                self.expect_owed(seat, to, &namespace, (scope, channel), &body)?;
                let network = self.network.at(now);
                network.send(seat, to, namespace, scope, incarnation, channel, body);
            }
            Output::Request { id, to, namespace, scope, channel, payload, timeout } => {
                let question = Question { id, to, namespace, scope, channel, payload, timeout };
                self.network.at(now).request(seat, question);
            }
            Output::Reply { token, payload } => self.network.at(now).reply(seat, token, payload),
            Output::AddAddress { peer, address, .. } => self.learn(seat, peer, &address),
            Output::Hear { peer, addresses, .. } => {
                for address in &addresses {
                    self.learn(seat, peer, address);
                }
            }
            Output::Members { .. } => {}
            Output::Store(job) => self.store(seat, job),
            Output::Load { load, range, bytes_max } => {
                self.load(seat, load, range, bytes_max)?;
            }
            Output::Snapshot(job) => self.snapshot(seat, job),
            Output::Answer { id, response } => {
                self.trace.note(now, format_args!("n{} answers {id:?} {response:?}", seat.0));
                self.answers.push((id, response));
            }
            Output::Event { namespace, event } => return self.event(seat, namespace, event),
        }
        Ok(())
    }

    fn event(
        &mut self,
        seat: Seat,
        namespace: Namespace,
        event: NodeEvent,
    ) -> Result<(), Violation> {
        let now = self.clock.now();
        self.trace.note(now, format_args!("n{} {namespace} {event:?}", seat.0));
        match event {
            NodeEvent::Halted { reason: HaltReason::StoreFailed }
                if self.node(seat).disk.is_dead() => {}
            NodeEvent::Refused { why: Refusal::KeyMismatch | Refusal::Version { .. }, .. } => {
                self.checks.counts.note(Rare::Refused);
            }
            NodeEvent::Halted { reason } => self.halted(seat, &namespace, reason)?,
            NodeEvent::Founding(FoundingEvent::Departed { .. }) => {
                self.departed(seat, &namespace);
            }
            NodeEvent::Founding(FoundingEvent::NotAdmitted {
                why: founding_wire::NotAdmitted::TooOld { .. },
                ..
            }) => self.checks.counts.note(Rare::TooOldRefused),
            NodeEvent::Core(CoreEvent::Amnesia { member, .. }) => {
                self.raised.push((namespace, member));
            }
            NodeEvent::Amnesia { lost, .. } => {
                self.checks.ended(Member::new(self.node(seat).id, lost));
            }
            NodeEvent::Sleep(event) => self.slept(event),
            NodeEvent::Core(CoreEvent::Damaged { .. }) => {
                self.checks.counts.note(Rare::Damaged);
            }
            NodeEvent::Core(CoreEvent::Repaired { .. }) => {
                self.checks.counts.note(Rare::Repaired);
            }
            _ => {}
        }
        Ok(())
    }

    fn slept(&mut self, event: SleepEvent) {
        match event {
            SleepEvent::FellAsleep => self.checks.counts.note(Rare::FellAsleep),
            SleepEvent::LeaderLost { .. } => self.checks.counts.note(Rare::SleeperLost),
            SleepEvent::Disagreed { .. } => self.checks.counts.note(Rare::SleepDisputed),
            _ => {}
        }
    }

    fn learn(&mut self, seat: Seat, peer: NodeId, address: &meshraft_discovery::peers::Address) {
        let now = self.clock.now();
        if self.network.seat_of(peer).is_some() {
            self.network.at(now).learn(seat, address);
        }
    }

    fn store(&mut self, seat: Seat, job: Job) {
        if let Some(process) = &mut self.node_mut(seat).process {
            process.jobs.push(job);
        }
    }

    fn load(
        &mut self,
        seat: Seat,
        load: LoadToken,
        range: IndexRange,
        bytes_max: u64,
    ) -> Result<(), Violation> {
        // What the same drain handed to the disk can be read already.
        self.submit(seat)?;
        let life = self.node(seat).life;
        let fails = self.force.hits(Fault::ReadError, &mut self.random);
        let result = match fails {
            true => Err(LoadError::Failed),
            false => self.node(seat).disk.load(load.group, range, bytes_max),
        };
        let wait = self.random.between(Duration::from_micros(20), Duration::from_millis(2));
        let answer = Box::new(LoadAnswer { load, result });
        self.clock.after(wait, Event::Loaded { seat, life, answer });
        Ok(())
    }
}
