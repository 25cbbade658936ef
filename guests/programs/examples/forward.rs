//! Publishes what it gets, with key, headers and data, to the topic in the header `to`, else in `config.to`, else to
//! `public.forwarded`.

use busway_guest::{Event, Result, config, publish};

fn handle(event: Event) -> Result {
    let to =
        event.header("to").map(str::to_owned).or_else(|| config("to")).unwrap_or_else(|| "public.forwarded".into());
    let mut message = publish(to);
    if let Some(key) = event.key() {
        message = message.key(key);
    }
    if let Some(media_type) = event.content_type() {
        message = message.content_type(media_type);
    }
    for (name, value) in event.headers() {
        message = message.header(name, value);
    }
    message.data(event.into_data()).send()?;
    Ok(())
}

busway_guest::service!(subscribe = ["public.forward"], handle);
