//! The direction in which crates may depend on each other, as ARCHITECTURE.md draws it.

use std::collections::BTreeMap;
use std::process::Command;

use super::files::none;

/// Every crate of the runtime with what it may use of the others.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("busway-types", &[]),
    ("busway-log", &["busway-types"]),
    ("busway-dispatch", &["busway-types"]),
    ("busway-contract", &["busway-types"]),
    ("busway-host", &["busway-types", "busway-contract"]),
    ("busway-engine", &["busway-types", "busway-log"]),
    ("busway-gateway", &["busway-types", "busway-contract"]),
    ("busway-bridge", &["busway-types", "busway-engine"]),
    (
        "busway-node",
        &[
            "busway-types",
            "busway-log",
            "busway-dispatch",
            "busway-contract",
            "busway-host",
            "busway-engine",
            "busway-gateway",
            "busway-bridge",
        ],
    ),
    (
        "busway-cli",
        &[
            "busway-types",
            "busway-log",
            "busway-contract",
            "busway-host",
            "busway-engine",
            "busway-gateway",
            "busway-node",
        ],
    ),
    ("busway-fuzz", &["busway-types", "busway-contract", "busway-log", "busway-gateway", "busway-node"]),
    ("busway-sim", &["busway-types", "busway-log", "busway-dispatch", "busway-engine"]),
    ("busway-brokers", &[]),
    ("busway-xtask", &["busway-brokers"]),
    (
        "busway-tests",
        &[
            "busway-types",
            "busway-log",
            "busway-dispatch",
            "busway-contract",
            "busway-host",
            "busway-engine",
            "busway-gateway",
            "busway-node",
        ],
    ),
];

/// Dependencies that only these crates may have, by how their names begin.
const RESERVED: [(&str, &[&str]); 2] = [
    ("wasmtime", &["busway-host"]),
    (
        "tokio",
        &[
            "busway-host",
            "busway-engine",
            "busway-gateway",
            "busway-bridge",
            "busway-node",
            "busway-cli",
            "busway-tests",
        ],
    ),
];

/// What each crate of the workspace depends on, in normal and build dependencies.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(busway_tests::root())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let of = |package: &serde_json::Value| {
        let all = package["dependencies"].as_array().expect("dependencies").iter();
        all.filter(|dependency| dependency["kind"] != "dev").map(|dependency| text(&dependency["name"])).collect()
    };
    packages.map(|package| (text(&package["name"]), of(package))).collect()
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let may_use = BTreeMap::from(MAY_USE);
    let mut broken = Vec::new();
    for (name, dependencies) in dependencies() {
        let Some(allowed) = may_use.get(name.as_str()) else {
            broken.push(format!("{name} has no place: say in MAY_USE what it may use"));
            continue;
        };
        let ours = dependencies.iter().filter(|dependency| dependency.starts_with("busway-"));
        let wrong = ours.filter(|dependency| !allowed.contains(&dependency.as_str()));
        broken.extend(wrong.map(|dependency| format!("{name} uses {dependency}")));
    }
    none("types <- {log, dispatch, contract, host} <- engine, gateway <- bridge <- node <- cli", &broken);
}

#[test]
fn heavy_dependencies_stay_in_their_crates() {
    let mut broken = Vec::new();
    for (name, dependencies) in dependencies() {
        for (begin, holders) in RESERVED {
            let found = dependencies.iter().filter(|dependency| dependency.starts_with(begin));
            broken.extend(
                found
                    .filter(|_| !holders.contains(&name.as_str()))
                    .map(|dependency| format!("{name} uses {dependency}, which belongs to {holders:?}")),
            );
        }
    }
    none("only the host knows wasmtime; log and dispatch are not asynchronous", &broken);
}
