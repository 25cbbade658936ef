//! The texts of a new service.

use std::fmt::Write as _;

use busway_contract::ContractId;
use busway_contract::document::wit_name;

use super::Role;

/// The raw lane, which services without a contract use.
pub(super) const BUS_WIT: &str = include_str!("../../../../../wit/bus.wit");

/// Plain `cargo build` makes the component.
pub(super) const CARGO_CONFIG: &str = "[build]\ntarget = \"wasm32-wasip2\"\n";

/// Names that a crate cannot have, or should not.
pub(super) const KEPT: [&str; 48] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "type",
    "use",
];

/// What a role is, for people.
pub(super) fn what(role: Role) -> &'static str {
    match role {
        Role::Producer => "program that publishes the events of a contract",
        Role::Handler => "service that handles the events of a contract",
        Role::Task => "program that publishes bytes",
        Role::Raw => "service that handles bytes",
    }
}

/// Where cargo puts the component.
pub(super) fn component(name: &str, role: Role) -> String {
    let file = if role.is_program() { name.to_owned() } else { name.replace('-', "_") };
    format!("target/wasm32-wasip2/release/{file}.wasm")
}

pub(super) fn cargo_toml(name: &str, role: Role) -> String {
    let lib = if role.is_program() { "" } else { "[lib]\ncrate-type = [\"cdylib\"]\n\n" };
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"
publish = false

{lib}[dependencies]
wit-bindgen = {{ version = "0.61.1", default-features = false, features = ["macros", "realloc", "std"] }}

# A workspace of its own, wherever the folder lies: it is compiled for another target than what is around it.
[workspace]

[profile.release]
opt-level = 3
lto = true
codegen-units = 1
panic = "abort"
strip = "debuginfo" # keeps the names, so that the backtrace of a trap says where
"#
    )
}

/// The world of a service, in a package of its own.
pub(super) fn world(name: &str, role: Role, interfaces: &[ContractId]) -> String {
    let (docs, verb) = match role {
        Role::Handler => ("What it exports it handles, and what it imports it may publish.", "export"),
        Role::Producer => ("What it imports it may publish.", "import"),
        Role::Raw => ("The raw lane, with everything that a handler may use.", "include busway:bus/service@0.1.0"),
        Role::Task => ("The raw lane, with everything that a program may use.", "include busway:bus/task@0.1.0"),
    };
    let items: Vec<_> = if role.is_typed() {
        interfaces.iter().map(|id| format!("  {verb} {};\n", path(id))).collect()
    } else {
        vec![format!("  {verb};\n")]
    };
    format!("package local:service;\n\n/// The service {name}. {docs}\nworld service {{\n{}}}\n", items.concat())
}

/// An interface as WIT names it.
fn path(id: &ContractId) -> String {
    let version = id.version.as_ref().map_or_else(String::new, |version| format!("@{version}"));
    format!("{}:{}/{}{version}", wit_name(&id.namespace), wit_name(&id.package), wit_name(&id.interface))
}

/// A contract for a service that was given none.
pub(super) fn example_contract(name: &str) -> String {
    format!(
        "/// The events of {name}. It is yours: rename, add and remove as you like. As soon as others use it, compare \
         versions with\n/// `busway contract diff`.\npackage {}:events@1.0.0;\n\n\
         /// What happens to notes. Each function is an event, with a topic of its own: {name}.events.v1.notes.written.\n\
         interface notes {{\n  /// A note.\n  record note {{\n    title: string,\n    body: string,\n    tags: \
         list<string>,\n  }}\n\n  \
         /// A note was written. Events with the same key are handled in order.\n  \
         written: func(key: string, note: note) -> result<_, string>;\n\n  \
         /// A note was removed.\n  removed: func(key: string);\n}}\n",
        wit_name(name)
    )
}

