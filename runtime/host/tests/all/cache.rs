//! The code cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use busway_host::{Compiling, Host, HostConfig};

use crate::support::{guest, task_guest};

/// Compiles the guest on a new host with this cache, and tells whether the code came from it.
fn from_cache(folder: &Path) -> bool {
    let loaded = Arc::new(AtomicBool::new(false));
    let heard = loaded.clone();
    let progress = move |_: &str, _: usize, event| {
        heard.fetch_or(matches!(event, Compiling::Loaded(_)), Ordering::Relaxed);
    };
    let config =
        HostConfig { cache: Some(folder.to_owned()), progress: Some(Arc::new(progress)), ..HostConfig::default() };
    Host::new(config).expect("a host").compile("guest", guest()).expect("the guest compiles");
    loaded.load(Ordering::Relaxed)
}

fn entry(folder: &Path) -> std::path::PathBuf {
    fs::read_dir(folder).unwrap().next().expect("an entry").unwrap().path()
}

#[test]
fn the_second_start_takes_the_code_from_the_cache() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("code");
    assert!(!from_cache(&folder));
    assert!(from_cache(&folder));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(entry(&folder)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("code");
    from_cache(&folder);
    let path = entry(&folder);
    let mut code = fs::read(&path).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    fs::write(&path, &code).unwrap();
    assert!(!from_cache(&folder));
    assert!(from_cache(&folder), "the entry was mended");
    fs::write(&path, b"short").unwrap();
    assert!(!from_cache(&folder));
}

#[test]
fn what_others_could_have_written_is_not_run() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("code");
    from_cache(&folder);
    fs::set_permissions(entry(&folder), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!from_cache(&folder));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!from_cache(&folder));
}

#[test]
fn identical_components_share_their_code() {
    let compilations = Arc::new(Mutex::new(0));
    let heard = compilations.clone();
    let progress = move |_: &str, _: usize, event| *heard.lock().unwrap() += i32::from(event == Compiling::Started);
    let config = HostConfig { progress: Some(Arc::new(progress)), ..HostConfig::default() };
    let host = Host::new(config).expect("a host");
    let kept: Vec<_> = (0..100).map(|_| host.compile("guest", guest()).expect("it compiles")).collect();
    assert_eq!((kept.len(), *compilations.lock().unwrap()), (100, 1));
}

#[test]
fn what_was_used_longest_ago_goes_when_the_cache_is_full() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("code");
    from_cache(&folder);
    let first = entry(&folder);
    let bytes = fs::metadata(&first).unwrap().len();
    // Room for two and a bit of three.
    let config = HostConfig { cache: Some(folder.clone()), cache_bytes: bytes * 5 / 2, ..HostConfig::default() };
    let compile =
        |binary: &[u8]| drop(Host::new(config.clone()).expect("a host").compile("g", binary).expect("compiles"));
    compile(&task_guest("(drop (i32.const 1))"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    // Using it makes it the younger one.
    let old = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let second = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).find(|path| *path != first).unwrap();
    fs::File::options().append(true).open(&second).unwrap().set_modified(old(&first)).unwrap();
    assert!(from_cache(&folder));
    assert!(old(&first) > old(&second));
    compile(&task_guest("(drop (i32.const 2))"));
    assert!(first.exists() && !second.exists());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
}
