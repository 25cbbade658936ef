//! The validators of documents, which are npm packages: `tests/documents` has their lock file.

use std::path::Path;

use anyhow::Result;

use crate::process::{command, root, run, say};

/// Installs what the lock file says, unless that was done. Without npm the tests that need it say so.
pub(crate) fn install() -> Result<()> {
    let folder = root().join("tests/documents");
    let changed = |path: &str| folder.join(path).metadata().and_then(|found| found.modified()).ok();
    // npm writes this file when it is done.
    if changed("node_modules/.package-lock.json").is_some_and(|done| Some(done) >= changed("package-lock.json")) {
        return Ok(());
    }
    let npm = Path::new("npm");
    if command(npm).arg("--version").output().is_err() {
        say("npm is not installed (Node 20 or newer has it): the tests of AsyncAPI and OpenAPI documents will fail");
        return Ok(());
    }
    // Nothing of what is installed may run while it is installed.
    let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(command(npm).args(words).current_dir(folder))
}
