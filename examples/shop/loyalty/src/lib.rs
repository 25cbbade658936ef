//! Grants points for orders, a point for a whole euro; built against version 2 of the contract.

use exports::shop::orders::orders::{Guest, Order};
use shop::orders::loyalty;

wit_bindgen::generate!({
    path: "../wit/2.0.0",
    inline: "
        package shop:club;
        world club {
            import shop:orders/loyalty@2.0.0;
            export shop:orders/orders@2.0.0;
        }
    ",
    generate_all,
});

struct Loyalty;

impl Guest for Loyalty {
    fn placed(key: String, order: Order) {
        loyalty::granted(&key, &order.number, order.total.amount / 100);
    }

    fn cancelled(key: String, number: String, _reason: String) {
        loyalty::revoked(&key, &number);
    }
}

export!(Loyalty);
