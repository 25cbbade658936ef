//! Clients of HTTP/2 that ask and do not take: the bytes of their connection go on while an answer stands still.

use std::time::Duration;

use busway_gateway::edge::{EdgeConfig, EdgeLimits};

use crate::client::get;
use crate::http2::{SETTINGS, answered, asks, farewell, frame, open_with};
use crate::served::{Served, echoing};

/// `SETTINGS_INITIAL_WINDOW_SIZE` of zero: no byte of any answer may be sent.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

#[tokio::test]
async fn an_answer_that_nobody_takes_ends_the_connection() {
    let limits = EdgeLimits { write_time: Duration::from_millis(300), ..EdgeLimits::default() };
    let served = Served::start(EdgeConfig { limits, ..echoing() }).await;
    let mut connection = open_with(&served, &NO_WINDOW).await;
    connection.write(asks(1, "/openapi.json")).await;
    assert_eq!(answered(&mut connection, 1).await, 0x88, "the head is no part of the window");
    // The connection itself is lively.
    connection.write(frame(SETTINGS, 0, 0, &[])).await;
    farewell(&mut connection).await;
    assert_eq!(served.send(get("/openapi.json")).await.status, 200, "others are served");
}
