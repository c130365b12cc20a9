//! The trace of a run: one line an event, of which the digest is kept, and the text if asked for.

use std::fmt::{Arguments, Write};

use meshraft_consensus::Moment;

use crate::digest::Digest;

/// What happened, in order.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: Digest,
    lines: u64,
    print: bool,
}

impl Trace {
    pub(crate) const fn new(print: bool) -> Self {
        Self { digest: Digest::EMPTY, lines: 0, print }
    }

    /// One event.
    pub(crate) fn note(&mut self, now: Moment, what: Arguments<'_>) {
        self.lines += 1;
        // Writing into a digest has no way to fail.
        let _ = write!(self.digest, "{} {what}", now.as_nanos());
        if self.print {
            println!("{now:>16} {what}");
        }
    }

    /// The digest of all lines so far.
    pub(crate) const fn digest(&self) -> u64 {
        self.digest.get()
    }

    /// How many events there were.
    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }
}
