//! Namespace keys: their files, their ids, and the ring that a node holds.
//!
//! A key never leaves this module but as the input of a key derivation. Copies are wiped when they
//! are dropped; what `ring` derives from them is not, and lives as long as its handle.

use std::fmt;

use ring::hkdf;
use zeroize::Zeroizing;

use crate::tag::TagKey;

const KEY_BYTES: usize = 32;

/// The secret that seals a namespace: 32 bytes.
#[derive(Clone)]
pub struct NamespaceKey(Zeroizing<[u8; KEY_BYTES]>);

impl NamespaceKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads the contents of a key file: exactly 32 raw bytes, or 64 hexadecimal digits and at
    /// most one newline (LF or CRLF).
    ///
    /// # Errors
    /// The contents are neither.
    pub fn parse(contents: &[u8]) -> Result<Self, KeyError> {
        if let Ok(raw) = <[u8; KEY_BYTES]>::try_from(contents) {
            return Ok(Self::new(raw));
        }
        let line = contents.strip_suffix(b"\n").unwrap_or(contents);
        let digits = line.strip_suffix(b"\r").unwrap_or(line);
        if digits.len() != 2 * KEY_BYTES {
            return Err(KeyError::Size { bytes: contents.len() });
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (at, (byte, pair)) in key.iter_mut().zip(digits.chunks_exact(2)).enumerate() {
            let value = |digit: &u8| char::from(*digit).to_digit(16);
            let mut nibbles = pair.iter().map(value);
            match (nibbles.next().flatten(), nibbles.next().flatten()) {
                (Some(high), Some(low)) => *byte = (high * 16 + low) as u8,
                _ => return Err(KeyError::Digit { offset: 2 * at }),
            }
        }
        Ok(Self(key))
    }

    /// Its fingerprint for people: nodes show it in events and status and never send it.
    pub fn id(&self) -> KeyId {
        let mut id = [0; KeyId::BYTES];
        let derived = self.derive(b"meshraft key id", &[], KeyIdLength);
        hkdf::Okm::fill(derived.okm(), &mut id).expect("the length is that of the request");
        KeyId(id)
    }

    /// HKDF-SHA256 of this key: `salt`, and the concatenation of `info`.
    pub(crate) fn derive<'a, L: hkdf::KeyType>(
        &self,
        salt: &[u8],
        info: &'a [&'a [u8]],
        length: L,
    ) -> Derived<'a, L> {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&*self.0);
        Derived { secret, info, length }
    }
}

impl PartialEq for NamespaceKey {
    /// Compares ids, so that no comparison's time depends on the secret.
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for NamespaceKey {}

impl fmt::Debug for NamespaceKey {
    /// The id only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamespaceKey({})", self.id())
    }
}

/// A derivation that is ready to be filled into its user.
pub(crate) struct Derived<'a, L> {
    secret: hkdf::Prk,
    info: &'a [&'a [u8]],
    length: L,
}

impl<L: hkdf::KeyType + Copy> Derived<'_, L> {
    pub(crate) fn okm(&self) -> hkdf::Okm<'_, L> {
        self.secret.expand(self.info, self.length).expect("far below 255 blocks")
    }
}

#[derive(Clone, Copy)]
struct KeyIdLength;

impl hkdf::KeyType for KeyIdLength {
    fn len(&self) -> usize {
        KeyId::BYTES
    }
}

/// The fingerprint of a key: 8 bytes by HKDF, which say nothing of the key. Never on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; Self::BYTES]);

impl KeyId {
    /// Its length.
    pub const BYTES: usize = 8;
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The keys that a node holds for one namespace. The first is active: hellos are made with it, and
/// with the others where a peer does not hold the active one; peers that use any of them are
/// accepted. Empty means that the namespace is open.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    keys: Vec<HeldKey>,
}

/// A key with what is derived from it once.
#[derive(Clone, Debug)]
pub(crate) struct HeldKey {
    pub(crate) id: KeyId,
    pub(crate) secret: NamespaceKey,
    pub(crate) tags: TagKey,
}

