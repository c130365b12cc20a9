//! What founding and replica of one namespace ask, turned into what the node asks of its driver.

use std::time::Duration;

use meshraft_consensus::{ClusterId, Index, Moment, Write};
use meshraft_discovery::{
    founding::{self, Admission},
    wire::NotAdmitted,
};
use meshraft_service::{
    ServiceError,
    router::RequestId,
    wire::{self, Operation, Reply, Response},
};
use meshraft_storage::Job;
use meshraft_transport::{Body, Channel, Scope};

use super::{
    desk::{Asked, Desk, Purpose},
    event::NodeEvent,
    hosted::{Hosted, Origin},
    output::{LoadToken, Output},
};
use crate::replica;

impl Hosted {
    /// Carries out what founding asks.
    pub(super) fn founding_output(
        &mut self,
        now: Moment,
        output: founding::Output,
        desk: &mut Desk,
    ) {
        match output {
            founding::Output::Send { to, message } => desk.push(Output::Send {
                to,
                namespace: self.namespace.clone(),
                scope: Scope::Free,
                incarnation: None,
                channel: Channel::Control,
                body: Body::Bytes(message.encode()),
            }),
            founding::Output::Persist { id, record, enter: Some(_), .. } => {
                self.record = record;
                self.write_entered(id, desk);
            }
            founding::Output::Persist { id, record, start, drop, join, enter: None } => {
                let create = start.map(|set| set.id(&self.namespace)).or(join);
                self.record = record;
                let drop = drop.into_iter().collect();
                self.write_record(Purpose::Founding(id), create, drop, desk);
            }
            founding::Output::StartGroup(set) => {
                let cluster = set.id(&self.namespace);
                if !self.resume_aside(now, cluster) {
                    self.start_group(now, cluster, Some(&set), desk);
                }
            }
            founding::Output::StopGroup(cluster) => self.stop(now, cluster),
            founding::Output::FirstEntry { cluster, fate } => {
                if self.runs(&cluster) {
                    self.replica.handle(now, replica::Input::FirstEntry(fate));
                }
            }
            founding::Output::Campaign { cluster } => {
                if self.runs(&cluster) {
                    self.replica.handle(now, replica::Input::Campaign);
                }
            }
            founding::Output::AskEmpty { cluster } => self.asked_empty = Some(cluster),
            founding::Output::Lives { cluster } => {
                if let Some(active) = self.active.as_mut().filter(|it| it.cluster == cluster) {
                    active.founding = false;
                }
                self.tell_serving(cluster, desk);
            }
            founding::Output::Admitted { cluster, by, admission } => {
                self.admitted(now, cluster, by, admission);
            }
            founding::Output::Joined { cluster, .. } => self.start_group(now, cluster, None, desk),
            founding::Output::Try { cluster, .. } => self.begin_trial(now, cluster, desk),
            founding::Output::Entered { cluster } => self.entered(now, cluster, desk),
            founding::Output::Admit { member } => {
                let deadline = now.plus(ADMISSION_TIMEOUT);
                let Some(supports) = self.supported_by(member) else {
                    // It is gone, or begins another life: whoever it is then asks again.
                    let result = Err(NotAdmitted::Busy);
                    let input = founding::Input::AdmissionResolved { member, result };
                    return self.founding.handle(now, input);
                };
                let operation = Operation::Admit { member, supports };
                self.submit(now, Origin::Joiner(member), 0, deadline, operation, desk);
            }
            founding::Output::AskRemoval => self.ask_removal(now, desk),
            founding::Output::Observe(event) => self.event(desk, NodeEvent::Founding(event)),
        }
    }

