//! Requests and their replies: each ends in exactly one.

use bytes::Bytes;
use meshraft::host::NetworkInput;
use meshraft_transport::{Channel, NotSent, Refusal, ReplyToken, RequestError, RequestId};

use super::{Letter, Network, Question, Wake, What};
use crate::world::Seat;

/// A request without a reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) from: Seat,
    to: Seat,
    life: u64,
    id: RequestId,
    channel: Channel,
    /// Known already, and on its way to whoever asked.
    result: Option<RequestError>,
}

impl Pending {
    pub(super) const fn new(
        from: Seat,
        to: Seat,
        life: u64,
        id: RequestId,
        channel: Channel,
    ) -> Self {
        Self { from, to, life, id, channel, result: None }
    }
}

impl Network {
    /// A node asks.
    pub(crate) fn request(&mut self, from: Seat, question: Question) {
        let Question { id, to, namespace, scope, channel, payload, timeout } = question;
        self.last_request += 1;
        let number = self.last_request;
        let life = self.end(from).life;
        let path = self.path(from, to);
        let author = self.author(from, &namespace, scope);
        let seat = path.map_or(from, |(to, _)| to);
        let pending = Pending::new(from, seat, life, id, channel);
        self.requests.insert(number, pending);
        match (path, author) {
            (Some((to, epoch)), Some(author)) => {
                self.plans.push((self.now.plus(timeout), Wake::Expire(number)));
                let author = Some(author);
                let letter = Letter {
                    namespace,
                    scope,
                    author,
                    expected: None,
                    channel,
                    consensus: false,
                    bytes: payload,
                    forged: None,
                };
                self.travel(from, to, epoch, channel, What::Request { number, letter });
            }
            (None, _) => self.fail(number, RequestError::NotSent(NotSent::NotConnected)),
            (_, None) => self.fail(number, RequestError::NotSent(NotSent::NotOpen)),
        }
    }

    /// A node answers. The second answer, and one without a way back, does nothing.
    pub(crate) fn reply(&mut self, from: Seat, token: ReplyToken, payload: Bytes) {
        let number = token.request();
        let Some(pending) = self.requests.get(&number) else { return };
        if pending.to != from || pending.result.is_some() {
            return;
        }
        let (to, channel) = (pending.from, pending.channel);
        if let Some(epoch) = self.epoch(from, to) {
            self.travel(from, to, epoch, channel, What::Reply { number, payload });
        }
    }

    /// A request's time is over.
    pub(crate) fn expire(&mut self, number: u64) {
        self.fail(number, RequestError::Lost);
    }

    pub(super) fn refuse_request(&mut self, asker: Seat, number: u64, why: Refusal) {
        if self.requests.get(&number).is_some_and(|pending| pending.from == asker) {
            self.fail(number, RequestError::Refused(why));
        }
    }

    /// A connection broke: what was asked on it may have arrived.
    pub(super) fn fail_requests(&mut self, one: Seat, other: Seat) {
        let both = [(one, other), (other, one)];
        let lost: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, pending)| both.contains(&(pending.from, pending.to)))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.fail(number, RequestError::Lost);
        }
    }

    /// Tells whoever asked that there will be no reply; the first reason counts.
    pub(super) fn fail(&mut self, number: u64, error: RequestError) {
        let Some(pending) = self.requests.get_mut(&number) else { return };
        if pending.result.is_none() {
            pending.result = Some(error);
            let from = pending.from;
            self.post(from, from, None, What::Failed { number });
        }
    }

    /// A reply, or the lack of one, reaches whoever asked.
    pub(super) fn replied(
        &mut self,
        number: u64,
        result: Result<Bytes, RequestError>,
    ) -> Vec<NetworkInput> {
        let Some(pending) = self.requests.remove(&number) else { return Vec::new() };
        if self.end(pending.from).life != pending.life {
            return Vec::new();
        }
        let result = match (result, pending.result) {
            (Err(_), Some(error)) => Err(error),
            (result, _) => result,
        };
        vec![NetworkInput::Reply { id: pending.id, result }]
    }
}
