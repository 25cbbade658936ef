//! The custom section that carries a contract's WIT inside a component.
//!
//! Tools drop the doc comments of WIT when they make a component; a section keeps them. Format: a custom section whose name
//! is [`SECTION`], or begins with [`SECTION`] and a colon, of the component itself or of a core module in it. It holds
//!
//! - a WIT package in its binary form (begins with `\0asm`; as `wasm-tools component wit --wasm` makes it), or
//! - WIT as text, UTF-8. A linker joins sections of one name, so each file may begin with a line `//// NAME`, which also
//!   names it in messages. Files belong to packages as their `package` statements say.
//!
//! Unknown sections are ignored by everything else, so that one does not change what a component does.

use wasmparser::{Parser, Payload};

/// The name of the section.
pub const SECTION: &str = "busway-contract";

/// What begins a file inside of a text section.
const FILE: &str = "//// ";

/// The contents of the sections, those of the component itself first.
pub(super) fn find(component: &[u8]) -> Vec<&[u8]> {
    let (mut own, mut inner) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::CustomSection(section)) if is_ours(section.name()) => {
                let sections = if depth == 0 { &mut own } else { &mut inner };
                sections.push(section.data());
            }
            Ok(_) => {}
            // Whoever reads the component itself says what is wrong with it.
            Err(_) => break,
        }
    }
    own.append(&mut inner);
    own
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(SECTION).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// The files of a text section with their names.
pub(super) fn files(text: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut name = SECTION.to_owned();
    loop {
        let next = if rest.starts_with(FILE) { Some(0) } else { rest.find(&format!("\n{FILE}")).map(|at| at + 1) };
        let (file, after) = next.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + FILE.len()..])));
        if !file.trim().is_empty() {
            found.push((name, file));
        }
        let Some(after) = after else { return found };
        let (line, content) = after.split_once('\n').unwrap_or((after, ""));
        (name, rest) = (line.trim().to_owned(), content);
    }
}

/// The component with a section for each content, and without those that it had itself. None if it is not made of sections.
pub(super) fn put(component: &[u8], contents: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let (header, mut rest) = component.split_at_checked(8)?;
    let mut made = header.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (size, length) = number(after)?;
        let body = after.get(length..length.checked_add(size)?)?;
        let (section, following) = rest.split_at_checked(1 + length + size)?;
        if *id != 0 || !is_ours(name_of(body)?) {
            made.extend_from_slice(section);
        }
        rest = following;
    }
    for content in contents {
        let mut body = leb(SECTION.len());
        body.extend_from_slice(SECTION.as_bytes());
        body.extend_from_slice(content.as_ref());
        made.push(0);
        made.extend(leb(body.len()));
        made.extend(body);
    }
    Some(made)
}

fn name_of(body: &[u8]) -> Option<&str> {
    let (size, length) = number(body)?;
    std::str::from_utf8(body.get(length..length.checked_add(size)?)?).ok()
}

/// A number in LEB128 of at most 32 bits, and how many bytes it has.
fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, place + 1));
        }
    }
    None
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for value in [0, 1, 127, 128, 300, 16_384, 4_294_967_295] {
            assert_eq!(number(&leb(value)), Some((value, leb(value).len())));
        }
        assert_eq!(number(&[0x80]), None);
    }

    #[test]
    fn files_in_a_section_are_found_by_the_line_before_them() {
        assert_eq!(files("package a:b;\n"), [(SECTION.into(), "package a:b;\n")]);
        assert_eq!(
            files("//// wit/a.wit\npackage a:b;\n//// c.wit\npackage c:d;"),
            [("wit/a.wit".into(), "package a:b;\n"), ("c.wit".into(), "package c:d;")]
        );
        assert_eq!(files("//// nothing"), []);
    }

    #[test]
    fn sections_replace_the_older_ones_and_nothing_else() {
        let component = wat::parse_str(r#"(component (core module (func)) (@custom "other" "x"))"#).unwrap();
        let first = put(&component, &["first"]).unwrap();
        let second = put(&first, &["second", "third"]).unwrap();
        assert_eq!(find(&first), [b"first"]);
        assert_eq!(find(&second), [&b"second"[..], b"third"]);
        assert!(first.starts_with(&component));
        assert_eq!(put(&component[..component.len() - 1], &["x"]), None);
    }
}
