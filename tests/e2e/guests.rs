//! The guests that the tests use: what they are, whatever a host makes of them.

use busway_tests::{assemble, bad, programs, services};

/// The first bytes of every component; a core module has another version in them.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";

#[test]
fn every_program_and_service_is_a_component_of_moderate_size() {
    for (name, path) in programs::ALL.iter().chain(services::ALL) {
        let binary = std::fs::read(path).expect("the build script built it");
        assert!(binary.starts_with(&COMPONENT), "{name} is no component");
        assert!(binary.len() < 256 * 1024, "{name} has {} bytes", binary.len());
    }
}

#[test]
fn every_bad_component_is_bad_in_what_it_means_not_in_how_it_is_written() {
    for (name, text) in bad::ALL {
        let binary = assemble(text);
        if let Err(error) = wasmparser::validate(&binary) {
            panic!("{name}: {error}");
        }
        assert_eq!(binary.starts_with(&COMPONENT), *name != "core_module", "{name}");
    }
}
