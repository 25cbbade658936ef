//! The imported interfaces `producer`, `context` and `log`.

use std::time::Duration;

use busway_types::{Draft, EventId, Key, Limits, Timestamp};
use bytes::Bytes;
use tracing::Level;

use super::{GuestState, Mode};
use crate::bindings::producer::{Message, Refusal as Refused};
use crate::bindings::types::Header;
use crate::bindings::{context, log, producer, types};
use crate::capability::Refusal;
use crate::typed::Next;

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Overloaded(text) => Self::Overloaded(text),
            Refusal::Denied(text) => Self::Denied(text),
            Refusal::TooLarge(text) => Self::TooLarge(text),
            Refusal::Invalid(text) | Refusal::Conflict(text) => Self::Invalid(text),
        }
    }
}

/// Makes a draft of what a guest gave.
fn draft(message: Message, limits: &Limits, now: Timestamp) -> Result<Draft, Refusal> {
    let Message { topic, key, content_type, headers, data, id, delay_ms, expires_ms } = message;
    let invalid = |error: &dyn std::error::Error| Refusal::Invalid(error.to_string());
    let topic = topic.parse().map_err(|error| invalid(&error))?;
    let mut draft = Draft::new(topic, Bytes::from(data));
    draft.key = key.map(|key| Key::new(&key, limits)).transpose().map_err(|error| invalid(&error))?;
    draft.id = id.map(|id| id.parse::<EventId>()).transpose().map_err(|error| invalid(&error))?;
    draft.content_type = content_type.map(String::into_boxed_str);
    draft.headers = headers.into_iter().map(|header| (header.name.into(), header.value.into())).collect();
    draft.not_before = delay_ms.filter(|delay| *delay > 0).map(|delay| now.after(Duration::from_millis(delay)));
    draft.expires = expires_ms.map(|after| now.after(Duration::from_millis(after)));
    Ok(draft)
}

impl GuestState {
    fn publish_messages(&mut self, messages: Vec<Message>) -> Result<Vec<String>, Refused> {
        let limits = &self.service.limits;
        if messages.len() > limits.batch_events {
            let most = limits.batch_events;
            return Err(Refused::TooLarge(format!("at most {most} events can be published at once")));
        }
        let now = self.service.clock.now();
        let drafts = messages.into_iter().map(|message| draft(message, limits, now)).collect::<Result<_, _>>()?;
        let ids = self.publish(drafts)?;
        Ok(ids.into_iter().map(|id| id.to_string()).collect())
    }
}

impl types::Host for GuestState {}

impl producer::Host for GuestState {
    fn publish(&mut self, message: Message) -> wasmtime::Result<Result<String, Refused>> {
        let ids = self.publish_messages(vec![message]);
        Ok(ids.map(|ids| ids.into_iter().next().unwrap_or_default()))
    }

    fn publish_many(&mut self, messages: Vec<Message>) -> wasmtime::Result<Result<Vec<String>, Refused>> {
        Ok(self.publish_messages(messages))
    }
}

impl context::Host for GuestState {
    fn current(&mut self) -> wasmtime::Result<Option<context::Envelope>> {
        let (Mode::Delivery, Some(event)) = (self.mode, self.event()) else { return Ok(None) };
        let causality = &event.causality;
        let headers = event.headers.iter();
        let remaining = self.meter.remaining().unwrap_or(Duration::MAX);
        Ok(Some(context::Envelope {
            id: event.id.to_string(),
            topic: event.topic.as_str().to_owned(),
            key: event.key.as_ref().map(|key| key.as_str().to_owned()),
            time_ms: event.time.0,
            content_type: event.content_type.as_deref().map(str::to_owned),
            headers: headers.map(|(name, value)| Header { name: (**name).into(), value: (**value).into() }).collect(),
            source: causality.source.as_ref().map(ToString::to_string),
            cause: causality.cause.map(|cause| cause.to_string()),
            correlation: causality.correlation.as_deref().map_or_else(|| event.id.to_string(), str::to_owned),
            traceparent: causality.traceparent.as_deref().map(str::to_owned),
            hops: causality.hops,
            attempt: self.delivery.attempt,
            remaining_ms: u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    fn with_next(&mut self, options: context::Options) -> wasmtime::Result<Result<(), String>> {
        let limits = &self.service.limits;
        let key = options.key.map(|key| Key::new(&key, limits)).transpose().map_err(|error| error.to_string());
        let id = options.id.map(|id| id.parse::<EventId>()).transpose().map_err(|error| error.to_string());
        let (key, id) = match (key, id) {
            (Ok(key), Ok(id)) => (key, id),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        self.next = Some(Next {
            key,
            id,
            headers: options.headers.into_iter().map(|header| (header.name.into(), header.value.into())).collect(),
            delay: options.delay_ms.map(Duration::from_millis),
            expires: options.expires_ms.map(Duration::from_millis),
        });
        Ok(Ok(()))
    }

    fn service(&mut self) -> wasmtime::Result<String> {
        Ok(self.service.settings.name.to_string())
    }

    fn config(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.service.settings.config.get(&name).cloned())
    }
}

fn level(level: log::Level) -> Level {
    match level {
        log::Level::Trace => Level::TRACE,
        log::Level::Debug => Level::DEBUG,
        log::Level::Info => Level::INFO,
        log::Level::Warn => Level::WARN,
        log::Level::Error => Level::ERROR,
    }
}

impl log::Host for GuestState {
    fn write(&mut self, at: log::Level, message: String, fields: Vec<log::Field>) -> wasmtime::Result<()> {
        let fields: Vec<_> = fields.into_iter().map(|field| (field.name, field.value)).collect();
        self.output.log(level(at), &message, &fields);
        Ok(())
    }

    fn enabled(&mut self, at: log::Level) -> wasmtime::Result<bool> {
        Ok(self.service.bus.log_enabled(&self.service.settings.name, level(at)))
    }
}
