//! The key that a node is known by, its file, and `NodeId` to `PeerId` and back.
//!
//! File: the 8 bytes `MRIDENT1`, the 32-byte Ed25519 seed, and the first 8 bytes of the SHA-256 of
//! both. A file that is not exactly this is refused untouched: a node never trades its identity for
//! a new one because a disk rotted. A file that others than its owner may open is refused, too:
//! whoever reads the key can act as the node.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use libp2p::{PeerId, identity::Keypair};
use meshraft_consensus::NodeId;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"MRIDENT1";
const SEED_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 8;
const FILE_BYTES: usize = MAGIC.len() + SEED_BYTES + CHECKSUM_BYTES;

/// What precedes the key in the bytes of an Ed25519 peer id: an identity multihash of 36 bytes,
/// which hold the key's type and length.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// What the owner's group and everybody else may do with a file: nothing, with a key in it.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// What to do about an identity file that others than its owner may read or change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenIdentity {
    /// The file is refused.
    #[default]
    Refuse,
    /// The file is taken, with a warning in the log: for volumes whose modes can't be chosen, as
    /// secrets that an orchestrator mounts.
    Allow,
}

/// An Ed25519 key pair; its public half is the node's id.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    node: NodeId,
}

impl Identity {
    /// Reads the identity at `path`, or creates one there if nothing is there. A new file can be
    /// read and written by its owner only, and is durable, with its folder, when this returns. A
    /// symbolic link is followed; the mode that counts is the mode of the file behind the link.
    /// Modes are checked on Unix only.
    ///
    /// # Errors
    /// The file can't be read or written, is no whole identity file, or others than its owner may
    /// open it and `open` does not allow that. Nothing is changed then.
    pub fn load_or_create(
        path: impl AsRef<Path>,
        open: OpenIdentity,
    ) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        // Not `Path::exists`: a link that leads nowhere must not be replaced by a new identity.
        match fs::symlink_metadata(path) {
            Ok(_) => read_seed(path, open).and_then(|seed| Self::from_seed(&seed, path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let seed = fresh_seed()?;
                let identity = Self::from_seed(&seed, path)?;
                create(path, &seed)
                    .map_err(|source| IdentityError::Write { path: path.into(), source })?;
                Ok(identity)
            }
            Err(source) => Err(IdentityError::Read { path: path.into(), source }),
        }
    }

    /// A fresh identity that is kept nowhere: what clients use.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        Self::from_seed(&*fresh_seed()?, Path::new(""))
    }

    /// The node that this key stands for.
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// The key pair, for libp2p.
    pub const fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    fn from_seed(seed: &[u8; SEED_BYTES], path: &Path) -> Result<Self, IdentityError> {
        let unusable = || IdentityError::Corrupt { path: path.into(), why: Corruption::Key };
        // libp2p wipes the buffer that it reads the key from.
        let keypair = Keypair::ed25519_from_bytes(*seed).map_err(|_| unusable())?;
        let node = node_id(keypair.public().to_peer_id()).map_err(|_| unusable())?;
        Ok(Self { keypair, node })
    }
}

impl fmt::Debug for Identity {
    /// The public half only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.node)
    }
}

/// Why an identity can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file is there but can't be read.
    #[error("can't read the identity file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file can't be created.
    #[error("can't create the identity file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is there but is no whole identity.
    #[error("the identity file {} is corrupt: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Corruption,
    },
    /// Others than the file's owner may read or change the key. The message has the command that
    /// mends the mode.
    #[error(
        "the identity file {} has mode {mode:04o}: others than its owner may open the node's key; \
         `chmod 600 {}` mends that",
        path.display(),
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something is there that is no regular file, as a folder or a pipe.
    #[error("the identity file {} is no regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness(#[source] getrandom::Error),
}

/// What is wrong with an identity file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// It is shorter or longer than an identity.
    #[error("it does not have {FILE_BYTES} bytes")]
    Size,
    /// It does not begin as an identity of a known version does.
    #[error("it is no identity file of a known version")]
    Magic,
    /// Its checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// Its key is no Ed25519 key.
    #[error("its key is unusable")]
    Key,
}

