//! Publishes the envelope of the event in hand as JSON to `public.envelope.out`, with the service's name and `config.note`.

use busway_guest::{Failure, config, context, publish};
use serde_json::json;

busway_guest::service!(subscribe = ["public.envelope"], |_event| {
    let envelope = context::current().ok_or_else(|| Failure::reject("a delivery without an envelope"))?;
    let headers: Vec<_> = envelope.headers.iter().map(|header| [&header.name, &header.value]).collect();
    let seen = json!({
        "service": context::service(),
        "note": config("note"),
        "id": envelope.id,
        "topic": envelope.topic,
        "key": envelope.key,
        "time_ms": envelope.time_ms,
        "content_type": envelope.content_type,
        "headers": headers,
        "source": envelope.source,
        "cause": envelope.cause,
        "correlation": envelope.correlation,
        "traceparent": envelope.traceparent,
        "hops": envelope.hops,
        "attempt": envelope.attempt,
        "remaining_ms": envelope.remaining_ms,
    });
    publish("public.envelope.out").json(&seen).send()?;
    Ok(())
});
