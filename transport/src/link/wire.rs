//! What both ends of a stream have in common: received bytes, greetings to write, randomness.

use std::{collections::VecDeque, sync::Arc};

use meshraft_consensus::Moment;

use super::{LinkConfig, LinkError, LinkEvent, pipe::WRITE_BYTES_MAX};
use crate::{
    budget::Budget,
    fragment::{Fragment, Header},
    frame::{FrameReader, FrameWriter},
    hello::{Greeting, GreetingError, sha256},
};

/// A well-behaved opener has at most so many hellos without an answer.
pub(super) const HELLOS_MAX: usize = 256;
/// More greetings than that to write, and the peer is flooding us.
const GREETINGS_MAX: usize = 4 * HELLOS_MAX;
/// Greetings that are written at one time.
const GREETINGS_PER_WRITE: usize = HELLOS_MAX;
/// How often unfinished messages are looked at in the longest pause that one may make.
const LOOKS: u32 = 4;

/// The parts of a link that know nothing of namespaces.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) config: LinkConfig,
    pub(super) reader: FrameReader,
    pub(super) budget: Budget,
    pub(super) events: VecDeque<LinkEvent>,
    greetings: VecDeque<(u32, Vec<u8>)>,
    drawn: u64,
    /// When the stream gave something last.
    heard: Moment,
    /// When to look for unfinished messages; set while there are any, or a frame is cut off.
    look_at: Option<Moment>,
}

impl Wire {
    pub(super) fn new(config: LinkConfig) -> Self {
        let limits = &config.limits;
        Self {
            budget: Budget::new(limits.assembly_bytes_max, Arc::clone(&config.account)),
            config,
            reader: FrameReader::default(),
            events: VecDeque::new(),
            greetings: VecDeque::new(),
            drawn: 0,
            heard: Moment::ZERO,
            look_at: None,
        }
    }

    /// Notes that the stream gave something, all of which was taken.
    pub(super) fn heard(&mut self, now: Moment) {
        self.heard = now;
        if self.look_at.is_none() && self.is_unfinished() {
            self.look_at = Some(self.next_look(now));
        }
    }

    /// When to look for unfinished messages.
    pub(super) const fn look_at(&self) -> Option<Moment> {
        self.look_at
    }

    /// Whether it is time to look for unfinished messages.
    ///
    /// # Errors
    /// A frame is cut off for longer than it may be: close the stream.
    pub(super) fn looks(&mut self, now: Moment) -> Result<bool, LinkError> {
        if self.look_at.is_none_or(|at| at > now) {
            return Ok(false);
        }
        let silent = now.since(self.heard) >= self.config.limits.unfinished_pause_max;
        if silent && self.reader.is_cut_off() {
            return Err(LinkError::CutOff);
        }
        self.look_at = self.is_unfinished().then(|| self.next_look(now));
        Ok(true)
    }

    fn is_unfinished(&self) -> bool {
        self.reader.is_cut_off() || self.budget.unfinished() > 0
    }

    fn next_look(&self, now: Moment) -> Moment {
        now.plus(self.config.limits.unfinished_pause_max / LOOKS)
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
        for _ in 0..GREETINGS_PER_WRITE {
            if writer.bytes() >= WRITE_BYTES_MAX {
                break;
            }
            let Some((message, bytes)) = self.greetings.pop_front() else { break };
            let length = u16::try_from(bytes.len()).expect("a greeting is at most 16 KiB");
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
