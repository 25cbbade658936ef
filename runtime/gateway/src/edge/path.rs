//! Paths of requests: one spelling each, or refused.
//!
//! Invariant: what leaves [`normalise`] has no dot segment, no empty segment but the last, no backslash, no control
//! character in any encoding, and no percent-escape of a character that needs none; so a path that leads to one route
//! cannot be spelt so that it leads to another, and no service behind sees `..`.

use std::borrow::Cow;

/// The one spelling of a path; or why it is refused.
pub(crate) fn normalise(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.starts_with('/') {
        return Err("the path does not begin with `/`");
    }
    let bytes = path.as_bytes();
    let mut out: Vec<u8> = Vec::new();
    let mut changed = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let (high, low) = (hex(bytes.get(at + 1)), hex(bytes.get(at + 2)));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err("a `%` in the path is not followed by two hexadecimal digits");
                };
                match high * 16 + low {
                    0..=0x1f | 0x7f => return Err("the path contains a control character"),
                    b'/' | b'\\' => return Err("the path contains an encoded slash or backslash"),
                    plain if is_unreserved(plain) => {
                        out.push(plain);
                        changed = true;
                    }
                    _ => {
                        let upper = [b'%', bytes[at + 1].to_ascii_uppercase(), bytes[at + 2].to_ascii_uppercase()];
                        changed |= upper[..] != bytes[at..at + 3];
                        out.extend(upper);
                    }
                }
                at += 3;
            }
            b'\\' => return Err("the path contains a backslash"),
            0..=0x1f | 0x7f => return Err("the path contains a control character"),
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    let normal = String::from_utf8(out).map_err(|_| "the path is not valid UTF-8")?;
    let mut segments = normal[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." {
            return Err("the path contains a dot segment");
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Err("the path contains an empty segment");
        }
    }
    Ok(if changed { Cow::Owned(normal) } else { Cow::Borrowed(path) })
}

/// A normalised path as routes are looked up: also what may stand in a segment as it is and was escaped is not escaped. A
/// service may tell the two apart, but which rules hold for a request must not depend on it.
pub(crate) fn for_lookup(path: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| is_unreserved(byte) || b":@!$&'()*+,;=".contains(&byte);
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let start = bytes.len() - escape.len();
        let byte = hex(bytes.get(start + 1)).zip(hex(bytes.get(start + 2))).map(|(high, low)| high * 16 + low);
        if let Some(plain) = byte.filter(|byte| is_plain(*byte)) {
            out.push(char::from(plain));
            rest = &escape[3..];
        } else {
            out.push('%');
            rest = &escape[1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn hex(byte: Option<&u8>) -> Option<u8> {
    char::from(*byte?).to_digit(16).map(|digit| digit as u8)
}

/// RFC 3986, 2.3: means the same escaped or not.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A value of a path with its escapes undone; what is no UTF-8 becomes the replacement character.
pub(crate) fn decode(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            out.push(high * 16 + low);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the path of a route can be served: it is its own one spelling.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), String> {
    if !pattern.is_ascii() || pattern.contains(['?', '#', ' ']) {
        return Err("a path is ASCII without `?`, `#` and blanks; escape other characters as `%C3%A9`".to_owned());
    }
    match normalise(pattern) {
        Err(problem) => Err(problem.to_owned()),
        Ok(normal) => match for_lookup(&normal) {
            plain if *plain == *pattern => Ok(()),
            plain => Err(format!("write it as `{plain}`")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_spelling() {
        for (given, normal) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/%61dm%69n", "/admin"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a%20b;c=1", "/a%20b;c=1"),
            ("/...", "/..."),
        ] {
            assert_eq!(normalise(given).as_deref(), Ok(normal), "{given}");
        }
    }

    #[test]
    fn what_is_escaped_needlessly_leads_nowhere_else() {
        for (given, looked_up) in [
            ("/v1/items%3Abatch", "/v1/items:batch"),
            ("/a%40b%2Bc%25", "/a@b+c%25"),
            ("/a%20b/%C3%A9", "/a%20b/%C3%A9"),
            ("/a", "/a"),
        ] {
            let normal = normalise(given).expect("a path");
            assert_eq!(for_lookup(&normal), looked_up, "{given}");
        }
    }

    #[test]
    fn every_way_to_climb_is_refused() {
        for bad in [
            "/..",
            "/../etc/passwd",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/a/%2E./b",
            "/.%2e",
            "/a%2fb",
            "/a%2F..%2fb",
            "/a\\..\\b",
            "/a%5c..",
            "//a",
            "/a//b",
            "/a%00",
            "/a%0d%0a",
            "/%",
            "/%4",
            "/%zz",
            "*",
            "a",
            "",
        ] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_route_has_to_be_written_in_its_one_spelling() {
        for good in ["/", "/a/{id}", "/{*rest}", "/a%20b"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        for bad in ["a", "/é", "/a?b", "/a b", "/a/../b"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
        assert_eq!(check_pattern("/%61"), Err("write it as `/a`".to_owned()));
        assert_eq!(check_pattern("/a%3Ab"), Err("write it as `/a:b`".to_owned()));
    }

    #[test]
    fn values_are_decoded_once() {
        assert_eq!(decode("a%20b%2525%C3%A9%"), "a b%25é%");
    }
}
