//! Builds the guests and lists them, so that a guest program without a test does not compile.
//!
//! Role: one cargo invocation, the same as `cargo xtask guests` makes, into `target/guests`: a folder of its own, so that
//! it does not wait for the lock of the build that runs this. Writes `guests.rs`, which `src/lib.rs` includes.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
const SERVICES: [&str; 16] = [
    "chat",
    "checkout",
    "greeter",
    "hello",
    "hello_raw",
    "loyalty",
    "payment",
    "quakes_alert",
    "quakes_count",
    "quakes_faulty",
    "quakes_normalise",
    "quotes",
    "shipping",
    "stock",
    "stock_broken",
    "translate",
];
/// What the services of the examples are made of. A component that `cargo xtask guests` puts into `shop/broken` only makes
/// this run again.
const EXAMPLES: [&str; 17] = [
    "bridge/Cargo.toml",
    "bridge/src",
    "chat/Cargo.toml",
    "chat/src",
    "hello/Cargo.toml",
    "hello/src",
    "hello-raw/Cargo.toml",
    "hello-raw/src",
    "shop/broken",
    "shop/checkout",
    "shop/loyalty",
    "shop/payment",
    "shop/quotes",
    "shop/shipping",
    "shop/stock",
    "shop/translate",
    "shop/wit",
];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().expect("the folder of the repository");
    for input in ["guests/Cargo.toml", "guests/Cargo.lock", "guests/sdk", "guests/programs", "guests/quakes", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    for input in EXAMPLES {
        println!("cargo::rerun-if-changed={}", root.join("examples").join(input).display());
    }
    build(&root);

    let release = root.join("target/guests").join(TARGET).join("release");
    let programs = names(&root.join("guests/programs/examples"), "rs");
    let bad = names(&root.join("guests/programs/bad"), "wat");
    let services = SERVICES.map(str::to_owned);
    let text = [
        module("programs", &programs, "The component of guests/programs/examples", |name| {
            literal(&wasm(&release.join("examples"), name))
        }),
        module("bad", &bad, "The text of guests/programs/bad", |name| {
            let path = root.join("guests/programs/bad").join(name).with_extension("wat");
            format!("include_str!({})", literal(&path))
        }),
        module("services", &services, "The component of an example's service", |name| literal(&wasm(&release, name))),
        foreach("foreach_program", "every program in guests/programs/examples", &programs),
        foreach("foreach_bad_component", "every text in guests/programs/bad", &bad),
    ];
    let out = PathBuf::from(variable("OUT_DIR")).join("guests.rs");
    std::fs::write(out, text.join("\n")).expect("cargo's folder for this build can be written");
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("cargo sets it for build scripts")
}

fn build(root: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(root.join("guests"));
    // What cargo or clippy set for the outer build is not meant for the guests.
    for name in ["RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CLIPPY_ARGS"] {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--quiet", "--locked", "--release", "--workspace", "--lib", "--examples"]);
    cargo.args(["--target", TARGET, "--target-dir", "../target/guests"]);
    let status = cargo.status().expect("cargo can be started: it runs this");
    assert!(
        status.success(),
        "building the guests failed, see above. If the target {TARGET} is missing: `cargo xtask test` adds it, or \
         `rustup target add {TARGET}`"
    );
}

/// The stems of the files with an extension, sorted.
fn names(folder: &Path, extension: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("a folder of guests");
    let paths = files.map(|file| file.expect("an entry of the folder").path());
    let fitting = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let mut names: Vec<_> = fitting.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn wasm(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name).with_extension("wasm");
    assert!(path.is_file(), "{} was not built: is it an [[example]] of guests/programs/Cargo.toml?", path.display());
    path
}

/// A path as Rust source.
fn literal(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// A module with a constant per name, and one of all.
fn module(module: &str, names: &[String], what: &str, value: impl Fn(&str) -> String) -> String {
    let mut lines = vec![format!("/// {what}, by name.\npub mod {module} {{")];
    for name in names {
        lines.push(format!("/// {what}: `{name}`.\npub const {}: &str = {};", name.to_uppercase(), value(name)));
    }
    lines.push("/// All of them, with their names.\npub const ALL: &[(&str, &str)] = &[".to_owned());
    lines.extend(names.iter().map(|name| format!("({name:?}, {}),", name.to_uppercase())));
    lines.push("];\n}".to_owned());
    lines.join("\n")
}

/// A macro that calls another with each name.
fn foreach(name: &str, what: &str, names: &[String]) -> String {
    let mut lines =
        vec![format!("/// Calls a macro with the name of {what}.\n#[macro_export]\nmacro_rules! {name} {{")];
    lines.push("($mac:ident) => {".to_owned());
    lines.extend(names.iter().map(|name| format!("$mac! {{ {name} }}")));
    lines.push("};\n}".to_owned());
    lines.join("\n")
}
