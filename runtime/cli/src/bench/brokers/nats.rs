//! A plain client of JetStream: a stream on disk, a pull consumer that acknowledges each message.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, Context};
use busway_engine::NatsUrl;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{Client, WINDOW};
use crate::bench::rig::Counts;

/// The client; its consumer runs as a task that ends with the stream.
#[derive(Clone)]
pub(super) struct Nats {
    context: Context,
    stream: String,
}

impl Nats {
    pub(super) async fn connect(url: &NatsUrl, name: &str, counts: &Arc<Counts>) -> Result<Self> {
        let client = busway_engine::nats_connect(url).await?;
        let context = jetstream::new(client);
        let config = Config {
            name: name.to_owned(),
            subjects: vec![name.to_owned()],
            storage: StorageType::File,
            ..Config::default()
        };
        let stream = context.create_stream(config).await?;
        let config = pull::Config {
            durable_name: Some("bench".to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: i64::try_from(WINDOW)?,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer.stream().max_messages_per_batch(WINDOW).messages().await?;
        let counts = Arc::clone(counts);
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                counts.handled();
                if message.ack().await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { context, stream: name.to_owned() })
    }
}

impl Client for Nats {
    type Confirm = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

    async fn send(&self, payload: Bytes) -> Result<Self::Confirm> {
        let confirm = self.context.publish(self.stream.clone(), payload).await?;
        Ok(Box::pin(async move {
            confirm.await?;
            Ok(())
        }))
    }

    async fn remove(self) -> Result<()> {
        self.context.delete_stream(&self.stream).await?;
        Ok(())
    }
}
