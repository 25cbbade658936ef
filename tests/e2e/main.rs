//! The end-to-end tests: one binary, one module per behaviour.

mod bad_components;
mod bounds;
mod browser;
mod chat;
mod commands;
mod coverage;
mod dev;
mod gateway;
mod guests;
mod harness;
mod http_components;
mod http_routes;
mod lifecycle;
mod logs;
mod misbehaviour;
mod process;
mod programs;
mod replay;
mod requests;
mod scaffold;
mod semantics;
mod shop;
mod starting;
mod tidy;
mod trace;
mod typed;
