//! HTTP/2 as bytes: what a client may send, and what one that means harm gets.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::client::{Connection, PATIENCE, get};
use crate::served::{Served, echoing};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A GET in HPACK without compression: `:method`, `:scheme`, `:path`, `:authority`.
fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).expect("a short path")];
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'h']);
    block
}

pub(crate) fn asks(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head(path))
}

async fn open(served: &Served) -> Connection {
    open_with(served, &[]).await
}

/// Opens a connection with these settings.
pub(crate) async fn open_with(served: &Served, settings: &[u8]) -> Connection {
    let mut connection = served.connect().await;
    connection.write(PREFACE).await;
    connection.write(frame(SETTINGS, 0, 0, settings)).await;
    connection
}

/// The next frame; none when the connection ends.
async fn next(connection: &mut Connection) -> Option<(u8, u8, u32, Vec<u8>)> {
    let read = async {
        let mut head = [0; 9];
        connection.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        connection.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a frame or an end")
}

/// The first byte of the head of the answer on a stream: 0x88 is an indexed `:status 200`.
pub(crate) async fn answered(connection: &mut Connection, wanted: u32) -> u8 {
    loop {
        let (kind, _, stream, payload) = next(connection).await.expect("an answer");
        if (kind, stream) == (HEADERS, wanted) {
            return payload[0];
        }
    }
}

/// Reads until the connection ends; the error of its farewell.
pub(crate) async fn farewell(connection: &mut Connection) -> Option<u32> {
    let mut told = None;
    while let Some((kind, _, _, payload)) = next(connection).await {
        if kind == GOAWAY {
            told = payload.get(4..8).map(|code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        }
    }
    told
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_side_by_side() {
    let served = Served::start(echoing()).await;
    let mut connection = open(&served).await;
    connection.write([asks(1, "/health/live"), asks(3, "/echo/x")].concat()).await;
    assert_eq!(answered(&mut connection, 3).await, 0x88);
    connection.write(asks(5, "/health/ready")).await;
    assert_eq!(answered(&mut connection, 5).await, 0x88);
}

#[tokio::test]
async fn beyond_the_streams_of_a_connection_a_request_is_not_taken() {
    let mut config = echoing();
    config.limits.streams = 2;
    let served = Served::start(config).await;
    crate::fake::lock(&served.fake.service_takes).clone_from(&Duration::from_secs(1));
    let mut connection = open(&served).await;
    connection.write([asks(1, "/echo/x"), asks(3, "/echo/x"), asks(5, "/echo/x")].concat()).await;
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    while taken.len() + refused.len() < 3 {
        match next(&mut connection).await.expect("an answer for each") {
            (HEADERS, _, stream, _) => taken.push(stream),
            (RST_STREAM, _, stream, _) => refused.push(stream),
            _ => {}
        }
    }
    assert_eq!((taken.len(), refused), (2, vec![5]));
}

/// What is fixed: how much a client may send ahead, and how many requests it may have open.
#[tokio::test]
async fn a_client_is_told_its_bounds_at_the_beginning() {
    let served = Served::start(echoing()).await;
    let mut connection = open(&served).await;
    let (mut settings, mut ahead) = (std::collections::BTreeMap::new(), 0);
    while settings.is_empty() || ahead == 0 {
        match next(&mut connection).await.expect("settings") {
            (SETTINGS, 0, 0, payload) => settings.extend(payload.chunks(6).map(|one| {
                (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes([one[2], one[3], one[4], one[5]]))
            })),
            (WINDOW_UPDATE, _, 0, more) => ahead = u32::from_be_bytes([more[0], more[1], more[2], more[3]]),
            _ => {}
        }
    }
    // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE.
    assert_eq!([3, 4, 6].map(|name| settings.get(&name).copied()), [Some(100), Some(128 * 1024), Some(16 * 1024)]);
    assert_eq!(ahead + 65_535, 512 * 1024, "of the connection");
}

/// A client that is gone without a word does not keep its place: it is asked every 20 s, and has as long to answer.
#[tokio::test]
async fn a_client_that_does_not_answer_a_ping_is_gone() {
    let mut config = echoing();
    config.limits.idle_time = Duration::from_mins(5);
    config.limits.request_time = Duration::from_mins(5);
    let served = Served::start(config).await;
    crate::fake::lock(&served.fake.service_takes).clone_from(&Duration::from_mins(5));
    let mut connection = open(&served).await;
    connection.write(asks(1, "/echo/x")).await;
    let mut pings = 0;
    let gone = async {
        let mut head = [0; 9];
        while connection.stream.read_exact(&mut head).await.is_ok() {
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            if connection.stream.read_exact(&mut payload).await.is_err() {
                break;
            }
            pings += u32::from(head[3] == PING && head[4] == 0);
        }
    };
    tokio::time::timeout(PATIENCE * 3, gone).await.expect("it is given up");
    assert_eq!(pings, 1);
    assert_eq!(served.send(get("/health/live")).await.status, 200);
}

#[tokio::test]
async fn a_flood_of_requests_that_are_taken_back_ends_the_connection() {
    let served = Served::start(echoing()).await;
    crate::fake::lock(&served.fake.service_takes).clone_from(&Duration::from_secs(5));
    let mut connection = open(&served).await;
    let mut flood = Vec::new();
    for number in 0..2_000 {
        let stream = number * 2 + 1;
        flood.extend(asks(stream, "/echo/x"));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    connection.write(flood).await;
    // ENHANCE_YOUR_CALM, unless the bytes that were left unread reset the connection first.
    let told = farewell(&mut connection).await;
    assert!(matches!(told, None | Some(11)), "{told:?}");
    assert_eq!(served.send(get("/health/live")).await.status, 200);
    let done = async {
        while served.gateway.edge().figures().in_flight > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("nothing is worked on for nobody");
}

#[tokio::test]
async fn a_head_beyond_its_bytes_is_refused() {
    let served = Served::start(echoing()).await;
    let mut connection = open(&served).await;
    let mut block = head("/health/live");
    for _ in 0..2 {
        // A literal header of 10,000 bytes: name `x`, length 127 + 9,873 in HPACK's integers.
        block.extend([0x00, 1, b'x', 0x7f, 0x91, 0x4d]);
        block.extend(vec![b'x'; 10_000]);
    }
    let (first, rest) = block.split_at(16_000);
    connection.write(frame(HEADERS, END_STREAM, 1, first)).await;
    connection.write(frame(9, END_HEADERS, 1, rest)).await;
    let (kind, code) = loop {
        let Some((kind, _, stream, payload)) = next(&mut connection).await else { break (GOAWAY, 0) };
        if stream == 1 || kind == GOAWAY {
            break (kind, payload[0]);
        }
    };
    // 431 as a literal status, or the stream or the connection is given up.
    assert!(kind == RST_STREAM || kind == GOAWAY || (kind == HEADERS && code != 0x88), "{kind} {code:#x}");
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_a_head_that_never_ends_is_cut_off() {
    let mut config = echoing();
    config.limits.idle_time = Duration::from_millis(300);
    config.limits.header_time = Duration::from_millis(300);
    let served = Served::start(config).await;
    let mut idle = open(&served).await;
    idle.write(asks(1, "/health/live")).await;
    assert_eq!(answered(&mut idle, 1).await, 0x88);
    assert_eq!(farewell(&mut idle).await, Some(0), "NO_ERROR");
    let mut endless = open(&served).await;
    endless.write(frame(HEADERS, END_STREAM, 1, &head("/health/live"))).await;
    farewell(&mut endless).await;
    let mut half = served.connect().await;
    half.write(&PREFACE[..10]).await;
    assert_eq!(half.rest().await, "");
}
