//! The bindings that wit-bindgen generates from `wit/bus.wit`.
//!
//! Role: the one place where this crate meets the component ABI; nothing here is written by hand. One world serves both
//! handlers and tasks: the exports enter a component only where `service!` is expanded, the imports only where used.

#![expect(clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "service",
    pub_export_macro: true,
    export_macro_name: "export_service",
    default_bindings_module: "busway_guest::bindings",
});
