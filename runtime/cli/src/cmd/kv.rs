//! `busway kv`.

use anyhow::Result;
use busway_gateway::api::{KvEntry, KvPage, KvQuery};
use clap::{Args, Subcommand};

use crate::client::{Client, segment};
use crate::output::{Output, note, preview, shown};
use crate::table::{Align, Table};

/// Look at a service's key-value
#[derive(Debug, Args)]
#[command(
    long_about = "Looks at the state that a service keeps in key-value. Nothing is changed.",
    after_help = "Example: busway kv list count --prefix count."
)]
pub(crate) struct KvArgs {
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    /// List the entries of a service
    #[command(
        long_about = "Lists the entries of a service by key. With --json: {\"entries\": [{\"key\", and \"data\" (JSON), \
            \"text\" or \"base64\"}], \"more\"}.",
        after_help = "Example: busway kv list count --json"
    )]
    List {
        /// The service
        service: String,
        /// Only keys that begin with this
        #[arg(long)]
        prefix: Option<String>,
        /// At most this many [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
}

pub(crate) fn run(args: KvArgs, client: &Client, output: &mut Output) -> Result<()> {
    let KvCommand::List { service, prefix, limit } = args.command;
    let path = format!("/v1/kv/{}", segment(&service)?);
    let mut query = KvQuery { prefix, after: None, limit };
    let mut all = KvPage { entries: Vec::new(), more: false };
    loop {
        query.limit = limit.map(|limit| limit - all.entries.len());
        let page: KvPage = client.get(&path, &query)?;
        query.after = page.entries.last().map(|entry| entry.key.clone()).or(query.after);
        let ended = !page.more || page.entries.is_empty();
        all.more = page.more;
        all.entries.extend(page.entries);
        if ended || limit.is_some_and(|limit| all.entries.len() >= limit) {
            break;
        }
    }
    if output.is_json() {
        return output.json(&all);
    }
    if all.entries.is_empty() {
        note(format!("the service {service} keeps nothing there"));
        return Ok(());
    }
    let mut table = Table::new(&[("KEY", Align::Left), ("VALUE", Align::Left)]);
    for entry in &all.entries {
        table.row(vec![shown(&entry.key), preview(value(entry), 100)]);
    }
    table.lines().into_iter().try_for_each(|line| output.line(line))
}

fn value(entry: &KvEntry) -> &str {
    let json = entry.data.as_ref().map(|data| data.get());
    json.or(entry.text.as_deref()).or(entry.base64.as_deref()).unwrap_or_default()
}