impl KeyRing {
    /// No key: the namespace is open.
    pub const fn open() -> Self {
        Self { keys: Vec::new() }
    }

    /// These keys, the first active; a key that comes twice is held once.
    pub fn new(keys: impl IntoIterator<Item = NamespaceKey>) -> Self {
        let mut ring = Self::open();
        for secret in keys {
            let id = secret.id();
            if ring.get(id).is_none() {
                let tags = TagKey::of(&secret);
                ring.keys.push(HeldKey { id, secret, tags });
            }
        }
        ring
    }

    /// Whether there is no key.
    pub const fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids of all keys, the active one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|key| key.id)
    }

    /// All keys, the active one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeldKey> {
        self.keys.iter()
    }

    /// The key at this place of the ring; the active one is at zero.
    pub(crate) fn at(&self, place: usize) -> Option<&HeldKey> {
        self.keys.get(place)
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<&NamespaceKey> {
        self.keys.iter().find_map(|key| (key.id == id).then_some(&key.secret))
    }
}

impl PartialEq for KeyRing {
    /// The same keys in the same order.
    fn eq(&self, other: &Self) -> bool {
        self.ids().eq(other.ids())
    }
}

impl Eq for KeyRing {}

impl From<NamespaceKey> for KeyRing {
    fn from(key: NamespaceKey) -> Self {
        Self::new([key])
    }
}

/// Why a file holds no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither 32 bytes nor 64 digits.
    #[error("a key is exactly 32 raw bytes or 64 hexadecimal digits, this has {bytes} bytes")]
    Size {
        /// The size of the file in bytes.
        bytes: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("no hexadecimal digit at or directly after byte {offset}")]
    Digit {
        /// Where the pair of digits begins.
        offset: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_32_bytes_or_64_digits() {
        let raw: Vec<u8> = (0..32).collect();
        let digits: String = raw.iter().map(|byte| format!("{byte:02X}")).collect();
        let key = NamespaceKey::parse(&raw).unwrap();
        for contents in [digits.clone(), format!("{digits}\n"), format!("{digits}\r\n")] {
            assert_eq!(NamespaceKey::parse(contents.as_bytes()), Ok(key.clone()));
        }
        for bytes in [0, 31, 33, 63, 67] {
            let error = NamespaceKey::parse(&vec![b'0'; bytes]).unwrap_err();
            assert_eq!(error, KeyError::Size { bytes });
        }
        let twice = format!("{digits}\n\n");
        assert_eq!(NamespaceKey::parse(twice.as_bytes()), Err(KeyError::Size { bytes: 66 }));
        let wrong = digits.replacen("1F", "1G", 1);
        assert_eq!(NamespaceKey::parse(wrong.as_bytes()), Err(KeyError::Digit { offset: 62 }));
    }

    #[test]
    fn a_key_is_shown_by_its_id_only() {
        // Computed apart with a textbook HKDF over HMAC-SHA256.
        let key = NamespaceKey::new([7; 32]);
        assert_eq!(format!("{key:?}"), format!("NamespaceKey({})", key.id()));
        assert_eq!(key.id().to_string(), KEY_ID_OF_SEVENS);
    }

    const KEY_ID_OF_SEVENS: &str = "4ecb117f05f98e9b";

    #[test]
    fn a_ring_holds_each_key_once_and_the_first_is_active() {
        let [one, two] = [1, 2].map(|byte| NamespaceKey::new([byte; 32]));
        let ring = KeyRing::new([one.clone(), two.clone(), one.clone()]);
        assert_eq!(ring.ids().collect::<Vec<_>>(), [one.id(), two.id()]);
        assert_eq!(ring.at(0).map(|key| key.id), Some(one.id()));
        assert!(ring.get(two.id()).is_some());
        assert!(!ring.is_open() && KeyRing::open().is_open());
    }
}
