//! Addresses of places.

use super::*;

fn from(text: &str) -> Place {
    Place::parse(text, Direction::From).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn to(text: &str) -> Place {
    Place::parse(text, Direction::To).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn an_address_says_where_and_never_shows_what_is_secret() {
    for (text, shown) in [
        ("amqp://me:hush@h/queue/hello", "amqp://***@h:5672/%2f/queue/hello"),
        ("amqps://h:7/a%2fb/queue/x%20y?ca=/ca.pem", "amqps://h:7/a%2fb/queue/x y"),
        ("nats://hush@h/subject/a.b.%3E", "nats://***@h:4222/subject/a.b.>"),
        ("nats://h/subject/a.*.>?group=g", "nats://h:4222/subject/a.*.>"),
        ("tls://me:hush@h/stream/ORDERS?filter=a.*&consumer=c&deliver=new", "tls://***@h:4222/stream/ORDERS"),
    ] {
        let place = from(text);
        assert_eq!((place.to_string(), format!("{place:?}")), (shown.to_owned(), shown.to_owned()));
    }
    let target = to("amqp://h/exchange/logs?routing-key=a.b");
    assert_eq!(target.to_string(), "amqp://h:5672/%2f/exchange/logs?routing-key=a.b");
    assert_eq!(to("nats://h/stream/S?subject=a.b").to_string(), "nats://h:4222/stream/S?subject=a.b");
    let At::Nats { at, .. } = from("nats://h/stream/S?filter=a.*&consumer=c&deliver=new").0 else { panic!("NATS") };
    let source = Nats::Source {
        stream: "S".to_owned(),
        consumer: Some("c".to_owned()),
        filter: Some("a.*".to_owned()),
        only_new: true,
    };
    assert_eq!(at, source);
}

#[test]
fn the_environment_has_the_login_that_an_address_lacks() {
    let look = |name: &str| name.ends_with("_USER").then(|| "me".to_owned());
    for text in ["nats://h/subject/a", "amqp://h/queue/a"] {
        assert!(from(text).with_environment(look).to_string().contains("***@"), "{text}");
    }
}

#[test]
fn what_is_wrong_with_an_address_is_told_without_it() {
    for (text, direction, part) in [
        ("redis://u:secret@h/queue/a", Direction::From, "begins with"),
        ("amqp://u:secret@h", Direction::From, "says no queue"),
        ("amqp://u:secret@h/v/queue/a/b", Direction::From, "says no queue"),
        ("amqp://u:secret@h/queue/", Direction::From, "1 to 255 bytes"),
        ("amqp://u:secret@h/topic/a", Direction::From, "neither `queue` nor `exchange`"),
        ("amqp://u:secret@h/exchange/a", Direction::From, "bind one"),
        ("amqp://u:secret@h/queue/a?routing-key=x", Direction::To, "`routing-key` is no option"),
        ("amqp://u:secret@h/queue/a?cert=/c", Direction::To, "cert=FILE and key=FILE"),
        ("nats://u:secret@h/a.b", Direction::From, "says no subject"),
        ("nats://u:secret@h/subject/a..b", Direction::From, "is no subject"),
        ("nats://u:secret@h/subject/a.>", Direction::To, "wildcards"),
        ("nats://u:secret@h/stream/a.b", Direction::From, "a stream of NATS"),
        ("nats://u:secret@h/stream/a", Direction::To, "?subject="),
        ("nats://u:secret@h/stream/a?deliver=last", Direction::From, "`deliver` is"),
        ("nats://u:secret@h/stream/a?replicas=3", Direction::From, "`replicas` is no option"),
        ("nats://u:secret@h/subject/a?group=x%20y", Direction::From, "a queue group"),
        ("nats://u:se%zzcret@h/subject/a", Direction::From, "percent sign"),
        ("nats://", Direction::From, ""),
    ] {
        let error = Place::parse(text, direction).expect_err(text).to_string();
        assert!(error.contains(part) && !error.contains("secret") && error.contains("amqp://HOST/queue"), "{error}");
    }
}

#[test]
fn messages_that_come_back_are_seen() {
    let loops = [
        ("amqp://h/queue/a", "amqp://me@h:5672/queue/a"),
        ("amqp://h/v/queue/a", "amqp://h/v/queue/a?ca=/x"),
        ("nats://h/subject/a.b", "nats://h/subject/a.>"),
        ("nats://h/stream/S?subject=a.b", "nats://h/subject/*.b"),
        ("nats://h/stream/S?subject=a.b", "nats://h/stream/S"),
        ("nats://h/subject/a.b", "nats://h/stream/S?filter=a.*"),
    ];
    for (target, source) in loops {
        assert!(to(target).feeds(&from(source)), "{target} and {source}");
    }
    let others = [
        ("amqp://h/queue/a", "amqp://h/queue/b"),
        ("amqp://h/queue/a", "amqp://h/v/queue/a"),
        ("amqp://h/queue/a", "amqp://other/queue/a"),
        ("amqp://h/exchange/a", "amqp://h/queue/a"),
        ("nats://h/subject/a.b", "nats://h/subject/a"),
        ("nats://h/subject/a", "nats://h/subject/a.>"),
        ("nats://h/stream/S?subject=a.b", "nats://h/stream/S?filter=b.>"),
    ];
    for (target, source) in others {
        assert!(!to(target).feeds(&from(source)), "{target} and {source}");
    }
}
