//! The examples that have a gateway, run by the commands and the programs of their READMEs as those stand there. Only the
//! port differs, and the components are those that were built with the tests.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use busway_tests::{SHOP, programs, root, services};
use serde_json::Value;

use crate::browser::{Browser, Driver};
use crate::gateway::Told;
use crate::process::{PATIENCE, ask, command};

use super::curl::curl;
use super::doors::{everything, make_key, ready};
use super::until;

/// An example in a folder of its own, as `cargo xtask guests` leaves it.
struct Example {
    folder: tempfile::TempDir,
    readme: String,
}

impl Example {
    fn new(name: &str, files: &[&str], components: &[(&str, &str)]) -> Self {
        let (folder, from) = (tempfile::tempdir().expect("a folder"), root().join("examples").join(name));
        let to = folder.path().join("examples").join(name);
        std::fs::create_dir_all(to.join("services")).expect("folders");
        for file in files {
            let text = std::fs::read_to_string(from.join(file)).expect("a file of the example");
            // A port that is free, in the only place that names it.
            std::fs::write(to.join(file), text.replace("127.0.0.1:8080", "127.0.0.1:0")).expect("written");
        }
        for (name, component) in components {
            std::fs::copy(component, to.join("services").join(name).with_extension("wasm")).expect("copied");
        }
        Self { folder, readme: std::fs::read_to_string(from.join("README.md")).expect("a README") }
    }

    /// The command lines of the README, without comments, and what follows each to the next or the end of the block.
    fn commands(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for block in self.readme.split("```console\n").skip(1) {
            let block = block.split("```").next().expect("a block");
            for command in block.split("$ ").skip(1) {
                // A line that ends with a backslash goes on.
                let whole = command.replace("\\\n", " ");
                let (line, output) = whole.split_once('\n').unwrap_or((&whole, ""));
                let line = line.split(" #").next().unwrap_or(line).trim();
                found.push((line.to_owned(), output.trim_end().to_owned()));
            }
        }
        found
    }

    /// The program in the first block of a language.
    fn program(&self, language: &str, url: &str) -> String {
        let (_, rest) = self.readme.split_once(&format!("```{language}\n")).expect("a program");
        rest.split("```").next().expect("its end").replace("http://127.0.0.1:8080", url)
    }

    /// Runs the node as its only command line with `busway run` says.
    fn run(&self, line: &str) -> Told {
        assert!(self.commands().iter().any(|(command, _)| command == line), "{line} in {:?}", self.commands());
        let app = line.trim_end_matches(" &").strip_prefix("busway run ").expect("a node");
        Told::start_with(&self.folder.path().join(app).display().to_string(), &[], &[])
    }
}

/// A program that goes on until the test has seen what it wanted.
struct Running {
    child: Child,
    lines: Receiver<String>,
    /// What it told and nobody has asked for.
    seen: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask test` installs it"));
        let (told, lines) = sync_channel(1_000);
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains this; each counts once.
    fn line(&mut self, wanted: &str) {
        loop {
            if let Some(at) = self.seen.iter().position(|line| line.contains(wanted)) {
                self.seen.remove(at);
                return;
            }
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(error) => panic!("no line with {wanted:?} ({error}): {:?}", self.seen),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `busway ARGUMENTS`, as a shell reads them.
fn busway(told: &Told, line: &str) -> Command {
    let binary = busway_tests::busway().display().to_string();
    let mut shell = Command::new("sh");
    shell.env("BUSWAY_RUNTIME_DIR", told.runtime.path()).env("NO_COLOR", "1");
    shell.args(["-c", &format!("exec {}", line.trim_end_matches(" &").replacen("busway", &binary, 1))]);
    shell
}

#[test]
fn hello_answers_as_its_readme_says_and_its_next_version_takes_over() {
    let hello = Example::new("hello", &["busway.toml"], &[("hello", services::HELLO)]);
    let commands = hello.commands();
    let words: Vec<&str> = commands.iter().filter_map(|(line, _)| line.split(' ').next()).collect();
    assert_eq!(
        words,
        ["cargo", "busway", "curl", "rustup", "cargo"],
        "nothing in it that is not run here or by the build"
    );
    let told = hello.run("busway run examples/hello &");
    let url = ready(&told);
    let (line, shown) = &commands[2];
    let line = line.replace("http://127.0.0.1:8080", &url);
    let output = Command::new("sh").args(["-c", &format!("{line} --no-progress-meter")]).output().expect("sh runs");
    assert_eq!(&String::from_utf8_lossy(&output.stdout), shown, "{line}");
    assert!(
        String::from_utf8_lossy(&busway(&told, "busway status").output().expect("it runs").stdout).contains("hello")
    );
    // Built again while the node runs.
    let component = hello.folder.path().join("examples/hello/services/hello.wasm");
    std::fs::copy(programs::WEB, component.with_extension("part")).expect("copied");
    std::fs::rename(component.with_extension("part"), &component).expect("renamed");
    until("the next version answers", || curl(&[&url]).body == "hello");
}

#[test]
fn chat_runs_the_programs_and_commands_of_its_readme() {
    let chat = Example::new("chat", &["busway.toml", "page.html"], &[("chat", services::CHAT)]);
    let told = chat.run("busway run examples/chat/busway.toml");
    let url = ready(&told);
    assert!(chat.readme.contains("`busway tail 'chat.>'`"));
    let mut tail = Running::start(busway(&told, "busway tail 'chat.>' --from start"));

    let mut node = Command::new("node");
    node.current_dir(root().join("tests/socketio"));
    node.args(["--input-type=module", "--eval", &chat.program("js", &url)]);
    let mut node = Running::start(node);
    node.line("hello");
    let python = root().join("target/tools/tests-socketio-requirements-txt/bin/python");
    let mut client = Command::new(python);
    client.args(["-u", "-c", &chat.program("python", &url)]);
    let mut client = Running::start(client);
    client.line("hello");
    // The one in the same room heard it too.
    node.line("hello");
    for topic in ["chat.in.my-event", "chat.out.my-response"] {
        tail.line(topic);
    }
    let (_, publish) = chat.readme.split_once("`busway publish ").expect("a command");
    let publish = format!("busway publish {}", publish.split('`').next().expect("its end"));
    let published = busway(&told, &publish).output().expect("it runs");
    assert!(published.status.success(), "{publish}: {}", String::from_utf8_lossy(&published.stderr));
    node.line("from outside");
    client.line("from outside");
}

