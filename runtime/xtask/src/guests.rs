//! Building what is compiled to Wasm.
//!
//! Role: one cargo invocation for the whole workspace `guests/`, into a target folder of its own so that it never waits
//! for the lock of the runtime's build; then the services of the examples go where the manifests of the examples
//! look for them.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// The target of every guest.
const TARGET: &str = "wasm32-wasip2";

/// Services of the examples: the folder, and the crates' file names.
const EXAMPLES: [(&str, &[&str]); 7] = [
    ("bridge/services", &["greeter"]),
    ("chat/services", &["chat"]),
    ("hello/services", &["hello"]),
    ("hello-raw/services", &["hello_raw"]),
    ("quakes/services", &["quakes_normalise", "quakes_alert", "quakes_count", "quakes_faulty"]),
    ("shop/services", &["checkout", "loyalty", "payment", "quotes", "shipping", "stock", "translate"]),
    ("shop/broken", &["stock_broken"]),
];

/// Builds all guests and puts the services of the examples where their manifests look for them.
pub(crate) fn build() -> Result<()> {
    ensure_target()?;
    let root = process::root();
    let built = root.join("target/guests").join(TARGET).join("release");
    process::say("building the guests (wasm32-wasip2)");
    let mut cargo = process::cargo();
    cargo.current_dir(root.join("guests")).env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
    cargo.args(["build", "--quiet", "--locked", "--release", "--workspace", "--lib", "--examples"]);
    process::run(cargo.args(["--target", TARGET, "--target-dir", "../target/guests"]))?;
    for (folder, services) in EXAMPLES {
        let folder = root.join("examples").join(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for service in services {
            copy(&built.join(service).with_extension("wasm"), &folder.join(service).with_extension("wasm"))?;
        }
    }
    Ok(())
}

/// Copies by rename, so that a node that watches the folder never sees half a file; leaves equal files alone.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let new = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let part = to.with_extension("part");
    std::fs::write(&part, new)
        .and_then(|()| std::fs::rename(&part, to))
        .with_context(|| format!("cannot write {}", to.display()))
}

/// Adds the target if it is missing. Without rustup it must have come with the toolchain.
fn ensure_target() -> Result<()> {
    if target_is_installed()? {
        return Ok(());
    }
    process::say("adding the Rust target wasm32-wasip2 (rustup target add wasm32-wasip2)");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(process::root()).args(["target", "add", TARGET]);
    match rustup.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!(
            "rustup could not add the target {TARGET}; its message is above. Without a network, install the component \
             `rust-std` for {TARGET} of the same toolchain by hand, then try again"
        ),
        Err(error) => bail!(
            "the Rust target {TARGET} is missing and rustup cannot be started ({error}). Install rustup from \
             https://rustup.rs, or the standard library for {TARGET} the way your Rust was installed"
        ),
    }
}

/// Whether the compiler in use has a standard library for the target.
fn target_is_installed() -> Result<bool> {
    let output = process::command(Path::new(&std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())))
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start rustc; is Rust installed? (https://rustup.rs)")?;
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(folder.trim()).is_dir())
}
