//! `busway gateway`: a key is shown once, and what goes into the manifest never holds it.

use busway_gateway::edge::auth::{ApiKey, KeyHash};

use crate::harness::Sandbox;

#[test]
fn a_key_goes_to_stdout_and_its_hash_to_the_manifest() {
    let sandbox = Sandbox::new();
    let scopes = ["--scope", "publish:shop.>", "--scope", "route:quote"];
    let run = sandbox.busway(&[&["gateway", "key", "shop", "--expires", "2027-01-31"][..], &scopes].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let key = ApiKey::parse(run.stdout.trim_end()).expect("a key alone on stdout");
    let lines = format!(
        "[gateway.auth.keys.shop]\nsha256 = \"{}\"\nscopes = [\"publish:shop.>\", \"route:quote\"]\n\
         expires = \"2027-01-31\"\n",
        key.hash()
    );
    assert!(run.stderr.ends_with(&lines), "{run:?}");
    assert!(!run.stderr.contains(key.as_str()), "{run:?}");
    let run = sandbox.busway(&["gateway", "key", "till", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    let hash = KeyHash::of(said["key"].as_str().expect("a key").as_bytes());
    assert_eq!(said["sha256"], hash.to_string());
}

#[test]
fn what_is_no_scope_name_or_time_is_refused() {
    let sandbox = Sandbox::new();
    for (arguments, told) in [
        (&["gateway", "key", "a b"][..], "letters, digits"),
        (&["gateway", "key", "a", "--scope", "shop.>"], "publish:PATTERN"),
        (&["gateway", "key", "a", "--scope", "admin:shop"], "no kind of permission"),
        (&["gateway", "key", "a", "--expires", "tomorrow"], "2027-01-31"),
        (&["gateway"], "Usage"),
    ] {
        let run = sandbox.busway(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run:?}");
        assert!(run.stderr.contains(told), "{told}: {run:?}");
    }
}