fn shop() -> Example {
    Example::new("shop", &["busway.toml"], &SHOP)
}

#[test]
fn the_shop_ships_what_its_readme_orders() {
    let shop = shop();
    let commands = shop.commands();
    let told = shop.run("busway run examples/shop/services &");
    // A node needs a moment to be there.
    ask(told.runtime.path(), &["status"], "");
    let mut tail = Running::start(busway(&told, &format!("{} --from start", commands[2].0.trim_end_matches(" &"))));
    assert_eq!(commands[2].0, "busway tail 'shop.>' &");
    let publish = &commands[3].0;
    assert!(publish.starts_with("busway publish shop.orders.v1.carts.checked-out"), "{publish}");
    let run = |line: &str| {
        let output = busway(&told, line).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (taken, why) = run(publish);
    assert!(taken, "{why}");
    tail.line("shop.orders.v1.deliveries.shipped");
    tail.line("shop.orders.v2.loyalty.granted");
    for (good, bad) in [("\"quantity\":3", "\"quantity\":\"three\""), ("\"quantity\"", "\"quantitiy\"")] {
        let (taken, why) = run(&publish.replace(good, bad));
        assert!(!taken && why.contains("lines[0]"), "what is wrong and where: {why}");
    }
    assert!(run(&publish.replace("pot", "unicorn").replace("o1", "o9")).0);
    until("the dead letter", || {
        let dead = busway(&told, "busway dead list").output().expect("it runs");
        String::from_utf8_lossy(&dead.stdout).contains("there is no price for `unicorn`")
    });
}

/// The page with what is served, as a browser shows it: nothing of it is refused by its own policy.
#[test]
fn the_page_of_the_shop_shows_what_is_served_and_asks_for_a_key_where_one_is_needed() {
    let shop = shop();
    let told = shop.run("busway run examples/shop");
    let (url, driver) = (ready(&told), Driver::start());
    let browser = Browser::open(&driver, &format!("{url}/docs"));
    let shows = |path: &str| {
        let all = "[...document.querySelectorAll('summary code')].map((one) => one.textContent)";
        format!("return {all}.includes({path:?})")
    };
    for path in ["/quotes/{sku}", "/events/{topic}"] {
        browser.wait(&shows(path), &Value::Bool(true));
    }
    browser.wait("return document.body.textContent.includes('sku')", &Value::Bool(true));

    let (key, lines) = make_key("reader", &["route:web"]);
    let app = everything(&lines);
    let told = Told::start(&app, &[]);
    let browser = Browser::open(&driver, &format!("{}/docs", ready(&told)));
    browser.wait("return document.querySelector('input')?.type", &"password".into());
    assert_eq!(browser.run(&shows("/web/{rest}")), Value::Bool(false), "nothing is shown without a key");
    browser.write("input", &key);
    browser.click("button");
    browser.wait(&shows("/web/{rest}"), &Value::Bool(true));
    assert!(!told.said().contains(&key[10..30]));
}

/// The build of the component in a folder of its own, as the README says.
#[test]
fn hello_is_built_outside_of_this_repository_as_its_readme_says() {
    let hello = Example::new("hello", &["busway.toml"], &[]);
    let crate_of = tempfile::tempdir().expect("a folder");
    let from = root().join("examples/hello");
    std::fs::create_dir(crate_of.path().join("src")).expect("a folder");
    std::fs::copy(from.join("src/lib.rs"), crate_of.path().join("src/lib.rs")).expect("copied");
    let manifest = std::fs::read_to_string(from.join("Cargo.toml")).expect("a manifest");
    let without: Vec<&str> = manifest.lines().filter(|line| !line.starts_with("workspace = ")).collect();
    assert_eq!(without.len() + 1, manifest.lines().count(), "the line that the README says to leave out");
    std::fs::write(crate_of.path().join("Cargo.toml"), without.join("\n")).expect("written");
    // The crates that the guests were built with, so that nothing is fetched.
    std::fs::copy(root().join("guests/Cargo.lock"), crate_of.path().join("Cargo.lock")).expect("copied");
    let line = &hello.commands()[4].0;
    assert_eq!(line, "cargo build --release --target wasm32-wasip2");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for variable in ["RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CLIPPY_ARGS"] {
        cargo.env_remove(variable);
    }
    let target = root().canonicalize().expect("the repository").join("target/guests/outside");
    cargo.current_dir(crate_of.path()).env("CARGO_TARGET_DIR", &target).args(line.split(' ').skip(1)).arg("--offline");
    let built = cargo.output().expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let component = target.join("wasm32-wasip2/release/hello.wasm");
    let check = command(crate_of.path(), &["inspect", &component.display().to_string()]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&check.stdout).contains("wasi:http/incoming-handler"), "{check:?}");
}
