//! Decides what a line of `pipe` asks for (DESIGN section 8).
//!
//! A line is a JSON object with an `id`, an `op` and the fields of that operation, no others: a
//! misspelt field is refused by name rather than passed over, so that nothing is left out in
//! silence. An operation, field or level that is planned and not built is refused as such.

use std::time::Duration;

use bytes::Bytes;
use meshraft_consensus::NodeId;
use meshraft_service::{limits, wire::Level};
use meshraft_transport::identity::node_id;
use serde_json::{Map, Value};

use crate::cli::{
    json::from_base64,
    request::{self, Operation, Request, RequestError, Via},
};

/// Operations that are planned and not built.
const PLANNED: [&str; 5] = ["batch", "cas", "txn", "watch", "unwatch"];

/// One line: the id under which it is answered, and what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Echoed in the answer; null if the line has none.
    pub(crate) id: Value,
    /// What to do.
    pub(crate) request: Result<Request, RequestError>,
}

impl Line {
    /// Reads one line, without its newline.
    pub(crate) fn parse(line: &[u8]) -> Self {
        let fields = match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Self::refused(RequestError::NotAnObject),
            Err(error) => return Self::refused(RequestError::NotJson { column: error.column() }),
        };
        match fields.get("id") {
            Some(id @ (Value::Number(_) | Value::String(_))) => {
                Self { id: id.clone(), request: read(fields) }
            }
            _ => Self::refused(RequestError::BadId),
        }
    }

    /// A line that has no id to be answered under.
    pub(crate) const fn refused(error: RequestError) -> Self {
        Self { id: Value::Null, request: Err(error) }
    }
}

fn read(fields: Map<String, Value>) -> Result<Request, RequestError> {
    let mut fields = Fields(fields);
    fields.take("id");
    let op = match fields.take("op") {
        Some(Value::String(op)) => op,
        Some(_) => return Err(RequestError::WrongType { field: "op", expected: "a string" }),
        None => return Err(RequestError::Missing { field: "op" }),
    };
    let (op, read): (_, Reader) = match op.as_str() {
        "set" => ("set", Fields::set),
        "get" => ("get", Fields::get),
        "delete" => ("delete", Fields::delete),
        "keys" => ("keys", Fields::keys),
        "status" => ("status", |_| Ok((Operation::Status, None))),
        "members" => ("members", |_| Ok((Operation::Members, None))),
        "barrier" => ("barrier", Fields::barrier),
        "remove" => ("remove", |fields| Ok((Operation::Remove { node: fields.peer()? }, None))),
        "transfer" => ("transfer", |fields| {
            let to = if fields.0.contains_key("peer") { Some(fields.peer()?) } else { None };
            Ok((Operation::Transfer { to }, None))
        }),
        "leave" => ("leave", |fields| Ok((Operation::Leave { node: fields.peer()? }, None))),
        "join" => ("join", |fields| Ok((Operation::Join { node: fields.peer()? }, None))),
        planned if PLANNED.contains(&planned) => {
            return Err(RequestError::Unsupported { what: op });
        }
        _ => return Err(RequestError::UnknownOperation { op }),
    };
    let (operation, bound) = read(&mut fields)?;
    let via = fields.via()?;
    let timeout = match fields.number("timeout_ms")? {
        None => request::timeout_default(),
        Some(millis) => request::timeout("timeout_ms", millis)?,
    };
    match fields.0.keys().next() {
        None => Ok(Request { operation, timeout: bound.unwrap_or(timeout), via }),
        Some(field) => Err(RequestError::UnknownField { op, field: field.clone() }),
    }
}

/// An operation, and the time that takes the place of its time-out.
type Read = (Operation, Option<Duration>);

/// Takes the fields of one operation.
type Reader = fn(&mut Fields) -> Result<Read, RequestError>;

/// The fields that were not yet taken.
struct Fields(Map<String, Value>);

