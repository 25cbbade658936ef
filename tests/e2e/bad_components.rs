//! Files that are no services: each is refused with a reason a newcomer understands, and the others go on. Each text of
//! guests/programs/bad has a test of its name.

use crate::harness::{App, Bus};
use busway_tests::{assemble, bad, programs};

/// The reason for which a file is refused, beside a healthy service.
async fn refused(name: &str, bytes: &[u8]) -> String {
    let app = App::new().with(programs::COUNT, "healthy");
    app.write(&format!("{name}.wasm"), bytes);
    let bus = app.run().await;
    assert_eq!(bus.service("healthy").await.state.as_str(), "running");
    let reason = reason(&bus, name).await;
    bus.stop().await;
    reason
}

async fn reason(bus: &Bus, name: &str) -> String {
    let refused = bus.status().await.refused;
    let found = refused.iter().find(|file| file.path.ends_with(&format!("{name}.wasm")));
    found.unwrap_or_else(|| panic!("{name} is not refused: {refused:?}")).reason.clone()
}

macro_rules! bad_text {
    ($name:ident, $text:expr, [$($part:literal),+]) => {
        #[tokio::test(flavor = "multi_thread")]
        pub(crate) async fn $name() {
            let reason = refused(stringify!($name), &assemble($text)).await;
            for part in [$($part),+] {
                assert!(reason.contains(part), "{part:?} is not in: {reason}");
            }
        }
    };
}

bad_text!(core_module, bad::CORE_MODULE, ["core module", "wasm32-wasip2"]);
bad_text!(exports_nothing, bad::EXPORTS_NOTHING, ["exports nothing that busway runs", "busway:bus/handler"]);
bad_text!(unknown_import, bad::UNKNOWN_IMPORT, ["imports", "does not have"]);
bad_text!(misspelt_import, bad::MISSPELT_IMPORT, ["does not have", "closest"]);
bad_text!(newer_version, bad::NEWER_VERSION, ["this host has", "0.1"]);
bad_text!(wrong_types, bad::WRONG_TYPES, ["busway:bus/handler", "handle"]);
bad_text!(
    http_only,
    bad::HTTP_ONLY,
    ["used in another form", "wasi:http/types", "http-error-code", "as it was published"]
);
bad_text!(half_a_handler, bad::HALF_A_HANDLER, ["busway:bus/handler"]);

/// A component that can be linked but not instantiated is refused when it is asked for its subscriptions.
#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn traps_at_start() {
    let reason = refused("traps_at_start", &assemble(bad::TRAPS_AT_START)).await;
    assert!(reason.contains("unreachable"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_wasm_are_refused_with_what_they_are() {
    let whole = std::fs::read(programs::COUNT).expect("built");
    let random: Vec<u8> = (0..2_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (name, bytes, part) in [
        ("empty", Vec::new(), "empty"),
        ("truncated", whole[..whole.len() / 2].to_vec(), ""),
        ("random", random, "not WebAssembly"),
        ("text", b"fn main() {}".to_vec(), "fn main"),
    ] {
        let reason = refused(name, &bytes).await;
        assert!(reason.contains(part) && !reason.is_empty(), "{name}: {reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_two_hundred_megabytes_is_refused_without_being_read() {
    let app = App::new().with(programs::COUNT, "healthy");
    let path = app.write("huge.wasm", b"\0asm");
    let file = std::fs::File::options().write(true).open(path).expect("opened");
    file.set_len(200 * 1024 * 1024).expect("a sparse file");
    let bus = app.run().await;
    assert!(reason(&bus, "huge").await.contains("at most"), "{}", reason(&bus, "huge").await);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_manifest_only_public_topics_are_open() {
    let app = App::new().with(programs::ECHO, "echo");
    let bus = app.run().await;
    let reason = reason(&bus, "echo").await;
    assert!(reason.contains("bench.>") && reason.contains("[services.echo]"), "{reason}");
    bus.stop().await;
}
