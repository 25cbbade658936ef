//! A task that goes through compare-and-set and listing outside of a delivery, and fails at the first answer that is wrong.

use busway_guest::kv::{self, Error};

fn conflict(result: Result<(), Error>, what: &str) -> Result<(), String> {
    match result {
        Err(Error::Conflict(_)) => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    kv::set_if("leader", b"first", None)?;
    conflict(kv::set_if("leader", b"second", None), "the key is there")?;
    let seen = kv::get_versioned("leader")?.ok_or("the key is gone")?;
    kv::set_if("leader", b"third", Some(seen.version))?;
    conflict(kv::set_if("leader", b"fourth", Some(seen.version)), "the version is old")?;
    for n in 0..600 {
        kv::set(&format!("n.{n:03}"), b"")?;
    }
    let pages = [kv::list_keys("n.", None, 2)?, kv::list_keys("n.", Some("n.597"), 2)?];
    let shown: Vec<_> = pages.iter().map(|page| (page.keys.join(" "), page.next.clone())).collect();
    if shown != [("n.000 n.001".to_owned(), Some("n.001".to_owned())), ("n.598 n.599".to_owned(), None)] {
        return Err(format!("{shown:?}").into());
    }
    let all = kv::keys("n.").collect::<Result<Vec<_>, _>>()?;
    kv::set("listed", all.len().to_string().as_bytes())?;
    Ok(())
}
