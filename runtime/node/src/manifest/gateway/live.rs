//! `[gateway.live]`, and the routes that push: `events`, `socketio`, `file`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use busway_gateway::edge::{LiveConfig, ServedFile, SocketIoConfig, SocketIoNamespace, Target};
use busway_types::{Pattern, Topic};

use super::super::reader::Table;

/// Keys of `[gateway.live]`.
const KEYS: &[&str] = &[
    "listeners",
    "listeners-per-caller",
    "patterns",
    "heartbeat",
    "stream-time",
    "stall",
    "message-bytes",
    "messages-per-second",
    "subscriptions",
];

/// `[gateway.live]`; what the manifest does not say stays at its default.
pub(super) fn read(gateway: &Table<'_>) -> LiveConfig {
    let mut live = LiveConfig::default();
    let Some(table) = gateway.table("live", "[gateway.live]".to_owned(), KEYS) else { return live };
    let count = |key: &str, most: u64, field: &mut usize| {
        if let Some(value) = table.integer(key, 1..=most) {
            *field = value as usize;
        }
    };
    count("listeners", 1_000_000, &mut live.listeners);
    count("listeners-per-caller", 1_000_000, &mut live.listeners_per_caller);
    count("patterns", 1_000, &mut live.patterns);
    count("subscriptions", 1_000, &mut live.subscriptions);
    let time = |key: &str, least: Duration, field: &mut Duration| {
        if let Some(value) = table.duration(key, least..=Duration::from_hours(24)) {
            *field = value;
        }
    };
    time("heartbeat", Duration::from_secs(1), &mut live.heartbeat);
    time("stream-time", Duration::from_secs(10), &mut live.stream_time);
    time("stall", Duration::from_secs(1), &mut live.stall);
    if let Some(bytes) = table.bytes("message-bytes", 1 << 10..=64 << 20) {
        live.message_bytes = bytes as usize;
    }
    if let Some(count) = table.integer("messages-per-second", 1..=100_000) {
        live.messages_per_second = count as u32;
    }
    live
}

/// `events = ["shop.>"]`, or one pattern alone.
pub(super) fn events(route: &Table<'_>) -> Option<Target> {
    let patterns: Vec<Pattern> = route.list("events")?;
    if patterns.is_empty() {
        route.note("events", "`events` selects nothing; give a pattern such as \"shop.>\"");
        return None;
    }
    Some(Target::Events(patterns))
}

/// Keys of `socketio`.
const NAMESPACE_KEYS: &[&str] =
    &["in", "out", "names", "room", "join", "leave", "rooms", "broadcast", "cursors", "rooms-per-client", "namespaces"];

/// `socketio = { in = "chat.in", out = "chat.out" }`, for the namespace `/`; others in `namespaces`.
pub(super) fn socketio(route: &Table<'_>) -> Option<Target> {
    let table = route.table("socketio", "`socketio`".to_owned(), NAMESPACE_KEYS)?;
    let mut namespaces = BTreeMap::new();
    if table.has("in") || table.has("out") || !table.has("namespaces") {
        namespaces.insert("/".to_owned(), namespace(&table)?);
    }
    if let Some(names) = table.names("namespaces") {
        for (name, span, _) in names.entries() {
            if !name.starts_with('/') || name.len() == 1 || name.contains([',', '?']) {
                let help = Some("such as \"/admin\"; the settings of \"/\" stand beside `namespaces`".to_owned());
                table.document.note(span, format!("`{name}` is no name of a namespace"), help);
                continue;
            }
            let Some(table) =
                names.table(name, format!("the namespace `{name}`"), &NAMESPACE_KEYS[..NAMESPACE_KEYS.len() - 1])
            else {
                continue;
            };
            namespaces.insert(name.to_owned(), namespace(&table)?);
        }
    }
    Some(Target::SocketIo(SocketIoConfig { namespaces }))
}

