//! The code cache.
//!
//! Role: keeps compiled code in a folder of the user's own, so that the second start of a large component takes
//! milliseconds. An entry is the code followed by its checksum, written to a temporary file and renamed.
//!
//! Compiled code is run as it is, so whoever can write here owns the process. Hence: the folder and every entry must
//! belong to this user and be writable by nobody else, links are not followed, and what was checked is what is used
//! (entries are read into memory first). Anything else counts as absent, and the component is compiled again.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of the checksum at the end of an entry.
const SUM_BYTES: usize = 32;

/// The suffix of entries.
const SUFFIX: &str = "cwasm";

/// The code cache of one user.
#[derive(Debug)]
pub(crate) struct CodeCache {
    folder: PathBuf,
    max_bytes: u64,
}

/// The identity of a component: the SHA-256 of its bytes. Equal components share their code.
pub fn content_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Code that this very process compiled, or that the checks above vouch for, made runnable on an engine.
///
/// The engine checks that the code was made by the same version with compatible settings.
#[expect(unsafe_code, reason = "wasmtime cannot verify compiled code; callers pass only what they produced themselves")]
pub(crate) fn revive(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` is the output of `Component::serialize` of this or an earlier process of the same user, unchanged:
    // either it never left this process, or it was read from a file that only this user can write, with its checksum
    // verified after reading.
    unsafe { Component::deserialize(engine, code) }
}

impl CodeCache {
    /// Opens or makes the folder. None, with a warning, when it is not safe to use.
    pub(crate) fn open(folder: &Path, max_bytes: u64) -> Option<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        let checked = made.and_then(|()| fs::symlink_metadata(folder)).and_then(|found| {
            // No bit for group and others.
            if found.is_dir() && is_own(&found) && found.mode().trailing_zeros() >= 6 {
                Ok(())
            } else {
                Err(std::io::Error::other("it must be a folder of this user that nobody else can open (mode 700)"))
            }
        });
        match checked {
            Ok(()) => Some(Self { folder: folder.to_owned(), max_bytes }),
            Err(error) => {
                let folder = folder.display();
                tracing::warn!(%folder, %error, "compiled code is not cached: the folder cannot be used");
                None
            }
        }
    }

    /// The code of a component, if there is an entry and it is sound.
    pub(crate) fn load(&self, engine: &Engine, hash: &[u8; 32]) -> Option<Component> {
        let path = self.path(engine, hash);
        let entry = read_own(&path)?;
        let (code, sum) = entry.split_at_checked(entry.len().checked_sub(SUM_BYTES)?)?;
        if content_hash(code) != sum {
            let path = path.display();
            tracing::warn!(%path, "a damaged entry of the code cache is ignored; the component is compiled again");
            return None;
        }
        let component = revive(engine, code).ok()?;
        // So that eviction sees it as used; failing to touch it only makes it older.
        if let Ok(file) = fs::File::options().append(true).open(&path) {
            let _ = file.set_modified(wall_clock());
        }
        Some(component)
    }

    /// Keeps the code of a component. Failing costs only the next start some time.
    pub(crate) fn store(&self, component: &Component, hash: &[u8; 32]) {
        let path = self.path(component.engine(), hash);
        let stored = component
            .serialize()
            .map_err(|error| error.to_string())
            .and_then(|code| self.write(&path, &code).map_err(|error| error.to_string()));
        if let Err(error) = stored {
            let path = path.display();
            tracing::warn!(%path, error, "compiled code could not be cached");
        }
        self.evict(&path);
    }

    fn write(&self, path: &Path, code: &[u8]) -> std::io::Result<()> {
        let temporary = self.folder.join(format!("{}.tmp", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(code)
            .and_then(|()| file.write_all(&content_hash(code)))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the entries used longest ago until the rest fits; never the one just written.
    fn evict(&self, keep: &Path) {
        let Ok(found) = fs::read_dir(&self.folder) else { return };
        let mut entries: Vec<_> = found
            .filter_map(Result::ok)
            .filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == SUFFIX))
            .filter_map(|entry| {
                let found = entry.metadata().ok()?;
                Some((found.modified().ok()?, found.len(), entry.path()))
            })
            .collect();
        entries.sort();
        let mut sum: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in entries {
            if sum <= self.max_bytes {
                break;
            }
            if path != keep && fs::remove_file(&path).is_ok() {
                sum = sum.saturating_sub(bytes);
            }
        }
    }

    fn path(&self, engine: &Engine, hash: &[u8; 32]) -> PathBuf {
        let (high, low) = hash.split_at(16);
        let half = |bytes: &[u8]| bytes.iter().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
        let compatibility = compatibility(engine);
        self.folder.join(format!("{:032x}{:032x}-{compatibility:016x}.{SUFFIX}", half(high), half(low)))
    }
}

/// Which engines can run the same code.
fn compatibility(engine: &Engine) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn is_own(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// The content of a file that only this user can have written.
fn read_own(path: &Path) -> Option<Vec<u8>> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = fs::OpenOptions::new().read(true).custom_flags(no_follow).open(path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || !is_own(&found) || found.mode() & 0o022 != 0 {
        let path = path.display();
        tracing::warn!(%path, "an entry of the code cache that others could have written is ignored");
        return None;
    }
    let mut content = Vec::with_capacity(usize::try_from(found.len()).ok()?);
    file.read_to_end(&mut content).ok()?;
    Some(content)
}

#[expect(clippy::disallowed_methods, reason = "the time of a file's last use, which no decision of the bus depends on")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
