//! The gateway over real sockets, with a fake behind it and clients that see the very bytes. One module for each part.

mod ask;
mod client;
mod cors;
mod events;
mod exposed;
mod fake;
mod files;
mod foreign;
mod form;
mod health;
mod http2;
mod limits;
mod live;
mod openapi;
mod security;
mod security_rates;
mod security_tokens;
mod served;
mod stalled;
mod tls;
mod websocket;
