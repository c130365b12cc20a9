//! What a process and its folder take: read from the system, not asked of the process.

use std::{fs, io, path::Path};

use crate::Outcome;

/// Memory of a process that is resident now, in bytes.
pub(crate) fn resident_bytes(process: u32) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmRSS line")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// Bytes of all files below a folder; files that go meanwhile count nothing.
pub(crate) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Bytes of a file; nothing if there is none.
pub(crate) fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Whether any file below a folder has this ending and holds something.
pub(crate) fn has_file(folder: &Path, ending: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return has_file(&path, ending);
        }
        path.extension().is_some_and(|extension| extension == ending) && file_bytes(&path) > 0
    })
}

/// A TCP port of the loopback interface that nobody listens on.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