impl Fields {
    fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field)
    }

    fn set(&mut self) -> Result<Read, RequestError> {
        if self.0.contains_key("ttl_ms") {
            return Err(RequestError::Unsupported { what: "ttl_ms".into() });
        }
        let key = self.key()?;
        let value = self.bytes("value")?.ok_or(RequestError::Missing { field: "value" })?;
        let value = request::at_most("value", value, limits::VALUE_BYTES_MAX)?;
        Ok((Operation::Set { key, value }, None))
    }

    fn get(&mut self) -> Result<Read, RequestError> {
        let level = self.level()?;
        let bound = self.number("barrier_ms")?;
        let local = match level {
            Some(Level::Stale) => Some("stale"),
            Some(Level::Session) => Some("session"),
            _ => None,
        };
        if let (Some(_), Some(level)) = (bound, local) {
            return Err(RequestError::LocalBarrier { level });
        }
        let bound = bound.map(|millis| request::barrier("barrier_ms", millis)).transpose()?;
        let (key, level) = (self.key()?, level.unwrap_or(Level::Linearizable));
        Ok((Operation::Get { key, level }, bound))
    }

    fn delete(&mut self) -> Result<Read, RequestError> {
        Ok((Operation::Delete { key: self.key()? }, None))
    }

    fn keys(&mut self) -> Result<Read, RequestError> {
        let level = self.level()?.unwrap_or(Level::Linearizable);
        let prefix = self.bytes("prefix")?.unwrap_or_default();
        let prefix = request::at_most("prefix", prefix, limits::KEY_BYTES_MAX)?;
        let after = self.bytes("after")?;
        let after = after
            .map(|after| request::at_most("after", after, limits::KEY_BYTES_MAX))
            .transpose()?;
        let limit = match self.take("limit") {
            None => limits::KEYS_MAX,
            Some(limit) => request::limit(limit.as_u64())?,
        };
        Ok((Operation::Keys { prefix, limit, after, level }, None))
    }

    /// A barrier is bounded by either name of its time-out.
    fn barrier(&mut self) -> Result<Read, RequestError> {
        let bound = match (self.number("barrier_ms")?, self.number("timeout_ms")?) {
            (Some(millis), _) => request::barrier("barrier_ms", millis)?,
            (None, Some(millis)) => request::barrier("timeout_ms", millis)?,
            (None, None) => request::timeout_default(),
        };
        Ok((Operation::Barrier, Some(bound)))
    }

    fn level(&mut self) -> Result<Option<Level>, RequestError> {
        match self.take("read") {
            None => Ok(None),
            Some(Value::String(level)) => match level.as_str() {
                "stale" => Ok(Some(Level::Stale)),
                "linearizable" => Ok(Some(Level::Linearizable)),
                "lease" => Ok(Some(Level::Lease)),
                "session" => Ok(Some(Level::Session)),
                _ => Err(RequestError::UnknownLevel { level }),
            },
            Some(_) => Err(RequestError::WrongType { field: "read", expected: "a string" }),
        }
    }

    fn key(&mut self) -> Result<Bytes, RequestError> {
        let bytes = self.bytes("key")?.ok_or(RequestError::Missing { field: "key" })?;
        request::key("key", bytes)
    }

    /// Bytes, given as text under `field` or as base64 under `field_b64`.
    fn bytes(&mut self, field: &'static str) -> Result<Option<Bytes>, RequestError> {
        let encoded = self.take(&format!("{field}_b64"));
        match (self.take(field), encoded) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(RequestError::BothForms { field }),
            (Some(Value::String(text)), None) => Ok(Some(text.into())),
            (None, Some(Value::String(text))) => match from_base64(&text) {
                Some(bytes) => Ok(Some(bytes.into())),
                None => Err(RequestError::NotBase64 { field }),
            },
            _ => Err(RequestError::WrongType { field, expected: "a string" }),
        }
    }

    /// A number; the inner `None` stands for one that is not whole.
    fn number(&mut self, field: &'static str) -> Result<Option<Option<i64>>, RequestError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number.as_i64())),
            Some(_) => Err(RequestError::WrongType { field, expected: "a number" }),
        }
    }

    /// The node that is meant, by its peer id.
    fn peer(&mut self) -> Result<NodeId, RequestError> {
        const EXPECTED: &str = "the id of a peer with an Ed25519 key";
        let wrong = RequestError::WrongType { field: "peer", expected: EXPECTED };
        match self.take("peer") {
            None => Err(RequestError::Missing { field: "peer" }),
            Some(Value::String(text)) => {
                let peer = text.parse().ok();
                peer.and_then(|peer| node_id(peer).ok()).ok_or(wrong)
            }
            Some(_) => Err(wrong),
        }
    }

    fn via(&mut self) -> Result<Option<Via>, RequestError> {
        match self.take("via") {
            None => Ok(None),
            Some(Value::String(text)) => Via::parse(&text).map(Some),
            Some(_) => Err(RequestError::WrongType { field: "via", expected: "a text" }),
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
