//! What both ends of a stream have in common: received bytes, greetings to write, randomness.

use std::collections::VecDeque;

use super::{LinkConfig, LinkError, LinkEvent};
use crate::{
    fragment::{Budget, Fragment, Header},
    frame::{FrameReader, FrameWriter},
    hello::{Greeting, GreetingError, sha256},
};

/// A well-behaved opener has at most so many hellos without an answer.
pub(super) const HELLOS_MAX: usize = 256;
/// More greetings than that to write, and the peer is flooding us.
const GREETINGS_MAX: usize = 4 * HELLOS_MAX;
/// Greetings that are written at one time.
const GREETINGS_PER_WRITE: usize = HELLOS_MAX;

/// The parts of a link that know nothing of namespaces.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) config: LinkConfig,
    pub(super) reader: FrameReader,
    pub(super) budget: Budget,
    pub(super) events: VecDeque<LinkEvent>,
    greetings: VecDeque<(u32, Vec<u8>)>,
    drawn: u64,
}

impl Wire {
    pub(super) fn new(config: LinkConfig) -> Self {
        let limits = &config.limits;
        Self {
            budget: Budget::new(limits.assembly_bytes_max, limits.message_bytes_max),
            config,
            reader: FrameReader::default(),
            events: VecDeque::new(),
            greetings: VecDeque::new(),
            drawn: 0,
        }
    }

    /// Fresh randomness, from the link's seed.
    pub(super) fn random(&mut self) -> [u8; 32] {
        self.drawn += 1;
        sha256(&[b"meshraft hello", &self.config.seed, &self.drawn.to_be_bytes()])
    }

    /// Queues a greeting under a message number and returns its bytes.
    pub(super) fn greet(&mut self, message: u32, greeting: &Greeting) -> Vec<u8> {
        let bytes = greeting.encode();
        self.greetings.push_back((message, bytes.clone()));
        bytes
    }

    pub(super) fn has_greetings(&self) -> bool {
        !self.greetings.is_empty()
    }

    /// Refuses a peer that makes us hold more answers than it ever needs.
    pub(super) fn check_flood(&self) -> Result<(), LinkError> {
        if self.greetings.len() > GREETINGS_MAX { Err(LinkError::Flood) } else { Ok(()) }
    }

    pub(super) fn write_greetings(&mut self, writer: &mut FrameWriter<'_>) {
        for (message, bytes) in
            self.greetings.drain(..self.greetings.len().min(GREETINGS_PER_WRITE))
        {
            let length = u16::try_from(bytes.len()).expect("a greeting is at most 1 KiB");
            let header = Header { handle: 0, first: true, last: true, message, length };
            writer.fragment(header, &bytes, |_, _, _| {});
        }
    }

    /// A fragment of handle zero as a greeting.
    pub(super) fn read_greeting(fragment: &Fragment<'_>) -> Result<Greeting, GreetingError> {
        if fragment.header.first && fragment.header.last {
            Greeting::decode(fragment.bytes)
        } else {
            Err(GreetingError::Malformed)
        }
    }
}
