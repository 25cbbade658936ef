//! Ships what is paid.

use exports::shop::orders::payments::Guest;
use shop::orders::deliveries;

wit_bindgen::generate!({
    path: "../wit/1.2.0",
    inline: "
        package shop:shipping;
        world shipping {
            import shop:orders/deliveries@1.2.0;
            export shop:orders/payments@1.2.0;
        }
    ",
    generate_all,
});

struct Shipping;

impl Guest for Shipping {
    fn paid(key: String, id: String, cents: u64, method: Option<String>) {
        let method = method.unwrap_or_else(|| "in a way of 1.0.0".to_owned());
        deliveries::shipped(&key, &id, Some(&format!("{cents} cents, paid {method}")));
    }
}

export!(Shipping);
