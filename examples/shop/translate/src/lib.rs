//! Tells version 2 of the contract what happens in version 1: the bridge between two major versions is a service.

use exports::shop::orders1_2_0::orders::Guest;
use shop::orders1_2_0::types::{Line, Order};
use shop::orders2_0_0::orders::{self as v2, Money, Position};

wit_bindgen::generate!({
    path: ["../wit/1.2.0", "../wit/2.0.0"],
    inline: "
        package shop:translate;
        world translate {
            import shop:orders/orders@2.0.0;
            export shop:orders/orders@1.2.0;
        }
    ",
    generate_all,
});

struct Translate;

impl Guest for Translate {
    fn placed(key: String, order: Order) {
        let position = |line: Line| Position { article: line.sku, count: line.quantity.into() };
        let positions = order.lines.into_iter().map(position).collect();
        let total = Money { amount: order.total_cents, currency: "EUR".to_owned() };
        v2::placed(&key, &v2::Order { number: order.id, positions, total });
    }

    fn cancelled(key: String, id: String, reason: String) {
        v2::cancelled(&key, &id, &reason);
    }
}

export!(Translate);
