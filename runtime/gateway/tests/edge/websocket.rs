//! A WebSocket client that sends frames as they are told, so that tests see close codes and silence.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Connection, PATIENCE, Request, get};
use crate::served::Served;

/// What came in.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    Text(String),
    Ping,
    Close(u16),
    /// The connection ended.
    End,
}

pub(crate) struct Socket {
    connection: Connection,
    /// Whether pings are answered.
    pub(crate) lives: bool,
}

/// A request for an upgrade.
pub(crate) fn upgrade(path: &str) -> Request {
    get(path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", &STANDARD.encode([7; 16]))
}

impl Socket {
    pub(crate) async fn open(served: &Served, path: &str) -> Self {
        Self::open_with(served, upgrade(path)).await
    }

    pub(crate) async fn open_with(served: &Served, asked: Request) -> Self {
        let mut connection = served.connect().await;
        connection.write(asked.bytes()).await;
        let head = tokio::time::timeout(PATIENCE, connection.head()).await.expect("in time").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self { connection, lives: true }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// Sends one frame, masked with zeros. An error is an end, which the next read tells.
    pub(crate) async fn frame(&mut self, kind: u8, data: &[u8]) {
        let mut frame = vec![kind];
        match data.len() {
            short @ 0..=125 => frame.push(0x80 | u8::try_from(short).expect("short")),
            middle @ 126..=0xffff => {
                frame.push(0xfe);
                frame.extend(u16::try_from(middle).expect("middle").to_be_bytes());
            }
            long => {
                frame.push(0xff);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(data);
        let _ = self.connection.stream.write_all(&frame).await;
    }

    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame in time");
            match frame {
                Some(Frame::Ping) if self.lives => self.frame(0x8a, &[]).await,
                Some(frame) => return frame,
                None => return Frame::End,
            }
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        let stream = &mut self.connection.stream;
        let kind = stream.read_u8().await.ok()?;
        let len = match stream.read_u8().await.ok()? {
            126 => usize::from(stream.read_u16().await.ok()?),
            127 => usize::try_from(stream.read_u64().await.ok()?).expect("a length"),
            short => usize::from(short),
        };
        let mut data = vec![0; len];
        stream.read_exact(&mut data).await.ok()?;
        Some(match kind {
            0x81 => Frame::Text(String::from_utf8(data).expect("text")),
            0x88 => Frame::Close(data.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
            0x89 => Frame::Ping,
            other => panic!("a frame of kind {other:x}"),
        })
    }

    /// The next text.
    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Frame::Text(text) => text,
            other => panic!("{other:?} instead of a text"),
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    /// Whether nothing comes for a while.
    pub(crate) async fn is_silent(&mut self, while_: std::time::Duration) -> bool {
        tokio::time::timeout(while_, self.next()).await.is_err()
    }
}
