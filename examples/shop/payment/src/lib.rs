//! Takes the money for orders.

use exports::shop::orders::orders::{Guest, Order};
use shop::orders::payments;

wit_bindgen::generate!({
    path: "../wit/1.0.0",
    inline: "
        package shop:payment;
        world payment {
            import shop:orders/payments@1.0.0;
            export shop:orders/orders@1.0.0;
        }
    ",
    generate_all,
});

struct Payment;

impl Guest for Payment {
    fn placed(key: String, order: Order) {
        payments::paid(&key, &order.id, order.total_cents);
    }
}

export!(Payment);
