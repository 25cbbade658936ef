//! `busway new`.
//!
//! Role: writes the folder of a service that compiles and runs as it is. Never here: anything of a node. Invariants: the
//! folder appears whole or not at all, and nothing that exists is written over.

mod contract;
mod rust;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use self::contract::Copied;
use crate::failure::Usage;
use crate::output::{Output, note, preview};

/// Write the folder of a new service
#[derive(Debug, Args)]
#[command(
    long_about = "Writes a folder with everything that a service needs: Cargo.toml, the WIT, code for every event, a README. \
        It compiles with `cargo build --release` alone; nothing has to be published or installed but Rust and its target \
        wasm32-wasip2.\n\n\
        --contract takes the contract package from a .wit file, a folder of them, a component that uses it, or by its name \
        (`shop:orders`) from ./wit and the components of this folder. Without it a small contract is written that is \
        yours to change.\n\n\
        Roles: `handler` exports the contract and is called with each event; `producer` is a program that imports it and \
        publishes one event of each kind; `raw` handles bytes on topics and `task` publishes bytes, both with \
        busway:bus and without a contract.\n\n\
        With --json: {\"folder\", \"role\", \"contracts\", \"files\", \"component\"}.",
    after_help = "Examples:\n  busway new stock --contract wit/orders.wit\n  busway new checkout --contract shop:orders --role \
        producer\n  busway new mirror --role raw"
)]
pub(crate) struct NewArgs {
    /// The folder to write; its last part is the name of the service
    name: PathBuf,
    /// The contract: a .wit file, a folder of them, a component, or the name of a package (`shop:orders`)
    #[arg(long, value_name = "PACKAGE|PATH")]
    contract: Option<String>,
    /// What the service does
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// The language of its code
    #[arg(long, default_value = "rust")]
    lang: String,
}

/// What a new service does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// A program that publishes the events of the contract
    Producer,
    /// Handles the events of the contract
    #[default]
    Handler,
    /// A program that publishes bytes
    Task,
    /// Handles bytes, and may publish them
    Raw,
}

impl Role {
    fn is_typed(self) -> bool {
        matches!(self, Self::Producer | Self::Handler)
    }

    fn is_program(self) -> bool {
        matches!(self, Self::Producer | Self::Task)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Handler => "handler",
            Self::Task => "task",
            Self::Raw => "raw",
        }
    }
}

/// A file of the new folder.
type File = (PathBuf, Vec<u8>);

pub(crate) fn run(args: &NewArgs, output: &mut Output) -> Result<()> {
    if !args.lang.eq_ignore_ascii_case("rust") {
        bail!(Usage(text::other_language(&preview(&args.lang, 40))));
    }
    let name = name(&args.name)?;
    if let (Some(_), false) = (&args.contract, args.role.is_typed()) {
        let role = args.role.word();
        bail!(Usage(format!(
            "the role `{role}` has bytes and no contract; with one, `handler` handles it and `producer` publishes"
        )));
    }
    is_free(&args.name)?;
    let contract = match &args.contract {
        _ if !args.role.is_typed() => None,
        Some(wanted) => Some(contract::find(wanted)?),
        None => Some(contract::example(name)?),
    };
    // Beside the folder, which becomes it in one step.
    let parent = args.name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
    let aside = parent.join(format!(".{name}.new-{}", std::process::id()));
    let made = make(&aside, name, args.role, contract.as_ref()).and_then(|files| {
        fs::rename(&aside, &args.name).with_context(|| format!("{} cannot be made", args.name.display()))?;
        Ok(files)
    });
    if made.is_err() {
        drop(fs::remove_dir_all(&aside));
    }
    told(args, name, contract.as_ref(), &made?, output)
}