fn namespace(table: &Table<'_>) -> Option<SocketIoNamespace> {
    for key in ["in", "out"] {
        if !table.has(key) {
            let help = Some("such as in = \"chat.in\", out = \"chat.out\"".to_owned());
            table.document.note(table.span.clone(), format!("{} needs `{key}`, a topic", table.name), help);
        }
    }
    let (incoming, outgoing): (Option<Topic>, Option<Topic>) = (table.parsed("in"), table.parsed("out"));
    let mut namespace = SocketIoNamespace::new(incoming?, outgoing?);
    if namespace.pattern().is_none() {
        table.note("out", "the topic is too long to have anything below it");
    }
    if let Some(names) = table.list("names") {
        namespace.names = names;
    }
    let text = |key: &str, field: &mut String| {
        if let Some(text) = table.string(key) {
            text.clone_into(field);
        }
    };
    text("room", &mut namespace.room);
    text("join", &mut namespace.join);
    text("leave", &mut namespace.leave);
    namespace.rooms = table.parsed("rooms");
    namespace.broadcast = table.boolean("broadcast").unwrap_or(false);
    namespace.cursors = table.boolean("cursors").unwrap_or(false);
    if let Some(most) = table.integer("rooms-per-client", 1..=10_000) {
        namespace.rooms_per_client = most as usize;
    }
    Some(namespace)
}

/// `file = "page.html"`, beside the manifest.
pub(super) fn file(route: &Table<'_>, base: &Path) -> Option<Target> {
    let name = route.string("file")?;
    let Some(media_type) = ServedFile::media_type(name) else {
        route.note(
            "file",
            format!("`{name}` is of a kind that is not served: html, css, js, json, txt, svg, png, ico, wasm"),
        );
        return None;
    };
    let path = base.join(name);
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() <= ServedFile::MAX_BYTES => {
            Some(Target::File(ServedFile { media_type, bytes: bytes.into() }))
        }
        Ok(bytes) => {
            let most = ServedFile::MAX_BYTES;
            route.note("file", format!("{} has {} bytes; at most {most} are served", path.display(), bytes.len()));
            None
        }
        Err(error) => {
            route.note("file", format!("cannot read {}: {error}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use busway_gateway::edge::RouteConfig;

    use super::super::super::Manifest;
    use super::*;

    fn routes(folder: &Path, routes: &str) -> Result<Vec<RouteConfig>, String> {
        let text = format!("[gateway]\nlisten = \"127.0.0.1:0\"\n{routes}");
        let manifest = Manifest::parse(&folder.join("busway.toml"), &text);
        let told = |findings: Vec<_>| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        manifest.map(|manifest| manifest.gateway.edge.routes).map_err(told)
    }

    #[test]
    fn routes_that_push_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("page.html"), "<p>").expect("written");
        let read = routes(
            folder.path(),
            r#"
[gateway.live]
listeners = 10
stream-time = "1m"
[[gateway.routes]]
path = "/"
file = "page.html"
[[gateway.routes]]
path = "/live"
events = ["shop.>", "a.b"]
[[gateway.routes]]
path = "/socket.io"
socketio = { in = "chat.in", out = "chat.out", rooms = "chat.rooms", namespaces = { "/x" = { in = "x.in", out = "x.out" } } }
"#,
        )
        .expect("sound");
        let Target::File(file) = &read[0].target else { panic!("{:?}", read[0]) };
        assert_eq!((file.media_type, &file.bytes[..]), ("text/html; charset=utf-8", &b"<p>"[..]));
        assert_eq!(read[1].target, Target::Events(vec!["shop.>".parse().expect("one"), "a.b".parse().expect("one")]));
        let Target::SocketIo(socketio) = &read[2].target else { panic!("{:?}", read[2]) };
        assert_eq!(socketio.namespaces.keys().collect::<Vec<_>>(), ["/", "/x"]);
        assert_eq!(socketio.namespaces["/"].rooms.as_ref().map(Topic::as_str), Some("chat.rooms"));
        assert_eq!(socketio.namespaces["/x"].outgoing.as_str(), "x.out");
    }

    #[test]
    fn mistakes_in_them_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        for (target, told) in [
            ("file = \"missing.html\"", "cannot read"),
            ("file = \"../secret.key\"", "of a kind that is not served"),
            ("events = []", "selects nothing"),
            ("socketio = { in = \"a\" }", "needs `out`"),
            ("socketio = { in = \"a\", out = \"b\", roms = \"c\" }", "rooms"),
            ("socketio = { namespaces = { admin = { in = \"a\", out = \"b\" } } }", "no name of a namespace"),
            ("service = \"a\"\nevents = [\"b\"]", "leads to one thing"),
        ] {
            let error =
                routes(folder.path(), &format!("[[gateway.routes]]\npath = \"/x\"\n{target}")).expect_err(target);
            assert!(error.contains(told), "{target}: {error}");
        }
    }
}
