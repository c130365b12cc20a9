//! Fragments: the unit that namespaces take turns in, that is sealed, and that messages are joined
//! from again.
//!
//! `{handle u32, flags u8, message u32, length u16, bytes}`, big-endian, at most 32 KiB of bytes.
//! The messages of one handle and direction are numbered from zero and never interleave.

use meshraft_consensus::Moment;

use crate::{
    budget::{Budget, Purse},
    config::Limits,
};

/// The most bytes that a fragment may carry, its seal included.
pub(crate) const FRAGMENT_BYTES_MAX: usize = 32 * 1024;
/// The bytes before a fragment's payload.
pub(crate) const HEADER_BYTES: usize = 11;

const FIRST: u8 = 1;
const LAST: u8 = 2;

/// What stands before a fragment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The handle; zero is the greeting, in clear.
    pub(crate) handle: u32,
    /// Whether a message begins here.
    pub(crate) first: bool,
    /// Whether a message ends here.
    pub(crate) last: bool,
    /// The message's number; on handle zero, what an answer answers.
    pub(crate) message: u32,
    /// How many bytes follow, the seal included.
    pub(crate) length: u16,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.handle.to_be_bytes();
        let flags = if self.first { FIRST } else { 0 } | if self.last { LAST } else { 0 };
        let [e, f, g, h] = self.message.to_be_bytes();
        let [i, j] = self.length.to_be_bytes();
        [a, b, c, d, flags, e, f, g, h, i, j]
    }

    pub(crate) fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, FragmentError> {
        let [a, b, c, d, flags, e, f, g, h, i, j] = bytes;
        if flags & !(FIRST | LAST) != 0 {
            return Err(FragmentError::Flags { flags });
        }
        let length = u16::from_be_bytes([i, j]);
        if usize::from(length) > FRAGMENT_BYTES_MAX {
            return Err(FragmentError::TooLong { bytes: length });
        }
        Ok(Self {
            handle: u32::from_be_bytes([a, b, c, d]),
            first: flags & FIRST != 0,
            last: flags & LAST != 0,
            message: u32::from_be_bytes([e, f, g, h]),
            length,
        })
    }
}

/// Takes the next fragment off a frame: its header as sent, decoded, and its bytes.
pub(crate) fn split<'a>(frame: &mut &'a mut [u8]) -> Result<Fragment<'a>, FragmentError> {
    let rest = core::mem::take(frame);
    let (raw, rest) =
        rest.split_first_chunk_mut::<HEADER_BYTES>().ok_or(FragmentError::Truncated)?;
    let header = Header::decode(*raw)?;
    let (bytes, rest) =
        rest.split_at_mut_checked(header.length.into()).ok_or(FragmentError::Truncated)?;
    *frame = rest;
    Ok(Fragment { raw: *raw, header, bytes })
}

/// A fragment inside a received frame; its bytes are opened in place.
#[derive(Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) raw: [u8; HEADER_BYTES],
    pub(crate) header: Header,
    pub(crate) bytes: &'a mut [u8],
}

impl Fragment<'_> {
    /// Whether it is a message by itself, which is not kept.
    pub(crate) const fn is_whole(&self) -> bool {
        self.header.first && self.header.last
    }
}

/// Why a frame's fragments can't be used; the stream that sent them is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// The frame ends inside a fragment.
    #[error("the frame ends inside a fragment")]
    Truncated,
    /// A flag that no version defines.
    #[error("unknown flags {flags:#04x}")]
    Flags {
        /// All flags of the fragment.
        flags: u8,
    },
    /// More bytes than a fragment may carry.
    #[error("a fragment of {bytes} bytes")]
    TooLong {
        /// What the header says.
        bytes: u16,
    },
    /// Not the message that comes next on this handle.
    #[error("message {found} where {expected} comes next")]
    OutOfOrder {
        /// The number that comes next.
        expected: u32,
        /// The number in the header.
        found: u32,
    },
    /// A message begins inside another, or goes on before it began.
    #[error("a message begins or goes on where it can't")]
    Interleaved,
    /// The message, or all unfinished ones together, exceed what may be held.
    #[error("more than {bytes_max} bytes of unfinished messages")]
    OverBudget {
        /// The bound that was passed.
        bytes_max: usize,
    },
}

/// A message whose last fragment arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whole<'a> {
    /// It came in one fragment; nothing was copied.
    Single(&'a [u8]),
    /// It was joined from several.
    Joined(Vec<u8>),
}

impl AsRef<[u8]> for Whole<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Single(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }
}

/// A message whose last fragment has not arrived.
#[derive(Clone, Debug)]
struct Partial {
    bytes: Vec<u8>,
    begun: Moment,
    grown: Moment,
}

/// Joins the fragments of one handle and direction.
#[derive(Clone, Debug)]
pub(crate) struct Assembly {
    purse: Purse,
    message_bytes_max: usize,
    next: u32,
    partial: Option<Partial>,
}

impl Assembly {
    /// Messages of at most so many bytes, counted in `purse` while they are unfinished.
    pub(crate) const fn new(purse: Purse, message_bytes_max: usize) -> Self {
        Self { purse, message_bytes_max, next: 0, partial: None }
    }

