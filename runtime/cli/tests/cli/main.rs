//! What people are told: the messages that matter, word for word, from the binary itself.

mod admin;
mod contract;
mod gateway;
mod harness;
mod log;
mod new;

use std::fs;

use harness::{Sandbox, text};

#[test]
fn without_a_node_the_next_step_is_told() {
    let sandbox = Sandbox::new();
    let run = sandbox.busway(&["status"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr, "error: no node is running (none is announced in RUNTIME); start one with `busway run`\n");
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    let sandbox = Sandbox::new();
    for (arguments, message) in [
        (&["publish", "a b"][..], "the topic `a b` has ' ' at byte 1"),
        (&["publish"], "<TOPIC>"),
        (&["publish", "a", "--header", "x"], "write NAME=VALUE"),
        (&["publish", "a", "--delay", "5"], "`5` is not a duration"),
        (&["tail", "a..b"], "has an empty token at byte 2"),
        (&["tail", "--from", "yesterday"], "is no place to start from"),
        (&["dead", "list", "--reason", "bored"], "the reasons are rejected, exhausted, trapped, timed-out and loop"),
        (&["dead", "show", "7"], "`7` is not an event id"),
        (&["run", "--engine", "kafka://x"], "this build has no engine for `kafka:`"),
        (&["run", "--engine", "amqp://me:pw@x?y=1"], "`y` is no option of RabbitMQ"),
        (&["run", "--engine", "nats://me:pw@x?y=1"], "`y` is no option of NATS"),
        (&["run", "--engine", "memory:", "--data", "x"], "cannot be used with"),
        (&["stauts"], "a similar subcommand exists: 'status'"),
    ] {
        let run = sandbox.busway(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{arguments:?} told\n{}", run.stderr);
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_value_that_is_far_too_long_is_told_by_its_start_and_its_length() {
    let run = Sandbox::new().busway(&["publish", &"x".repeat(10_000)]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("xxx… (10000 bytes)"), "{}", run.stderr);
    assert!(run.stderr.contains("at most 255 are allowed") && run.stderr.len() < 400, "{}", run.stderr);
}

#[test]
fn help_goes_to_stdout_and_shows_an_example() {
    let sandbox = Sandbox::new();
    for command in [
        "new",
        "dev",
        "run",
        "check",
        "inspect",
        "contract",
        "publish",
        "tail",
        "status",
        "dead",
        "kv",
        "log",
        "completions",
    ] {
        let run = sandbox.busway(&[command, "--help"]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains("Example"), "{command}");
        assert!(run.stdout.contains("--json"), "{command}");
        assert_eq!(run.stderr, "");
    }
}

#[test]
fn completions_know_the_commands() {
    let run = Sandbox::new().busway(&["completions", "bash"]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.contains("publish"));
}

#[test]
fn a_folder_without_components_says_where_cargo_puts_them() {
    let sandbox = Sandbox::new();
    for command in [&["check"][..], &["run", "--no-watch"], &["run", "--exit-when-idle"]] {
        let run = sandbox.busway(&[command, &[&text(sandbox.path())]].concat());
        assert_eq!(run.code, 1);
        assert_eq!(
            run.stderr,
            "error: there are no .wasm files and no busway.toml in SANDBOX; build a component with `cargo build --release \
             --target wasm32-wasip2`, which puts it into target/wasm32-wasip2/release/, and copy it here\n"
        );
    }
}

#[test]
fn what_is_not_enabled_is_not_refused_and_what_is_never_idle_is_said() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.path().join("busway.toml");
    std::fs::write(sandbox.path().join("bad.wasm"), b"nothing").expect("a file");
    let service = "[services.bad]\ncomponent = \"bad.wasm\"\nschedule = \"0 6 * * *\"\nemit = \"t\"\nenabled = ";
    std::fs::write(&manifest, format!("{service}false\n")).expect("a manifest");
    let run = sandbox.busway(&["check", &text(&manifest)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.starts_with("off bad: enabled = false; if it were enabled it would be refused: "),
        "{}",
        run.stdout
    );
    std::fs::write(&manifest, format!("{service}true\n")).expect("a manifest");
    let run = sandbox.busway(&["check", &text(&manifest)]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    // It cannot start there, and has said so by then.
    let run = sandbox.busway(&["run", &text(&manifest), "--exit-when-idle", "--admin", "192.0.2.1:1"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("service `bad` has a schedule, so the node is never idle"), "{}", run.stderr);
    assert!(run.stderr.contains("can be reached from other machines"), "{}", run.stderr);
}

#[test]
fn mistakes_in_a_manifest_are_shown_with_their_place() {
    let sandbox = Sandbox::new();
    let manifest = sandbox.path().join("busway.toml");
    fs::write(&manifest, "[services.stock]\nconcurency = 4\ntimeout = 5\n").expect("a manifest");
    let run = sandbox.busway(&["check", &text(&manifest)]);
    assert_eq!(run.code, 1);
    assert_eq!(
        run.stderr,
        "error: SANDBOX/busway.toml:2:1: unknown key `concurency` in [services.stock]\n\
        \x20 2 | concurency = 4\n\
        \x20   | ^^^^^^^^^^\n\
        \x20   = did you mean `concurrency`?\n\
        SANDBOX/busway.toml:3:11: `timeout` in [services.stock] is an integer; expected a duration\n\
        \x20 3 | timeout = 5\n\
        \x20   |           ^\n\
        \x20   = write it with its unit, such as \"200ms\"\n"
    );
}

#[test]
fn what_is_no_component_is_refused_with_what_it_is() {
    let sandbox = Sandbox::new();
    let module = b"\0asm\x01\0\0\0";
    for (name, content, message) in [
        ("empty", &b""[..], "the file is empty; is it still being written?"),
        ("text", b"hello", "this is not WebAssembly: it starts with \"hello\""),
        ("module", module, "this is a core module, not a component"),
        ("cut", &module[..6], "cut off after 6 bytes"),
    ] {
        let file = sandbox.path().join(format!("{name}.wasm"));
        fs::write(&file, content).expect("a file");
        let run = sandbox.busway(&["inspect", &text(&file)]);
        assert_eq!(run.code, 1, "{name}");
        assert!(run.stderr.starts_with(&format!("error: SANDBOX/{name}.wasm: ")), "{}", run.stderr);
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert_eq!(run.stderr.matches(message).count(), 1, "told once: {}", run.stderr);
    }
    let run = sandbox.busway(&["check", &text(sandbox.path()), "--json"]);
    assert_eq!(run.code, 1);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report["ok"], false);
    assert_eq!(report["services"].as_array().map(Vec::len), Some(4));
    let missing = sandbox.busway(&["inspect", "nothing.wasm"]);
    assert!(missing.stderr.contains("nothing.wasm: the file cannot be read: No such file"), "{}", missing.stderr);
}