    /// Carries out what the replica asks.
    pub(super) fn replica_output(&mut self, now: Moment, output: replica::Output, desk: &mut Desk) {
        match output {
            replica::Output::Send { to, lane, message } => self.send(to, lane, message, desk),
            replica::Output::Persist(write) => self.persist(now, write, desk),
            replica::Output::Load { id, range, bytes_max } => {
                let Some(group) = self.active.as_ref().map(|active| active.number) else { return };
                let (namespace, life) = (self.namespace.clone(), self.life.get());
                let load = LoadToken { namespace, group, life, id };
                desk.push(Output::Load { load, range, bytes_max });
            }
            replica::Output::Forward { forward, to, request, timeout } => {
                let scope = self.active.as_ref().map(|active| active.cluster).into();
                let id = desk.request(&self.namespace, Asked::Forward(forward));
                let (namespace, payload) = (self.namespace.clone(), request.encode());
                let channel = Channel::Command;
                desk.push(Output::Request { id, to, namespace, scope, channel, payload, timeout });
            }
            replica::Output::Answer { id, response } => self.answer(now, id, response, desk),
            replica::Output::Led { term } => {
                if let Some(cluster) = self.active.as_ref().map(|active| active.cluster) {
                    self.founding.handle(now, founding::Input::Led { cluster, term });
                }
            }
            replica::Output::Deposed => {
                self.tell_founding(now, |cluster| founding::Input::Deposed { cluster });
            }
            replica::Output::Decided(fate) => {
                self.tell_founding(now, |cluster| founding::Input::Decided { cluster, fate });
            }
            replica::Output::Leader { leader, term } => {
                let leader = leader.map(|member| member.node);
                self.event(desk, NodeEvent::Leader { leader, term });
            }
            replica::Output::Members => self.tell_members(desk),
            replica::Output::Version(in_force) => self.event(desk, NodeEvent::Version { in_force }),
            replica::Output::Started => self.tell_reachable(now),
            replica::Output::TakeSnapshot { meta, writer } => {
                self.take_snapshot(meta, writer, desk);
            }
            replica::Output::RestoreSnapshot { meta, state } => {
                self.restore_snapshot(now, meta, state, desk);
            }
            replica::Output::RetainSnapshots { positions } => {
                self.retain_snapshots(positions, desk);
            }
            replica::Output::FetchSnapshot { from, meta } => {
                self.fetch_snapshot(now, from, meta, desk);
            }
            replica::Output::Snapshot(event) => self.event(desk, NodeEvent::Snapshot(event)),
            replica::Output::Amnesia { acknowledged } => self.renew(now, acknowledged, desk),
            replica::Output::Departed => self.core_said(now, false),
            replica::Output::Returned => self.core_said(now, true),
            replica::Output::Halted(reason) => {
                self.halted = Some(reason);
                self.end_group();
                self.event(desk, NodeEvent::Halted { reason });
            }
            replica::Output::Observe(event) => self.event(desk, NodeEvent::Core(event)),
        }
    }

    /// Tells founding what became of its group's first entry.
    fn tell_founding(&mut self, now: Moment, input: impl FnOnce(ClusterId) -> founding::Input) {
        if let Some(cluster) = self.active.as_ref().map(|active| active.cluster) {
            self.founding.handle(now, input(cluster));
        }
    }

    /// Hands a write of the group's core to the store.
    pub(super) fn persist(&mut self, now: Moment, write: Write, desk: &mut Desk) {
        let Some(write) = self.held_on_trial(now, write) else { return };
        let Some(active) = self.active.as_mut() else { return };
        active.submitted = write.id;
        let group = active.number;
        let purpose = Purpose::Log(group, write.id);
        let job = |ticket| Job::Log { ticket, group, write };
        desk.store(&self.namespace, self.life, purpose, job);
    }

    fn runs(&self, cluster: &ClusterId) -> bool {
        self.active.as_ref().is_some_and(|active| active.cluster == *cluster)
    }

    /// A cluster lives here.
    pub(super) fn tell_serving(&self, cluster: ClusterId, desk: &mut Desk) {
        self.event(desk, NodeEvent::Serving { cluster });
        if self.record.forced {
            self.event(desk, NodeEvent::Forced { cluster });
        }
    }

    fn tell_members(&self, desk: &mut Desk) {
        let Some(status) = self.replica.status() else { return };
        let configuration = status.configuration;
        let voters = configuration.voters.union(&configuration.outgoing).copied().collect();
        let learners = configuration.learners.into_iter().collect();
        self.event(desk, NodeEvent::Members { voters, learners });
    }

    pub(super) fn answer(
        &mut self,
        now: Moment,
        id: RequestId,
        response: Response,
        desk: &mut Desk,
    ) {
        match self.origins.remove(&id) {
            Some(Origin::Call(id)) => desk.push(Output::Answer { id, response }),
            Some(Origin::Peer(token)) => {
                desk.push(Output::Reply { token, payload: wire::encode_response(&response) });
            }
            Some(Origin::Joiner(member)) => {
                let result = match response {
                    Ok(Reply::AdmittedAt { index, members }) => {
                        let cards = self.cards_for(member, index);
                        Ok(Admission { index, members, cards })
                    }
                    // A member of an earlier release passed the admission on, and did not say.
                    Ok(Reply::Admitted { members }) => {
                        Ok(Admission { index: Index::ZERO, members, cards: Vec::new() })
                    }
                    Ok(_) => Err(NotAdmitted::NoLeader),
                    Err(error) => Err(not_admitted(&error)),
                };
                self.founding.handle(now, founding::Input::AdmissionResolved { member, result });
            }
            Some(Origin::Leaving) => self.removal_resolved(now, &response, desk),
            None => {}
        }
    }
}

/// How long one attempt to admit a joiner may take; the joiner asks again anyway.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);

fn not_admitted(error: &ServiceError) -> NotAdmitted {
    match error {
        ServiceError::Overloaded => NotAdmitted::Busy,
        ServiceError::Founding => NotAdmitted::NotLiving,
        ServiceError::TooOld { supports, in_force } => {
            NotAdmitted::TooOld { supports: *supports, in_force: *in_force }
        }
        _ => NotAdmitted::NoLeader,
    }
}
