//! `busway request`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use busway_gateway::api::{AskReply, AskRequest};
use clap::Args;
use serde_json::value::RawValue;

use crate::client::Client;
use crate::failure::Told;
use crate::output::{Output, error, shown};

/// Ask a request of a contract and print the answer
#[derive(Debug, Args)]
#[command(
    long_about = "Asks a request of a contract: the service that has the least to do of those who answer it is called with the \
        parameters, and what it returns is printed as JSON. Parameters that break the contract reach nobody.\n\n\
        Ends with 1 when nobody answers in time, and when the answer is the error of a `result`, which is printed as well. \
        With --json: {\"ok\": ..} or {\"err\": ..}.",
    after_help = "Example: busway request shop:orders/quotes.quote --data '{\"sku\": \"pot\", \"quantity\": 2}'"
)]
pub(crate) struct RequestArgs {
    /// A function, such as shop:orders/quotes.quote, or its topic
    #[arg(value_name = "FUNCTION|TOPIC")]
    request: String,
    /// The parameters, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    data: String,
    /// How long to wait for the answer, at most 25s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let parsed = busway_node::manifest::parse_duration(text).map_err(|error| error.to_string())?;
    let longest = Duration::from_millis(AskRequest::LONGEST_MS);
    if parsed.is_zero() || parsed > longest {
        return Err(format!("1ms to {}s are allowed", longest.as_secs()));
    }
    Ok(parsed)
}

pub(crate) fn run(args: &RequestArgs, client: &Client, output: &mut Output) -> Result<()> {
    let data: Box<RawValue> = serde_json::from_str(&args.data).context("--data is not JSON")?;
    let timeout_ms = u64::try_from(args.timeout.as_millis()).ok();
    let request = AskRequest { request: args.request.clone(), data: Some(data), timeout_ms };
    let answer: AskReply = client.post("/v1/requests", &request)?;
    if output.is_json() {
        output.json_line(&answer)?;
    }
    let is_json = output.is_json();
    match answer {
        AskReply::Ok(_) if is_json => Ok(()),
        AskReply::Ok(value) => output.line(shown(value.get())),
        AskReply::Err(value) => {
            if !is_json {
                output.line(shown(value.get()))?;
                error("the answer is this error");
            }
            output.flush()?;
            bail!(Told)
        }
    }
}