/// A peer id that is no node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer {peer} has no Ed25519 key; other key types are not accepted")]
pub struct NotEd25519 {
    /// The peer.
    pub peer: PeerId,
}

/// The peer id of a node.
pub fn peer_id(node: NodeId) -> PeerId {
    let mut bytes = [0; PEER_ID_PREFIX.len() + 32];
    let (prefix, key) = bytes.split_at_mut(PEER_ID_PREFIX.len());
    prefix.copy_from_slice(&PEER_ID_PREFIX);
    key.copy_from_slice(node.as_bytes());
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
}

/// The node of a peer id.
///
/// # Errors
/// The peer's key is not Ed25519.
pub fn node_id(peer: PeerId) -> Result<NodeId, NotEd25519> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PEER_ID_PREFIX).and_then(|key| key.try_into().ok());
    key.map(NodeId::new).ok_or(NotEd25519 { peer })
}

fn fresh_seed() -> Result<Zeroizing<[u8; SEED_BYTES]>, IdentityError> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    getrandom::fill(&mut *seed).map_err(IdentityError::Randomness)?;
    Ok(seed)
}

fn checksum(head: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    let whole = digest(&SHA256, head);
    sum.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
    sum
}

fn read_seed(
    path: &Path,
    open: OpenIdentity,
) -> Result<Zeroizing<[u8; SEED_BYTES]>, IdentityError> {
    let unreadable = |source| IdentityError::Read { path: path.into(), source };
    // Looked at before it is opened, as well as afterwards: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(IdentityError::NotAFile { path: path.into() });
    }
    let mut file = File::open(path).map_err(unreadable)?;
    check_mode(&file.metadata().map_err(unreadable)?, path, open)?;
    // An array and not a vector, which would leave copies behind wherever it grows.
    let mut bytes = Zeroizing::new([0; FILE_BYTES + 1]);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    let read = bytes.get(..length).unwrap_or_default();
    parse(read).map_err(|why| IdentityError::Corrupt { path: path.into(), why })
}

/// Refuses a file that is not its owner's alone, or warns of it where that is allowed.
#[cfg(unix)]
fn check_mode(
    metadata: &fs::Metadata,
    path: &Path,
    open: OpenIdentity,
) -> Result<(), IdentityError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let exposed = IdentityError::Exposed { path: path.into(), mode };
    match open {
        OpenIdentity::Refuse => Err(exposed),
        OpenIdentity::Allow => {
            tracing::warn!("{exposed}");
            Ok(())
        }
    }
}

