//! What `busway new` writes compiles and works, for every role and every type.

use std::path::{Path, PathBuf};
use std::process::Command;

use busway_gateway::api::ServiceState;

use crate::harness::{App, text};

/// Every kind of type and of name that is awkward in Rust.
const HARD: &str = r#"package test:hard@1.2.0;
interface types {
  enum colour { red, green-ish }
  flags rights { read, write }
  record point { x: f64, y: f32 }
  record guest { %type: string, at: point, self: option<u8> }
  variant shape { nothing, dot(point), polygon(list<point>), named(tuple<string, colour>) }
  type id = string;
  type ids = list<id>;
}
interface %interface {
  use types.{guest, shape as form, rights, colour, ids, id, point};
  variant failure { retry(string), reject(string) }
  /// With "quotes" and {braces}.
  %record: func(key: string, %type: guest, fn: form) -> result<_, failure>;
  fn: func(rights: rights, colour: colour, ids: ids, id: id);
  move: func(
    a: list<string>, b: list<u8>, c: option<string>, d: tuple<string, u8>, e: result<string, u8>, f: list<u32, 3>,
    g: option<ids>, h: tuple<u8, s64>, i: point, j: result, k: list<list<point>>, l: char, m: map<string, u32>,
    n: option<guest>, o: list<guest>, p: result<guest, id>, q: option<id>,
  ) -> result;
  nothing: func();
  quote: func(id: id) -> result<u64, string>;
  price: func(ids: ids) -> u64;
  check: func(g: guest) -> result<string, failure>;
  point-of: func() -> point;
}
interface other {
  use types.{point};
  moved: func(p: point);
}
"#;

/// `busway new`, in a folder.
pub(crate) fn scaffold(folder: &Path, arguments: &[&str]) {
    let made = Command::new(busway_tests::busway()).current_dir(folder).arg("new").args(arguments).output();
    let made = made.expect("the binary starts");
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Builds the project as its user does, with the crates that the guests were built with; gives the component.
fn build(folder: &Path, name: &str) -> PathBuf {
    let root = busway_tests::root().canonicalize().expect("the repository");
    let target = root.join("target/guests");
    std::fs::copy(root.join("guests/Cargo.lock"), folder.join(name).join("Cargo.lock")).expect("copied");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for variable in ["RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CLIPPY_ARGS"] {
        cargo.env_remove(variable);
    }
    cargo.env("CARGO_TARGET_DIR", &target).current_dir(folder.join(name));
    let built = cargo.args(["build", "--release", "--offline"]).output().expect("cargo starts");
    assert!(built.status.success(), "{name}: {}", String::from_utf8_lossy(&built.stderr));
    let release = target.join("wasm32-wasip2/release");
    let files = [name.to_owned(), name.replace('-', "_")].map(|file| release.join(file).with_extension("wasm"));
    files.into_iter().find(|file| file.is_file()).expect("a component")
}

fn put(app: App, component: &Path, name: &str) -> App {
    app.with(component.to_str().expect("UTF-8"), name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_of_every_role_compiles_and_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut app = App::new();
    for (name, arguments) in [
        ("new-notes", &["new-notes"][..]),
        ("new-writer", &["new-writer", "--role", "producer", "--contract", "new-notes/wit"]),
        ("new-loud", &["new-loud", "--role", "raw"]),
        ("new-beat", &["new-beat", "--role", "task"]),
    ] {
        scaffold(folder.path(), arguments);
        app = put(app, &build(folder.path(), name), name);
    }
    let bus = app.run().await;
    let finished = |name: &str| {
        let name = name.to_owned();
        move |status: &busway_gateway::api::StatusReport| {
            status
                .services
                .iter()
                .any(|service| service.name.as_str() == name && service.state == ServiceState::Finished)
        }
    };
    bus.until("the producer is done", finished("new-writer")).await;
    bus.until("the task is done", finished("new-beat")).await;
    bus.send("public.new-loud", "abc").await;
    bus.idle().await;
    let notes = bus.service("new-notes").await;
    assert_eq!((notes.acked, notes.dead_lettered), (2, 0), "both events of the example contract");
    let written = bus.tail("new-notes.events.v1.notes.written").await;
    assert_eq!(written[0].key.as_deref(), Some("example"));
    assert_eq!(text(&written[0]), r#"{"key":"example","note":{"title":"example","body":"example","tags":[]}}"#);
    assert_eq!(bus.texts("public.new-loud.out").await, ["ABC"]);
    assert_eq!(bus.texts("public.new-beat").await, ["number 1", "number 2", "number 3"]);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_compiles_for_every_type_and_every_awkward_name() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("wit")).expect("made");
    std::fs::write(folder.path().join("wit/hard.wit"), HARD).expect("written");
    let app = App::new();
    scaffold(folder.path(), &["new-hard", "--contract", "test:hard"]);
    let handler = build(folder.path(), "new-hard");
    // The contract of a component alone, without its WIT.
    scaffold(folder.path(), &["new-harder", "--role", "producer", "--contract", handler.to_str().expect("UTF-8")]);
    build(folder.path(), "new-harder");
    scaffold(folder.path(), &["new-hardest", "--role", "producer", "--contract", "wit/hard.wit"]);
    let app = put(put(app, &handler, "new-hard"), &build(folder.path(), "new-hardest"), "new-hardest");
    let bus = app.run().await;
    // Its requests are answered with errors, which may end it; events come first.
    let handled =
        |service: &busway_gateway::api::ServiceStatus| service.name.as_str() == "new-hard" && service.acked >= 5;
    bus.until("the events are handled", |status| status.services.iter().any(handled)).await;
    assert_eq!(bus.service("new-hard").await.dead_lettered, 0);
    let mut topics: Vec<_> =
        bus.tail("test.hard.v1.>").await.into_iter().map(|event| event.topic.to_string()).collect();
    topics.retain(|topic| !["quote", "price", "check", "point-of"].iter().any(|request| topic.ends_with(request)));
    topics.sort();
    let events = ["interface.fn", "interface.move", "interface.nothing", "interface.record", "other.moved"];
    assert_eq!(topics, events.map(|event| format!("test.hard.v1.{event}")));
    bus.stop().await;
}

/// The first block of a language after a heading of the README.
fn shown(readme: &str, heading: &str, language: &str) -> String {
    let section = readme.split_once(heading).expect("the heading").1;
    let block = section.split_once(&format!("```{language}\n")).expect("a block").1;
    block.split_once("```").expect("its end").0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_shows_of_contracts_compiles_and_runs() {
    let readme = std::fs::read_to_string(busway_tests::root().join("README.md")).expect("the README");
    let heading = "\n## Event contracts\n";
    let folder = tempfile::tempdir().expect("a folder");
    scaffold(folder.path(), &["readme-service"]);
    let project = folder.path().join("readme-service");
    std::fs::remove_dir_all(project.join("wit")).expect("removed");
    std::fs::create_dir(project.join("wit")).expect("made");
    std::fs::write(project.join("wit/orders.wit"), shown(&readme, heading, "wit")).expect("written");
    std::fs::write(project.join("src/lib.rs"), shown(&readme, heading, "rust")).expect("written");
    let app = put(App::new(), &build(folder.path(), "readme-service"), "readme-service");
    let bus = app.run().await;
    let patterns = bus.service("readme-service").await.subscriptions.remove(0).patterns;
    assert_eq!(patterns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop.orders.v1.orders.placed"]);
    bus.stop().await;
}
