//! Answers what clients say in a room to everybody in it, with a number that counts in each room.

use busway_guest::{Failure, kv, publish};
use serde::{Deserialize, Serialize};

/// What a client emits as `my event`.
#[derive(Deserialize)]
struct Said {
    room: String,
    text: String,
}

/// What everybody in the room gets as `my response`.
#[derive(Serialize)]
struct Response<'a> {
    room: &'a str,
    text: &'a str,
    from: Option<&'a str>,
    number: i64,
}

busway_guest::service!(|event| {
    let said: Said = event.json()?;
    if said.text.is_empty() {
        return Err(Failure::reject("nothing was said"));
    }
    let number = kv::increment(&said.room, 1)?;
    let from = event.header("socketio-client");
    let response = Response { room: &said.room, text: &said.text, from, number };
    publish("chat.out.my-response").key(&said.room).json(&response).send()?;
    Ok(())
});