#[cfg(not(unix))]
const fn check_mode(_: &fs::Metadata, _: &Path, _: OpenIdentity) -> Result<(), IdentityError> {
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Zeroizing<[u8; SEED_BYTES]>, Corruption> {
    if !bytes.starts_with(MAGIC) && bytes.len() >= MAGIC.len() {
        return Err(Corruption::Magic);
    }
    if bytes.len() != FILE_BYTES {
        return Err(Corruption::Size);
    }
    let (head, sum) = bytes.split_at(FILE_BYTES - CHECKSUM_BYTES);
    if checksum(head) != *sum {
        return Err(Corruption::Checksum);
    }
    let (_, found) = head.split_at(MAGIC.len());
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    seed.copy_from_slice(found);
    Ok(seed)
}

fn create(path: &Path, seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(seed);
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);

    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // What a crash left there has a mode, and perhaps readers, of its own: it is never written to.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let first = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
        let again = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
        assert_eq!(first.node_id(), again.node_id());
        assert_ne!(first.node_id(), Identity::ephemeral().unwrap().node_id());
        assert_eq!(fs::read(&path).unwrap().len(), FILE_BYTES);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn every_flipped_or_missing_byte_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap_err();
            assert!(matches!(error, IdentityError::Corrupt { .. }), "byte {at}: {error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length} bytes");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(parse(&longer), Err(Corruption::Size));
    }

    #[test]
    fn only_ed25519_peers_are_nodes() {
        let identity = Identity::ephemeral().unwrap();
        let peer = identity.keypair().public().to_peer_id();
        assert_eq!(node_id(peer), Ok(identity.node_id()));
        assert_eq!(peer_id(identity.node_id()), peer);
        // A SHA-256 multihash, as RSA keys have.
        let other = PeerId::from_bytes(&[&[0x12, 0x20][..], &[7; 32]].concat()).unwrap();
        assert_eq!(node_id(other), Err(NotEd25519 { peer: other }));
    }

    #[cfg(unix)]
    mod modes {
        use std::os::unix::fs::{PermissionsExt, symlink};

        use super::*;

        fn set_mode(path: &Path, mode: u32) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        }

        #[test]
        fn a_left_over_temporary_file_is_never_used() {
            let folder = tempfile::tempdir().unwrap();
            let (path, left) = (folder.path().join("identity"), folder.path().join("identity.new"));
            fs::write(&left, b"").unwrap();
            set_mode(&left, 0o644);
            // A reader that opened the old file before must not see the key either.
            let mut reader = File::open(&left).unwrap();
            Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
            assert_eq!((mode(&path), left.exists()), (0o600, false));
            assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
        }

        #[test]
        fn a_link_in_the_place_of_the_temporary_file_is_not_followed() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("identity");
            let elsewhere = folder.path().join("elsewhere");
            fs::write(&elsewhere, b"precious").unwrap();
            symlink(&elsewhere, folder.path().join("identity.new")).unwrap();
            Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
            assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
            assert!(fs::symlink_metadata(&path).unwrap().is_file());
        }

        #[test]
        fn a_file_that_others_may_open_is_refused_unless_that_is_allowed() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("identity");
            let whole = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap().node_id();
            for bits in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777] {
                set_mode(&path, bits);
                let error = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap_err();
                assert!(
                    matches!(&error, IdentityError::Exposed { path: named, mode }
                        if *named == path && *mode == bits),
                    "{bits:o}: {error}"
                );
                let mend = format!("chmod 600 {}", path.display());
                assert!(error.to_string().contains(&mend), "{error}");
                assert!(error.to_string().contains(&format!("{bits:04o}")), "{error}");
                let allowed = Identity::load_or_create(&path, OpenIdentity::Allow).unwrap();
                assert_eq!(allowed.node_id(), whole, "{bits:o}");
                assert_eq!(mode(&path), bits, "the mode is left alone");
            }
            for bits in [0o600, 0o400, 0o700] {
                set_mode(&path, bits);
                let loaded = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
                assert_eq!(loaded.node_id(), whole, "{bits:o}");
            }
        }

        #[test]
        fn a_link_is_judged_by_the_file_behind_it() {
            let folder = tempfile::tempdir().unwrap();
            let (path, behind) = (folder.path().join("identity"), folder.path().join("behind"));
            let whole = Identity::load_or_create(&behind, OpenIdentity::Refuse).unwrap().node_id();
            symlink(&behind, &path).unwrap();
            let through = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap();
            assert_eq!(through.node_id(), whole);
            set_mode(&behind, 0o644);
            let error = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap_err();
            assert!(matches!(error, IdentityError::Exposed { .. }), "{error}");
            fs::remove_file(&behind).unwrap();
            let error = Identity::load_or_create(&path, OpenIdentity::Refuse).unwrap_err();
            assert!(matches!(error, IdentityError::Read { .. }), "{error}");
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "the link is left alone");
        }

        #[test]
        fn what_is_no_regular_file_is_refused() {
            let folder = tempfile::tempdir().unwrap();
            for (name, path) in
                [("a folder", folder.path().to_owned()), ("a device", PathBuf::from("/dev/null"))]
            {
                let error = Identity::load_or_create(&path, OpenIdentity::Allow).unwrap_err();
                assert!(matches!(error, IdentityError::NotAFile { .. }), "{name}: {error}");
            }
        }
    }
}