    /// Takes one fragment; `Some` if it ends a message.
    pub(crate) fn join<'a>(
        &mut self,
        now: Moment,
        header: Header,
        bytes: &'a [u8],
        budget: &mut Budget,
    ) -> Result<Option<Whole<'a>>, FragmentError> {
        if header.message != self.next {
            return Err(FragmentError::OutOfOrder { expected: self.next, found: header.message });
        }
        if header.first == self.partial.is_some() {
            return Err(FragmentError::Interleaved);
        }
        if header.last {
            self.next = self.next.wrapping_add(1);
        }
        if header.first && header.last {
            return Ok(Some(Whole::Single(bytes)));
        }
        let fresh = || Partial { bytes: Vec::new(), begun: now, grown: now };
        let partial = self.partial.get_or_insert_with(fresh);
        if partial.bytes.len().saturating_add(bytes.len()) > self.message_bytes_max {
            return Err(FragmentError::OverBudget { bytes_max: self.message_bytes_max });
        }
        if let Some(bytes_max) = budget.bound(self.purse, bytes.len()) {
            return Err(FragmentError::OverBudget { bytes_max });
        }
        partial.bytes.extend_from_slice(bytes);
        partial.grown = now;
        budget.take(self.purse, bytes.len());
        if !header.last {
            return Ok(None);
        }
        let whole = self.partial.take().map_or_else(Vec::new, |partial| partial.bytes);
        budget.give_back(self.purse, whole.len());
        Ok(Some(Whole::Joined(whole)))
    }

    /// Where an unfinished message is counted.
    pub(crate) const fn purse(&self) -> Purse {
        self.purse
    }

    /// What an unfinished message holds.
    pub(crate) fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes.len())
    }

    /// Whether a message is unfinished for longer than it may be.
    pub(crate) fn is_overdue(&self, now: Moment, limits: &Limits) -> bool {
        self.partial.as_ref().is_some_and(|partial| {
            now.since(partial.grown) >= limits.unfinished_pause_max
                || now.since(partial.begun) >= limits.unfinished_time_max
        })
    }

    /// Gives back what an unfinished message holds; for a handle that goes.
    pub(crate) fn release(&mut self, budget: &mut Budget) {
        let held = self.held();
        self.partial = None;
        budget.give_back(self.purse, held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::{Account, Budgets};

    fn budget(bytes_max: usize) -> Budget {
        Budget::new(bytes_max, Account::new(Budgets::new(&Limits::default())))
    }

    fn assembly() -> Assembly {
        Assembly::new(Purse::MemberMessages, 10)
    }

    fn header(message: u32, first: bool, last: bool) -> Header {
        Header { handle: 1, first, last, message, length: 0 }
    }

    #[test]
    fn a_header_is_eleven_bytes_big_endian() {
        let header =
            Header { handle: 0x0102_0304, first: true, last: false, message: 5, length: 0x0607 };
        let bytes = [1, 2, 3, 4, 1, 0, 0, 0, 5, 6, 7];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(bytes), Ok(header));
        let mut unknown = bytes;
        unknown[4] = 4;
        assert_eq!(Header::decode(unknown), Err(FragmentError::Flags { flags: 4 }));
        let mut long = bytes;
        [long[9], long[10]] = [0x80, 0x01];
        assert_eq!(Header::decode(long), Err(FragmentError::TooLong { bytes: 0x8001 }));
    }

    #[test]
    fn messages_join_in_order_only() {
        let mut budget = budget(100);
        let mut assembly = assembly();
        let single = assembly.join(Moment::ZERO, header(0, true, true), b"one", &mut budget);
        assert_eq!(single, Ok(Some(Whole::Single(b"one"))));
        assert_eq!(
            assembly.join(Moment::ZERO, header(1, true, false), b"tw", &mut budget),
            Ok(None)
        );
        let other = assembly.clone().join(Moment::ZERO, header(1, true, true), b"x", &mut budget);
        assert_eq!(other, Err(FragmentError::Interleaved));
        let joined = assembly.join(Moment::ZERO, header(1, false, true), b"o", &mut budget);
        assert_eq!(joined, Ok(Some(Whole::Joined(b"two".to_vec()))));
        let replayed = assembly.join(Moment::ZERO, header(1, true, true), b"two", &mut budget);
        assert_eq!(replayed, Err(FragmentError::OutOfOrder { expected: 2, found: 1 }));
        let headless = assembly.join(Moment::ZERO, header(2, false, true), b"x", &mut budget);
        assert_eq!(headless, Err(FragmentError::Interleaved));
    }

    #[test]
    fn no_handle_holds_more_than_a_message_nor_all_more_than_the_budget() {
        let mut budget = budget(15);
        let [mut one, mut two] = [assembly(), assembly()];
        assert_eq!(one.join(Moment::ZERO, header(0, true, false), &[0; 10], &mut budget), Ok(None));
        let over = one.join(Moment::ZERO, header(0, false, true), &[0; 1], &mut budget);
        assert_eq!(over, Err(FragmentError::OverBudget { bytes_max: 10 }));
        let over = two.join(Moment::ZERO, header(0, true, false), &[0; 6], &mut budget);
        assert_eq!(over, Err(FragmentError::OverBudget { bytes_max: 15 }));
        one.release(&mut budget);
        assert_eq!(
            two.clone().join(Moment::ZERO, header(0, false, false), &[0; 6], &mut budget),
            Ok(None)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_split_or_are_refused(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let total = bytes.len();
            let mut rest = bytes.as_mut_slice();
            let mut taken = 0;
            while !rest.is_empty() {
                match split(&mut rest) {
                    Ok(fragment) => taken += HEADER_BYTES + fragment.bytes.len(),
                    Err(_) => break,
                }
            }
            prop_assert!(taken <= total);
        }
    }
}
