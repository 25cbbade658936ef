//! RabbitMQ: where it is, and how to connect.

mod connect;
mod url;

pub use self::connect::amqp_connect;
pub use self::url::{AmqpServer, AmqpUrl, InvalidAmqpUrl};
