//! Knows the prices.

use exports::shop::orders::quotes::{Failure, Guest, Price};

wit_bindgen::generate!({
    path: "../wit/1.0.0",
    inline: "package shop:pricing; world pricing { export shop:orders/quotes@1.0.0; }",
    generate_all,
});

struct Quotes;

impl Guest for Quotes {
    fn quote(sku: String, quantity: u32) -> Result<Price, Failure> {
        let each = match sku.as_str() {
            "tea" => 450,
            "pot" => 2_900,
            "cup" => 700,
            _ => return Err(Failure::Reject(format!("there is no price for `{sku}`"))),
        };
        Ok(Price { cents: each * u64::from(quantity) })
    }
}

export!(Quotes);
