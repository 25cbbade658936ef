//! What a server says of itself and of a bus, for `busway engine show`. Nothing is made and nothing is changed.

use async_nats::jetstream::context::{ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::{Context, ErrorCode};

use super::remote::{ASK_FOR, connect};
use super::url::NatsUrl;
use crate::{EngineError, Fact};

/// Asks a server. To be called on a thread that is no task's.
pub(super) fn ask(url: &NatsUrl) -> Result<Vec<Fact>, EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| EngineError::Refused(format!("no threads for the network: {error}")))?;
    runtime.block_on(found(url))
}

async fn found(url: &NatsUrl) -> Result<Vec<Fact>, EngineError> {
    let client = connect(url).await?;
    let info = client.server_info();
    let mut facts = vec![
        ("server", format!("NATS {} ({})", info.version, info.server_name)),
        ("cluster", info.cluster.unwrap_or_else(|| "none: one server".to_owned())),
        ("longest message", format!("{} bytes", info.max_payload)),
    ];
    let context = ContextBuilder::new().timeout(ASK_FOR).build(client);
    let account = context.query_account().await.map_err(|error| {
        EngineError::Refused(format!(
            "JetStream at {url} does not answer: {error}; it has to be enabled there (nats-server --jetstream), and this \
             login needs the right to its API"
        ))
    })?;
    let limit = |most: Option<i64>| most.map_or_else(|| "no limit".to_owned(), |most| format!("at most {most}"));
    let limits = &account.limits;
    facts.push(("JetStream storage", format!("{} bytes used, {}", account.storage, limit(limits.max_storage))));
    facts.push(("JetStream streams", format!("{}, {}", account.streams, limit(limits.max_streams))));
    facts.extend(account.domain.map(|domain| ("JetStream domain", domain)));
    facts.push(("bus", bus(&context, url).await?));
    Ok(facts)
}

async fn bus(context: &Context, url: &NatsUrl) -> Result<String, EngineError> {
    let name = format!("BUSWAY-{}-journal", url.name);
    match context.get_stream(&name).await {
        Ok(stream) => {
            let info = stream.cached_info();
            let (state, replicas) = (&info.state, info.config.num_replicas);
            Ok(format!(
                "`{}`: {} records, {} bytes, on {replicas} server{}",
                url.name,
                state.messages,
                state.bytes,
                if replicas == 1 { "" } else { "s" }
            ))
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(format!("`{}` is not there yet; the first node makes it", url.name))
            }
            _ => Err(EngineError::Refused(format!("the stream {name} at {url} cannot be looked at: {error}"))),
        },
    }
}
