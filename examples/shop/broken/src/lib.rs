//! A stock that does not understand checkout: `busway check` and `run` refuse it.

use exports::shop::orders::orders::{Guest, Order};
use shop::orders::warehouse;

wit_bindgen::generate!({
    path: "wit",
    inline: "
        package shop:stock;
        world stock {
            import shop:orders/warehouse@1.0.0;
            export shop:orders/orders@1.0.0;
        }
    ",
    generate_all,
});

struct Stock;

impl Guest for Stock {
    fn placed(order: Order) {
        for line in order.lines {
            warehouse::reserved(&line.sku, line.quantity.parse().unwrap_or_default());
        }
    }
}

export!(Stock);
