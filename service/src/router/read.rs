//! Decides how a read is served: an index from the own core, then the own replica (thesis 6.4). A
//! session brings its index along.

use bytes::Bytes;
use meshraft_consensus::{Index, Moment, ReadError, ReadLevel};

use super::{Output, RequestId, Router, requests::Stage};
use crate::{
    error::{Feature, ServiceError},
    machine::QueryError,
    wire::{Level, Operation, Reply},
};

impl Router {
    pub(super) fn dispatch_read(&mut self, now: Moment, id: RequestId) {
        if self.leadership.core_can_read() {
            let operation = self.requests.get(id).map(|pending| &pending.operation);
            let level = match operation {
                Some(Operation::Read { level: Level::Lease, .. }) => ReadLevel::Lease,
                _ => ReadLevel::Linearizable,
            };
            self.requests.enter(id, Stage::AskingIndex);
            self.outputs.push_back(Output::Read { id, level });
        } else {
            self.requests.mark_leaderless(id);
            self.park(now, id);
        }
    }

    pub(super) fn read_index(
        &mut self,
        now: Moment,
        id: RequestId,
        result: Result<Index, ReadError>,
    ) {
        if self.requests.get(id).is_none_or(|pending| pending.stage != Stage::AskingIndex) {
            return;
        }
        match result {
            Ok(index) if index <= self.applied => self.serve(id),
            Ok(index) => self.requests.enter(id, Stage::AwaitingApply(index)),
            Err(ReadError::NoLeader | ReadError::Unconfirmed | ReadError::Founding) => {
                self.requests.mark_leaderless(id);
                self.requests.count_attempt(id);
                self.park(now, id);
            }
            Err(ReadError::Overloaded { .. }) => self.fail(id, ServiceError::Overloaded),
            Err(_) => self.fail(id, ServiceError::Unsupported(Feature::Operation)),
        }
    }

    pub(super) fn applied(&mut self, index: Index) {
        self.applied = index;
        for (_, id) in self.requests.applied(self.applied) {
            self.serve(id);
        }
    }

    /// What the request waited for is applied.
    fn serve(&mut self, id: RequestId) {
        match self.requests.get(id).map(|pending| &pending.operation) {
            Some(Operation::Barrier) => {
                self.answer(id, Ok(Reply::Barrier { index: self.applied }));
            }
            Some(_) => self.query(id),
            None => {}
        }
    }

    /// Runs a query once the own replica has applied what its session has seen.
    pub(super) fn query_at(&mut self, id: RequestId, seen: Index) {
        if seen <= self.applied {
            self.query(id);
        } else if self.requests.has_room_to_wait() {
            self.requests.enter(id, Stage::AwaitingApply(seen));
        } else {
            self.fail(id, ServiceError::Overloaded);
        }
    }

    pub(super) fn query(&mut self, id: RequestId) {
        let Some(pending) = self.requests.get(id) else { return };
        let (Operation::Read { query, .. } | Operation::SessionRead { query, .. }) =
            &pending.operation
        else {
            return;
        };
        let output = Output::Query { id, query: query.clone() };
        self.requests.enter(id, Stage::Querying);
        self.outputs.push_back(output);
    }

    pub(super) fn queried(&mut self, id: RequestId, result: Result<(Index, Bytes), QueryError>) {
        if self.requests.get(id).is_none_or(|pending| pending.stage != Stage::Querying) {
            return;
        }
        match result {
            Ok((index, response)) => self.answer(id, Ok(Reply::Read { index, response })),
            Err(error) => self.fail(id, error.into()),
        }
    }
}