/// The name of the service, if it is one.
fn name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    if !name.split('-').all(word) || name.len() > 64 {
        let given = preview(&path.display().to_string(), 80);
        bail!(Usage(format!(
            "`{given}` does not end in a name for a service: up to 64 lower-case letters, digits and single hyphens, each \
             word beginning with a letter, such as `stock` or `order-mailer`"
        )));
    }
    if text::KEPT.contains(&name) || busway_contract::RESERVED.contains(&name) {
        bail!(Usage(format!(
            "`{name}` is a name that Rust, cargo or a host keeps for itself; `{name}-service` is free"
        )));
    }
    Ok(name)
}

/// An empty folder is as good as none.
fn is_free(folder: &Path) -> Result<()> {
    let empty = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if !empty {
        bail!("{} exists and is not empty; nothing is written over, choose another name", folder.display());
    }
    Ok(())
}

/// Writes everything below `folder`, and says what.
fn make(folder: &Path, name: &str, role: Role, contract: Option<&Copied>) -> Result<Vec<PathBuf>> {
    let wit = folder.join("wit");
    let mut files: Vec<File> = match contract {
        Some(contract) => contract.files.clone(),
        None => vec![("deps/busway-bus/bus.wit".into(), text::BUS_WIT.into())],
    };
    let interfaces: &[_] = contract.map_or(&[], |contract| &contract.interfaces);
    files.push(("world.wit".into(), text::world(name, role, interfaces).into()));
    for (path, _) in &mut files {
        *path = Path::new("wit").join(&*path);
    }
    write(folder, &files)?;
    // The code follows from the WIT as it lies there, so that it is the WIT that compiles.
    let code = match role {
        Role::Raw => text::raw(name),
        Role::Task => text::task(name),
        Role::Handler => rust::Writer::read(&wit, interfaces, true)?.handler(name),
        Role::Producer => rust::Writer::read(&wit, interfaces, false)?.producer(name),
    };
    let main = if role.is_program() { "src/main.rs" } else { "src/lib.rs" };
    let more = vec![
        (main.into(), code.into()),
        ("Cargo.toml".into(), text::cargo_toml(name, role).into()),
        (".cargo/config.toml".into(), text::CARGO_CONFIG.into()),
        (".gitignore".into(), b"/target\n".to_vec()),
        ("README.md".into(), text::readme(name, role, interfaces).into()),
    ];
    write(folder, &more)?;
    // Nothing but looks depends on it.
    let quiet = || std::process::Stdio::null();
    let mut rustfmt = std::process::Command::new("rustfmt");
    rustfmt.args(["--edition", "2024"]).arg(folder.join(main)).stdin(quiet()).stdout(quiet()).stderr(quiet());
    drop(rustfmt.status());
    let mut paths: Vec<_> = files.into_iter().chain(more).map(|(path, _)| path).collect();
    paths.sort();
    Ok(paths)
}

fn write(folder: &Path, files: &[File]) -> Result<()> {
    for (path, content) in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn told(args: &NewArgs, name: &str, contract: Option<&Copied>, files: &[PathBuf], output: &mut Output) -> Result<()> {
    let contracts: Vec<String> =
        contract.iter().flat_map(|contract| &contract.interfaces).map(ToString::to_string).collect();
    let component = text::component(name, args.role);
    if output.is_json() {
        return output.json(&json!({
            "folder": args.name, "role": args.role.word(), "contracts": contracts, "files": files, "component": component,
        }));
    }
    let folder = args.name.display();
    output.line(format!("{folder}: a {} in Rust", text::what(args.role)))?;
    contracts.iter().try_for_each(|contract| output.line(format!("  contract  {contract}")))?;
    files.iter().try_for_each(|file| output.line(format!("  {}", file.display())))?;
    output.flush()?;
    note(text::next_steps(name, &folder.to_string(), args.role));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_rust_wit_and_topics_can_have() {
        for good in ["stock", "order-mailer", "a1", "some/where/stock"] {
            assert!(name(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "Stock", "a--b", "-a", "a-", "1a", "a-1", "a_b", "a.b", "..", "fn", "test", "wasi", "busway"] {
            assert!(name(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
