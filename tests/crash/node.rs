//! The application of the crash test, and where its nodes run.

use std::path::{Path, PathBuf};

pub(crate) use busway_tests::node::{Address, Node, PATIENCE, agent};
use busway_tests::programs;

/// How many services the application has.
pub(crate) const SERVICES: usize = 8;

/// The folders of the test.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    /// Where the queues live.
    engine: String,
}

impl Place {
    /// Writes the application into an empty folder. Its queues live there too, unless they live at `engine`.
    pub(crate) fn new(folder: &Path, engine: Option<&str>) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for the test");
        let settings = "retry = { attempts = 1000, backoff = \"1ms\", backoff-max = \"30ms\" }\nfrom = \"start\"\n";
        let services = [
            ("forward", programs::FORWARD, "crash.in", "config = { to = \"crash.forwarded\" }\n"),
            ("relay", programs::FORWARD, "crash.forwarded", "config = { to = \"crash.relayed\" }\n"),
            ("later", programs::FORWARD, "crash.later", "config = { to = \"crash.later.done\" }\n"),
            ("count", programs::COUNT, "crash.in", ""),
            ("recount", programs::COUNT, "crash.relayed", "concurrency = 2\n"),
            ("rewrite", programs::KV_RMW, "crash.in", "concurrency = 2\n"),
            ("tally", programs::TALLY, "crash.in", "config = { to = \"crash.tallied\" }\n"),
            ("flaky", programs::FLAKY, "crash.in", "config = { to = \"crash.flaky\" }\ntimeout = \"300ms\"\n"),
        ];
        let table = |(name, component, topic, more): &(&str, &str, &str, &str)| {
            let (subscribe, publish) = (format!("subscribe = [\"{topic}\"]\n"), "publish = [\"crash.>\"]\n");
            format!("[services.{name}]\ncomponent = {component:?}\n{subscribe}{publish}{settings}{more}\n")
        };
        let manifest: String = services.iter().map(table).collect();
        std::fs::write(folder.join("busway.toml"), manifest).expect("the manifest is written");
        let on_disk = || format!("file:{}", folder.join("data").display());
        let engine = engine.map_or_else(on_disk, ToOwned::to_owned);
        Self { folder: folder.to_owned(), engine }
    }

    /// Starts a node on what the last one left.
    pub(crate) fn start(&self) -> Node {
        Node::start(&self.folder, &self.engine, &[])
    }

    /// The end of what the nodes said.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.join("node.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
