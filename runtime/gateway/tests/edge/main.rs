//! The gateway over real sockets, with a fake behind it and clients that see the very bytes. One module for each part.

mod client;
mod fake;
mod health;
mod served;
