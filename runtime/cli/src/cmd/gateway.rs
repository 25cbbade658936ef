//! `busway gateway`.

use anyhow::{Result, anyhow};
use busway_gateway::api::parse_rfc3339;
use busway_gateway::edge::auth::{ApiKey, Scope};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::output::{Output, note};

/// Look after the gateway
#[derive(Debug, Args)]
#[command(
    long_about = "Makes what the gateway needs beside its manifest. No node has to run.",
    after_help = "Example: busway gateway key shop --scope 'publish:shop.>'"
)]
pub(crate) struct GatewayArgs {
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Make an API key
    #[command(
        long_about = "Makes an API key from 256 random bits. The key goes to stdout, once: whoever uses it sends it as \
            `Authorization: Bearer KEY` or `X-API-Key: KEY`. The lines for the manifest, with its hash alone, go to \
            stderr. With --json both are one object: {\"name\", \"key\", \"sha256\", \"scopes\", \"expires\"}.",
        after_help = "Examples:\n  busway gateway key shop --scope 'publish:shop.>' --scope route:quote > shop.key\n  \
            busway gateway key till --scope 'subscribe:shop.>' --expires 2027-01-31"
    )]
    Key {
        /// The name of whoever will use it; letters, digits, `-`, `_`, `.` and `@`
        #[arg(value_parser = name)]
        name: String,
        /// What it allows: publish:PATTERN, subscribe:PATTERN or route:NAME; may be given several times
        #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
        scopes: Vec<Scope>,
        /// When it ends: a day or a moment (RFC 3339) [default: never]
        #[arg(long, value_name = "TIME", value_parser = moment)]
        expires: Option<String>,
    },
}

fn name(text: &str) -> Result<String> {
    let is_name =
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
    is_name.then(|| text.to_owned()).ok_or_else(|| anyhow!("1 to 64 letters, digits, `-`, `_`, `.` and `@` are a name"))
}

fn scope(text: &str) -> Result<Scope> {
    Ok(text.parse()?)
}

fn moment(text: &str) -> Result<String> {
    let known = parse_rfc3339(text).map(|_| text.to_owned());
    known.ok_or_else(|| anyhow!("write a day or a moment, such as 2027-01-31 or 2027-01-31T09:00:00Z"))
}

pub(crate) fn run(args: &GatewayArgs, output: &mut Output) -> Result<()> {
    let GatewayCommand::Key { name, scopes, expires } = &args.command;
    let key = ApiKey::generate()?;
    let sha256 = key.hash().to_string();
    let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    if output.is_json() {
        let expires = expires.as_deref();
        return output
            .json(&json!({"name": name, "key": key.as_str(), "sha256": sha256, "scopes": scopes, "expires": expires}));
    }
    note("The key is on stdout, and nowhere else: keep it. These lines belong in the manifest:\n");
    note(manifest_lines(name, &sha256, &scopes, expires.as_deref()));
    if scopes.is_empty() {
        note(
            "\nIt allows nothing yet: write what it does into `scopes`, such as \"publish:shop.>\" or \"route:NAME\".",
        );
    }
    output.line(key.as_str())
}

fn manifest_lines(name: &str, sha256: &str, scopes: &[String], expires: Option<&str>) -> String {
    // A dot would end the name in TOML, and an `@` cannot stand there.
    let is_bare = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let name = if is_bare { name.to_owned() } else { format!("\"{name}\"") };
    let scopes: Vec<String> = scopes.iter().map(|scope| format!("{scope:?}")).collect();
    let expires = expires.map(|expires| format!("\nexpires = \"{expires}\"")).unwrap_or_default();
    format!("[gateway.auth.keys.{name}]\nsha256 = \"{sha256}\"\nscopes = [{}]{expires}", scopes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_lines_are_toml_for_every_name() {
        for (name, header) in [("shop", "keys.shop]"), ("a-2_b", "keys.a-2_b]"), ("a.b@c", "keys.\"a.b@c\"]")] {
            assert!(super::name(name).is_ok(), "{name}");
            let lines = manifest_lines(name, "00", &["route:a\"b".to_owned()], Some("2027-01-31"));
            let wanted = "sha256 = \"00\"\nscopes = [\"route:a\\\"b\"]\nexpires = \"2027-01-31\"";
            assert_eq!(lines, format!("[gateway.auth.{header}\n{wanted}"));
        }
        for bad in ["", "a b", "a\"b", "ä", &"x".repeat(65)] {
            assert!(super::name(bad).is_err(), "{bad}");
        }
    }
}
