//! What a manifest yields, and what its author is told.

use std::fs;
use std::path::Path;
use std::time::Duration;

use busway_gateway::edge::Target;
use busway_types::{Ordering, Pattern, ServiceName, StartAt};

use super::*;

fn parse(text: &str) -> Result<Manifest, String> {
    let findings = Manifest::parse(Path::new("/app/busway.toml"), text);
    findings.map_err(|f| f.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The message for a manifest that must be refused, without its first path.
fn refused(text: &str) -> String {
    parse(text).expect_err(text).replace("/app/busway.toml:", "")
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn pattern(text: &str) -> Pattern {
    text.parse().expect("a pattern")
}

const FULL: &str = r#"
[bus]
engine = "file:data"
durability = "interval(50ms)"

[limits]
event-bytes = "2MiB"
publish-wait = "500ms"

[services.stock]
component = "wasm/stock.wasm"
subscribe = ["shop.orders.>"]
publish = ["shop.stock.*"]
concurrency = 8
ordering = "strict"
retry = { attempts = 3, backoff = "1s", backoff-max = "10s", jitter = 50 }
timeout = "2s"
memory = "128MiB"
instances = "per-event"
key-value = false
env = { LANG = "C" }
files = [{ host = "in", guest = "/in" }, { host = "/out", guest = "/out", write = true }]
network = ["example.org:443", "10.0.0.1"]
config = { mode = "fast" }
from = "start"
self = true

[services."tick.er"]
schedule = "0 6 * * MON"
emit = "public.tick"
run = "always"
enabled = false
"#;

#[test]
fn a_full_manifest_yields_plain_values() {
    let manifest = parse(FULL).expect("a sound manifest");
    assert_eq!(manifest.bus.engine, Some(EngineUrl::File("/app/data".into())));
    assert_eq!(manifest.bus.durability, Some(Durability::Interval(Duration::from_millis(50))));
    assert_eq!((manifest.limits.event_bytes, manifest.limits.publish_wait), (2 << 20, Duration::from_millis(500)));
    let stock = &manifest.services[&name("stock")];
    assert_eq!(stock.component, Path::new("/app/wasm/stock.wasm"));
    assert_eq!(stock.subscribe, Some(vec![pattern("shop.orders.>")]));
    assert_eq!((stock.concurrency, stock.ordering, stock.instances), (8, Ordering::Strict, Instances::PerEvent));
    assert_eq!((stock.retry.attempts, stock.retry.jitter_percent), (3, 50));
    assert_eq!((stock.memory_bytes, stock.timeout), (128 << 20, Duration::from_secs(2)));
    assert_eq!((stock.key_value, stock.own_events, stock.start), (false, true, StartAt::Start));
    assert_eq!(stock.files[0], FileGrant { host: "/app/in".into(), guest: "/in".into(), write: false });
    assert_eq!(stock.files[1].host, Path::new("/out"));
    assert_eq!(stock.network[0].to_string(), "example.org:443");
    assert_eq!(stock.config["mode"], "fast");
    let ticker = &manifest.services[&name("tick.er")];
    assert_eq!(ticker.component, Path::new("/app/tick.er.wasm"));
    assert_eq!((ticker.run, ticker.enabled), (RunPolicy::Always, false));
    assert_eq!(ticker.schedule.as_ref().map(Schedule::pattern), Some("0 6 * * MON"));
}

#[test]
fn an_empty_manifest_is_all_defaults() {
    let manifest = parse("").expect("a sound manifest");
    assert_eq!((manifest.bus, manifest.limits), (BusConfig::default(), busway_types::Limits::default()));
    assert!(manifest.services.is_empty());
}

#[test]
fn an_unknown_key_is_shown_with_the_nearest_known_one() {
    assert_eq!(
        refused("[services.stock]\nconcurency = 4\n"),
        "2:1: unknown key `concurency` in [services.stock]\n\
        \x20 2 | concurency = 4\n\
        \x20   | ^^^^^^^^^^\n\
        \x20   = did you mean `concurrency`?"
    );
    assert!(refused("[limits]\nevent_bytes = \"1MiB\"").contains("did you mean `event-bytes`?"));
    assert!(refused("[bus]\ncolour = 1").contains("known here: engine, durability, generation, retention"));
    assert!(refused("[service.a]").contains("did you mean `services`?"));
    assert!(refused("[services.a.retry]\nattempt = 1").contains("unknown key `attempt` in `retry` of [services.a]"));
}

#[test]
fn a_wrong_type_is_shown_with_what_was_expected() {
    assert_eq!(
        refused("[services.stock]\ntimeout = 5\n"),
        "2:11: `timeout` in [services.stock] is an integer; expected a duration\n\
        \x20 2 | timeout = 5\n\
        \x20   |           ^\n\
        \x20   = write it with its unit, such as \"200ms\""
    );
    for (text, message) in [
        ("[services.a]\nconcurrency = \"4\"", "`concurrency` in [services.a] is a string; expected a whole number"),
        ("[services.a]\nsubscribe = \"x.>\"", "write [\"x.>\"]"),
        ("[services.a]\nsubscribe = [1]", "`subscribe` in [services.a] is an integer; expected a list of strings"),
        ("[services.a]\nkey-value = \"yes\"", "expected true or false"),
        ("[services.a]\nconfig = { n = 1 }", "write \"1\""),
        ("[services.a]\nenv = [\"HOME\"]", "`env` in [services.a] is a list; expected a table of strings"),
        ("[services.a]\nfiles = { host = \"a\" }", "expected a list of tables"),
        ("services = 1", "`services` in the manifest is an integer; expected a table"),
        ("[services]\nstock = \"stock.wasm\"", "write [services.stock] and its settings below"),
        ("[limits]\nevent-bytes = 1048576", "write it with its unit, such as \"64MiB\""),
    ] {
        let told = refused(text);
        assert!(told.contains(message), "{text}\ngave\n{told}");
    }
}

#[test]
fn every_value_has_its_bounds() {
    for (text, message) in [
        ("[services.a]\nconcurrency = 0", "`concurrency` in [services.a] is 0; 1 to 64 are allowed"),
        ("[services.a]\nconcurrency = -1", "is -1; 1 to 64"),
        ("[services.a]\nconcurrency = 0xffff", "is 65535; 1 to 64"),
        ("[services.a]\nconcurrency = 99999999999999999999999", "is 99999999999999999999999; 1 to 64"),
        ("[services.a]\ntimeout = \"2h\"", "is 2h; 1ms to 1h are allowed"),
        ("[services.a]\nmemory = \"1KiB\"", "is 1KiB; 1MiB to 4GiB are allowed"),
        ("[services.a]\nretry.attempts = 0", "is 0; 1 to 1000 are allowed"),
        ("[services.a]\nretry = { backoff = \"5s\", backoff-max = \"1s\" }", "`backoff-max` is shorter than `backoff`"),
        ("[limits]\nwindow-bytes = \"4KiB\"", "`window-bytes` (4KiB) is less than `event-bytes` (1MiB)"),
        ("[limits]\nhops = 300", "is 300; 1 to 255"),
        ("[bus]\ndurability = \"interval(1h)\"", "1ms to 10s are allowed"),
    ] {
        let told = refused(text);
        assert!(told.contains(message), "{text}\ngave\n{told}");
    }
}

#[test]
fn what_is_not_a_topic_word_name_or_schedule_says_why() {
    for (text, message) in [
        ("[services.a]\npublish = [\"a..b\"]", "the topic `a..b` has an empty token at byte 2"),
        ("[services.a]\nsubscribe = [\"a.>.b\"]", "`>` stands for all remaining tokens"),
        ("[services.a]\nordering = \"keys\"", "did you mean `key`?"),
        ("[services.a]\nrun = \"daily\"", "expected `once`, `always`, `never`"),
        ("[services.\"a b\"]", "`a b` is not a service name"),
        ("[services.a]\nschedule = \"* * *\"\nemit = \"public.t\"", "`* * *` is not a cron pattern"),
        ("[services.a]\nschedule = \"* * * * *\"", "`schedule` needs `emit = \"TOPIC\"`"),
        ("[services.a]\nemit = \"public.t\"", "`emit` needs `schedule = \"CRON\"`"),
        ("[services.a]\nnetwork = [\"https://x.org\"]", "`https://x.org` is not a host"),
        ("[services.a]\nfiles = [{ host = \"a\", guest = \"a\" }]", "has to be absolute"),
        ("[services.a]\nfiles = [{ host = \"a\" }]", "`guest` is missing"),
        ("[services.a]\ncomponent = \"oci://x\"", "not available in this version; give a path"),
        ("[bus]\nengine = \"kafka://localhost\"", "this build has no engine for `kafka:`"),
        ("[bus]\nengine = \"sqlite:x\"", "`sqlite:x` is not an engine"),
    ] {
        let told = refused(text);
        assert!(told.contains(message), "{text}\ngave\n{told}");
    }
}

#[test]
fn two_services_of_one_name_are_told_apart_from_other_duplicates() {
    let told = refused("[services.a]\nrun = \"once\"\n\n[services.a]\nrun = \"never\"\n");
    assert!(told.contains("the service a is already described in line 1; give this one another name"), "{told}");
    assert!(told.starts_with("4:"), "{told}");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_text() {
    let told = refused("[services.a]\nrun = 1\ntimeout = 2\n[bus]\nengin = \"memory:\"\n");
    let lines: Vec<&str> = told.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(lines.iter().map(|l| &l[..1]).collect::<Vec<_>>(), ["2", "3", "5"]);
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    let told = refused("[bus]\nengine = \n");
    assert!(told.starts_with("2:"), "{told}");
    for text in ["[", "a = ", "\u{0}", "[[services]]", "a = \"\n", "services.a", "=", "[services.a]\nrun = 'x"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn without_a_grant_only_public_topics_are_open_and_the_refusal_shows_the_lines_to_write() {
    let stock = ServiceConfig::default_for(name("stock"), "app/stock.wasm".into());
    assert!(stock.may_publish(&"public.a.b".parse().expect("a topic")));
    assert!(!stock.may_publish(&"shop.a".parse().expect("a topic")));
    assert_eq!(stock.subscriptions(&[pattern("public.a")]), Ok(vec![pattern("public.a")]));
    assert_eq!(
        stock.publish_denied("shop.a").to_string(),
        "the service `stock` may not publish to `shop.a`; to allow it, put a busway.toml beside it with:\n\
        \x20 [services.stock]\n\
        \x20 component = \"stock.wasm\"\n\
        \x20 publish = [\"public.>\", \"shop.a\"]\n\
        and restart the node"
    );
    let denied = stock.subscriptions(&[pattern("public.a"), pattern(">")]).expect_err("too wide");
    assert!(denied.to_string().ends_with("subscribe = [\"public.a\", \">\"]\nand restart the node"), "{denied}");

    let manifest = parse("[services.\"st.ock\"]\n").expect("a sound manifest");
    let denied = manifest.services[&name("st.ock")].publish_denied("shop.a").to_string();
    assert!(denied.contains("write in /app/busway.toml:\n  [services.\"st.ock\"]\n  publish ="), "{denied}");
}

#[test]
fn a_subscription_of_the_manifest_wins_over_what_the_component_asks_for() {
    let manifest = parse("[services.a]\nsubscribe = [\"shop.>\"]\n").expect("a sound manifest");
    let a = &manifest.services[&name("a")];
    assert_eq!(a.subscriptions(&[pattern("other.x")]), Ok(vec![pattern("shop.>")]));
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (file, text) in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    dir
}

fn names(app: &App) -> Vec<String> {
    app.services.keys().map(ToString::to_string).collect()
}

#[test]
fn the_files_of_a_folder_are_services_named_by_their_stem() {
    let dir = folder(&[("b.wasm", ""), ("a.wasm", ""), ("notes.txt", ""), (".half.wasm", ""), ("sub/c.wasm", "")]);
    let app = App::load(dir.path()).expect("an app");
    assert_eq!(names(&app), ["a", "b"]);
    assert!(app.refused.is_empty() && app.manifest.is_none());
}

#[test]
fn a_file_whose_stem_is_no_name_is_refused_and_the_others_run() {
    let dir = folder(&[("a b.wasm", ""), ("a.wasm", "")]);
    let app = App::load(dir.path()).expect("an app");
    assert_eq!(names(&app), ["a"]);
    assert!(app.refused[0].reason.contains("`a b` is not a service name"), "{}", app.refused[0].reason);
    assert!(app.refused[0].reason.ends_with("rename the file"), "{}", app.refused[0].reason);
}

#[test]
fn a_manifest_in_a_folder_sets_its_services_and_the_other_files_run_with_defaults() {
    let manifest =
        "[services.orders]\ncomponent = \"a.wasm\"\ntimeout = \"1s\"\n[services.c]\ncomponent = \"x/c.wasm\"";
    let dir = folder(&[("busway.toml", manifest), ("a.wasm", ""), ("b.wasm", ""), ("c.wasm", ""), ("x/c.wasm", "")]);
    let app = App::load(dir.path()).expect("an app");
    assert_eq!(names(&app), ["b", "c", "orders"]);
    assert_eq!(app.services[&name("orders")].timeout, Duration::from_secs(1));
    assert!(app.services[&name("c")].component.ends_with("x/c.wasm"));
    assert_eq!(app.refused.len(), 1);
    assert!(app.refused[0].reason.starts_with("two services of one name:"), "{}", app.refused[0].reason);

    let alone = App::load(&dir.path().join("busway.toml")).expect("an app");
    assert_eq!(names(&alone), ["c", "orders"]);
    assert!(alone.folder.is_none());
}

#[test]
fn a_folder_without_components_says_where_cargo_puts_them() {
    let told =
        |place: &Path| App::load(place).expect("it may come").nothing_to_run().expect("nothing to run").to_string();
    let dir = folder(&[("src/lib.rs", "")]);
    let none = told(dir.path());
    assert!(none.contains("cargo build --release --target wasm32-wasip2"), "{none}");

    let dir = folder(&[("target/wasm32-wasip2/release/stock.wasm", ""), ("app/readme", "")]);
    for place in [dir.path().to_owned(), dir.path().join("app")] {
        let told = told(&place);
        assert!(told.contains("target/wasm32-wasip2/release/stock.wasm"), "{told}");
        assert!(told.contains("busway run "), "{told}");
    }
}

#[test]
fn what_is_not_there_or_no_app_is_told() {
    let dir = folder(&[("a.wasm", ""), ("bad.toml", "a = "), ("latin.toml", "")]);
    fs::write(dir.path().join("latin.toml"), [0xe4, 0x20]).expect("a file");
    for (file, message) in [
        ("nothing", "there is no "),
        ("a.wasm", "for one component: the folder it is in"),
        ("bad.toml", "1:"),
        ("latin.toml", "byte 0 is not UTF-8"),
    ] {
        let told = App::load(&dir.path().join(file)).expect_err(file).to_string();
        assert!(told.contains(message), "{told}");
    }
}

#[test]
fn topics_say_how_long_their_events_live() {
    let manifest = parse("[topics.\"shop.>\"]\nexpires = \"1h\"\n[topics.prices]\nexpires = \"250ms\"\n");
    let mut rules = manifest.expect("good").limits.topic_expiry;
    rules.sort_by_key(|rule| rule.after);
    let said: Vec<_> = rules.iter().map(|rule| (rule.topics.to_string(), rule.after)).collect();
    let hour = Duration::from_hours(1);
    assert_eq!(said, [("prices".to_owned(), Duration::from_millis(250)), ("shop.>".to_owned(), hour)]);
    assert!(refused("[topics.\"a..b\"]\nexpires = \"1h\"").starts_with("1:"));
    assert!(refused("[topics.a]\nexpires = \"0s\"").contains("expires"));
    assert!(refused("[topics.a]\nexpire = \"1s\"").contains("did you mean `expires`"));
    assert!(refused("[topics]\na = \"1s\"").contains("is not a table"));
}

#[test]
fn the_window_of_deduplication_is_a_limit() {
    let limits = parse("[limits]\ndedup-window = \"0s\"\ndedup-ids = 5_000").expect("good").limits;
    assert_eq!((limits.dedup_window, limits.dedup_ids), (Duration::ZERO, 5_000));
    assert!(refused("[limits]\ndedup-ids = 10").contains("dedup-ids"));
}

#[test]
fn retention_is_by_size_and_by_time() {
    let retention = |text: &str| parse(text).map(|manifest| manifest.limits.retention);
    let both = retention("[bus]\nretention = { bytes = \"1GiB\", time = \"7d\" }").expect("good");
    assert_eq!((both.bytes, both.time), (Some(1 << 30), Some(Duration::from_hours(7 * 24))));
    assert_eq!(retention("[bus]\nengine = \"memory:\"").expect("good"), busway_types::Retention::default());
    let told = refused("[bus]\nretention = { bytes = \"9GiB\" }");
    assert!(told.contains("bytes"), "more than three quarters of limits.disk-bytes: {told}");
    assert!(refused("[bus]\nretention = { size = \"1GiB\" }").contains("unknown key `size`"));
}

#[test]
fn keys_of_contracts_are_read_with_their_mistakes() {
    let text = "[contracts.\"shop:orders/events@1.0.0\"]\nkey = \"event.id\"\n[contracts.\"shop:orders/others\"]\nkey = { placed = \"id\" }\n[services.a]\n";
    let manifest = parse(text).expect("a sound manifest");
    assert_eq!(manifest.services[&name("a")].keys, manifest.keys);
    assert_ne!(manifest.keys, busway_contract::Keys::default());
    for (text, message) in [
        ("[contracts.orders]\nkey = \"id\"", "`orders` is not the name of an interface in a package"),
        ("[contracts.\"a:b/c\"]\nkey = \"event..id\"", "is no path to a key"),
        ("[contracts.\"a:b/c\"]\nkey = { f = 1 }", "is an integer; expected a string"),
        ("[contracts.\"a:b/c\"]\nkeys = \"x\"", "did you mean `key`?"),
        ("[contracts.\"a:b/c@1.0.0\"]\nkey = \"x\"\n[contracts.\"a:b/c@1.2.0\"]\nkey = \"y\"", "share their topics"),
    ] {
        assert!(refused(text).contains(message), "{}", refused(text));
    }
}

#[test]
fn routes_to_functions_say_their_body_and_the_statuses_of_their_errors() {
    let route =
        |more: &str| format!("[gateway]\n[[gateway.routes]]\npath = \"/quotes/{{sku}}\"\nmethod = \"PUT\"\n{more}");
    let text =
        route("request = \"shop:orders/quotes.quote\"\nbody = \"price\"\nerrors = { not-found = 404, \"*\" = 409 }");
    let routes = parse(&text).expect("good").gateway.edge.routes;
    let Target::Request(target) = &routes[0].target else { panic!("{routes:?}") };
    assert_eq!(
        (target.function.to_string().as_str(), target.body.as_deref()),
        ("shop:orders/quotes.quote", Some("price"))
    );
    let errors: Vec<(&str, u16)> = target.errors.iter().map(|(case, status)| (&**case, status.as_u16())).collect();
    assert_eq!(errors, [("*", 409), ("not-found", 404)]);
    assert!(refused(&route("request = \"quote\"")).contains("one looks like `shop:orders/quotes.quote`"));
    assert!(refused(&route("request = \"a:b/c.d\"\nerrors = { x = 200 }")).contains("400 to 599"));
    assert!(refused(&route("service = \"a\"\nerrors = { x = 404 }")).contains("`errors` goes with `request` alone"));
    assert!(refused(&route("request = \"a:b/c.d\"\nservice = \"a\"")).contains("one thing"));
}
