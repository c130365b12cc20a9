//! What two nodes say to each other of the groups that sleep: the one place where those bytes are
//! decoded.
//!
//! A version byte, then postcard. They travel as opaque bytes on Control in the scope of a cluster,
//! where nothing else does: a build that does not know them passes over them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::book::{Digest, Fingerprint};

const VERSION: u8 = 1;
/// The most groups that one frame names: 128 KiB, half of what Control takes in one message.
pub(super) const GROUPS_MAX: usize = 8_192;
/// Everything in a frame but the groups.
const OVERHEAD_BYTES: usize = 64;

/// One message of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Frame {
    /// The sender lives, and leads these sleeping groups in which the receiver follows.
    Beat(Digest),
    /// The answer to a beat that differs: of the groups from `first` to `last`, the receiver leads
    /// these, as the sender believes.
    View {
        /// Where the list begins.
        first: Fingerprint,
        /// Where it ends.
        last: Fingerprint,
        /// The groups, in ascending order.
        groups: Vec<Fingerprint>,
    },
    /// The answer to a view: the sender has compared it, and vouches for all but these.
    Checked {
        /// Groups of the view that the sender does not lead asleep.
        wake: Vec<Fingerprint>,
    },
}

/// Bytes that are no frame of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(in crate::host) enum FrameError {
    /// Of a version that this build does not know.
    #[error("version {version} of the watch over sleeping groups is not known")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// Longer than any frame.
    #[error("{bytes} bytes are more than a frame has")]
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// Not decodable, with bytes left over, or naming groups out of order or of its range.
    #[error("the frame is malformed")]
    Malformed,
}

/// The order of variants and fields is the wire format.
#[derive(Serialize, Deserialize)]
enum WireFrame {
    Beat { count: u32, sum: [u8; 16] },
    View { first: [u8; 16], last: [u8; 16], groups: Vec<[u8; 16]> },
    Checked { wake: Vec<[u8; 16]> },
}

impl Frame {
    pub(in crate::host) fn encode(&self) -> Bytes {
        let list = |groups: &[Fingerprint]| groups.iter().map(|it| *it.as_bytes()).collect();
        let wire = match self {
            Self::Beat(Digest { count, sum }) => {
                WireFrame::Beat { count: *count, sum: sum.to_be_bytes() }
            }
            Self::View { first, last, groups } => WireFrame::View {
                first: *first.as_bytes(),
                last: *last.as_bytes(),
                groups: list(groups),
            },
            Self::Checked { wake } => WireFrame::Checked { wake: list(wake) },
        };
        let bytes = postcard::to_extend(&wire, vec![VERSION]);
        bytes.expect("a vector takes all that is encoded").into()
    }

    pub(in crate::host) fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > GROUPS_MAX * 16 + OVERHEAD_BYTES {
            return Err(FrameError::TooLong { bytes: bytes.len() });
        }
        let (version, rest) = bytes.split_first().ok_or(FrameError::Malformed)?;
        if *version != VERSION {
            return Err(FrameError::Version { version: *version });
        }
        let (wire, left) = postcard::take_from_bytes(rest).map_err(|_| FrameError::Malformed)?;
        if !left.is_empty() {
            return Err(FrameError::Malformed);
        }
        let list = |groups: Vec<[u8; 16]>| -> Result<Vec<Fingerprint>, FrameError> {
            let ascends = groups.is_sorted_by(|one, next| one < next);
            let bounded = groups.len() <= GROUPS_MAX;
            let groups = groups.into_iter().map(Fingerprint::new).collect();
            if ascends && bounded { Ok(groups) } else { Err(FrameError::Malformed) }
        };
        Ok(match wire {
            WireFrame::Beat { count, sum } => {
                Self::Beat(Digest { count, sum: u128::from_be_bytes(sum) })
            }
            WireFrame::View { first, last, groups } => {
                let (first, last) = (Fingerprint::new(first), Fingerprint::new(last));
                let groups = list(groups)?;
                if first > last || groups.iter().any(|it| *it < first || *it > last) {
                    return Err(FrameError::Malformed);
                }
                Self::View { first, last, groups }
            }
            WireFrame::Checked { wake } => Self::Checked { wake: list(wake)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprints(numbers: &[u8]) -> Vec<Fingerprint> {
        numbers.iter().map(|number| Fingerprint::new([*number; 16])).collect()
    }

    #[test]
    fn the_bytes_of_a_beat_are_fixed_and_frames_come_back_as_they_were() {
        let beat = Frame::Beat(Digest { count: 300, sum: 0x0102 });
        let bytes = beat.encode();
        let fixed: Vec<u8> =
            [&[1, 0, 0xac, 0x02][..], &[0; 14], &[1, 2]].into_iter().flatten().copied().collect();
        assert_eq!(&bytes[..], fixed);
        let (first, last) = (Fingerprint::FIRST, Fingerprint::LAST);
        let view = Frame::View { first, last, groups: fingerprints(&[1, 2, 9]) };
        let checked = Frame::Checked { wake: fingerprints(&[2]) };
        for frame in [beat, view, checked] {
            let bytes = frame.encode();
            assert_eq!(Frame::decode(&bytes), Ok(frame));
            for end in 0..bytes.len() {
                assert!(Frame::decode(&bytes[..end]).is_err());
            }
            let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
            assert_eq!(Frame::decode(&longer), Err(FrameError::Malformed));
        }
    }

    #[test]
    fn what_breaks_a_bound_is_refused() {
        let (first, last) = (Fingerprint::new([3; 16]), Fingerprint::new([5; 16]));
        for groups in [&[4, 4][..], &[5, 4], &[2], &[6]] {
            let view = Frame::View { first, last, groups: fingerprints(groups) };
            assert_eq!(Frame::decode(&view.encode()), Err(FrameError::Malformed), "{groups:?}");
        }
        let turned = Frame::View { first: last, last: first, groups: Vec::new() };
        assert_eq!(Frame::decode(&turned.encode()), Err(FrameError::Malformed));
        let bytes = vec![VERSION; GROUPS_MAX * 16 + OVERHEAD_BYTES + 1];
        assert_eq!(Frame::decode(&bytes), Err(FrameError::TooLong { bytes: bytes.len() }));
        assert_eq!(Frame::decode(&[7, 0]), Err(FrameError::Version { version: 7 }));
    }
}