pub(super) fn raw(name: &str) -> String {
    format!(
        r#"//! {name} handles bytes: it publishes each event of `public.{name}` in upper case on `public.{name}.out`.

use busway::bus::producer::{{self, Message}};
use exports::busway::bus::handler::{{Event, Failure, Guest}};

wit_bindgen::generate!({{ path: "wit", world: "local:service/service", generate_all }});

struct Service;

impl Guest for Service {{
    /// The topics to receive, when a manifest does not say. Without a manifest they begin with `public.`.
    fn subscriptions() -> Vec<String> {{
        vec!["public.{name}".into()]
    }}

    /// Ok acknowledges the event, and only then what was published is seen. An error is tried again, or rejected.
    fn handle(event: Event) -> Result<(), Failure> {{
        println!("{{}}: {{}} bytes", event.topic, event.data.len());
        let message = Message {{
            topic: "public.{name}.out".into(),
            key: event.key,
            content_type: event.content_type,
            headers: event.headers,
            data: event.data.to_ascii_uppercase(),
            id: None,
            delay_ms: None,
            expires_ms: None,
        }};
        match producer::publish(&message) {{
            Ok(_id) => Ok(()),
            Err(refusal) => Err(Failure::Retry(refusal.to_string())),
        }}
    }}
}}

export!(Service);
"#
    )
}

pub(super) fn task(name: &str) -> String {
    format!(
        r#"//! {name} publishes three events on `public.{name}` and ends.

use busway::bus::producer::{{self, Message}};

wit_bindgen::generate!({{ path: "wit", world: "local:service/service", generate_all }});

fn main() -> Result<(), String> {{
    for n in 1..=3 {{
        let message = Message {{
            topic: "public.{name}".into(),
            key: None,
            content_type: Some("text/plain".into()),
            headers: Vec::new(),
            data: format!("number {{n}}").into_bytes(),
            id: None,
            delay_ms: None,
            expires_ms: None,
        }};
        // Returns once the event is as safe as the bus makes it.
        let id = producer::publish(&message).map_err(|refusal| refusal.to_string())?;
        println!("published {{id}}");
    }}
    Ok(())
}}
"#
    )
}

fn topics(name: &str, role: Role, interfaces: &[ContractId]) -> String {
    let verb = if role.is_program() { "publishes" } else { "handles" };
    if !role.is_typed() {
        return format!("It {verb} events on the topic `public.{name}`.\n");
    }
    let mut text = format!("It {verb} the events of\n\n");
    for id in interfaces {
        let _ = writeln!(text, "- `{id}`, on the topics `{}.*`", id.topic_prefix());
    }
    text
}

pub(super) fn readme(name: &str, role: Role, interfaces: &[ContractId]) -> String {
    let code = if role.is_program() { "src/main.rs" } else { "src/lib.rs" };
    format!(
        "# {name}\n\nA {}, for the event bus busway. {}\n\
         ```console\n$ rustup target add wasm32-wasip2     # once\n$ cargo build --release\n$ busway inspect {component}\n\
         $ busway dev     # builds on every change and runs it\n```\n\n\
         To run it with others, copy `{component}` into the folder that `busway run` runs.\n\n\
         - `{code}` is the service.\n- `wit/world.wit` says what it imports and exports; `wit/deps` has the packages that \
         this needs.\n",
        what(role),
        topics(name, role, interfaces),
        component = component(name, role),
    )
}

pub(super) fn next_steps(name: &str, folder: &str, role: Role) -> String {
    format!(
        "\nNext:\n  cd {folder}\n  rustup target add wasm32-wasip2   # once\n  cargo build --release\n  busway inspect \
         {component}\n  busway dev   # \
         builds on every change and runs it",
        component = component(name, role)
    )
}

/// Why there is no code in another language, and how to write it.
pub(super) fn other_language(language: &str) -> String {
    format!(
        "there is no template for `{language}`, only for rust. A service can be written in any language that makes \
         components: `busway new` writes the WIT (folder wit, world service), and its code is replaced. For example\n  \
         Python      componentize-py -d wit -w service componentize app -o NAME.wasm\n  \
         JavaScript  jco componentize service.js --wit wit --world-name service -o NAME.wasm\n  \
         Go          tinygo build -target=wasip2 --wit-package wit --wit-world service -o NAME.wasm\n\
         Then `busway inspect NAME.wasm` says whether it fits"
    )
}
