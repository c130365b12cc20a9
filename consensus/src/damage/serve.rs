//! What a member tells another one whose log is damaged. Nothing that it says rests on its disk:
//! which entries precede another one never changes.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    core::Core,
    entry::Entry,
    event::DropReason,
    identity::Member,
    message::{Message, RepairRequest, RepairResponse, RepairResult},
    output::{Lane, Output},
    replication::follows,
    role::RoleState,
    types::{Index, IndexRange, Term},
};

impl Core {
    pub(crate) fn repair_request(&mut self, from: Member, request: RepairRequest) {
        let RepairRequest { first, last, anchor, .. } = request;
        let beside = anchor.index == last || anchor.index == last.next();
        let in_order = Index::ZERO < first && first <= last && anchor.term > Term::ZERO;
        if !(beside && in_order) {
            return self.drop_message(from, DropReason::Malformed);
        }
        if self.membership.newest_with(&from, self.log.last().index).is_none() {
            return self.drop_message(from, DropReason::Stranger);
        }
        if !self.is_sure_of(&request) || self.loads.is_repairing(from, &request) {
            return;
        }
        if let Some(result) = self.can_not_repair(request) {
            if result == RepairResult::Elsewhere && !matches!(self.role, RoleState::Leader(_)) {
                // Who led this term, and has restarted, may have lost what was not durable.
                return;
            }
            if let RepairResult::Compacted(meta) | RepairResult::Passed(meta) = &result {
                self.outputs.push_back(Output::SendSnapshot { to: from, meta: meta.clone() });
            }
            return self.answer_repair(from, request, result);
        }
        let (in_memory, bytes_max) =
            (self.log.first_in_memory(), self.config.knobs().append_bytes_max);
        if first >= in_memory {
            let entries = self.log.slice(first, last, bytes_max);
            self.give_entries(from, request, entries);
        } else {
            let id = self.loads.ask_for_repair(from, request);
            let range = IndexRange { first, last: last.min(in_memory.previous()) };
            self.outputs.push_back(Output::Load { id, range, bytes_max });
        }
    }

    /// What both sides know to be committed is the same, whatever follows on it (3.6.3).
    fn is_committed_twice(&self, request: &RepairRequest) -> bool {
        request.last <= request.commit.min(self.commit)
    }

    /// Whether this member knows if its log is the same. Of a damaged log single slots may be
    /// right within the run that stands for all: the store says so when they are read.
    fn is_sure_of(&self, request: &RepairRequest) -> bool {
        !self.is_damaged_at(request.anchor.index) || self.is_committed_twice(request)
    }

    /// Why there are no entries for this request, if that is known without a look at the disk.
    fn can_not_repair(&self, request: RepairRequest) -> Option<RepairResult> {
        let RepairRequest { first, anchor, .. } = request;
        let base = self.log.base().index;
        let committed = self.is_committed_twice(&request);
        // What is compacted is covered by a snapshot.
        let newest = self.snapshots.newest_meta().map(|meta| Box::new(meta.clone()));
        if anchor.index < base {
            newest.map(RepairResult::Passed)
        } else if !self.log.holds(anchor) && !committed {
            Some(RepairResult::Elsewhere)
        } else if first <= base {
            newest.map(RepairResult::Compacted)
        } else {
            None
        }
    }

    pub(crate) fn loaded_for_repair(
        &mut self,
        to: Member,
        request: RepairRequest,
        entries: Vec<Entry>,
    ) {
        self.give_entries(to, request, entries);
    }

    /// Sends entries, if they are still what was asked for: the log may have changed meanwhile.
    fn give_entries(&mut self, to: Member, request: RepairRequest, entries: Vec<Entry>) {
        let same = self.is_sure_of(&request) && self.can_not_repair(request).is_none();
        if same && follows(&self.log, request.first, &entries) {
            self.answer_repair(to, request, RepairResult::Entries(entries));
        }
    }

    fn answer_repair(&mut self, to: Member, request: RepairRequest, result: RepairResult) {
        let (term, anchor) = (self.hard.term, request.anchor);
        // Beyond what is committed on both sides, only the anchor shows that the logs are the same.
        let same = !self.is_damaged_at(anchor.index) && self.log.holds(anchor);
        let commit = if same { self.commit } else { self.commit.min(request.commit) };
        let response = RepairResponse { term, anchor, commit, result };
        self.send(to, Lane::Entries, Message::RepairResponse(response));
    }
}
