//! A guest program without a test does not compile.
//!
//! Each program of guests/programs/examples, and each text of guests/programs/bad, has a test of its name in one of the
//! modules imported here, where the test function is `pub(crate)`.

#![expect(unused_imports, reason = "the imports only prove that the tests exist")]

use crate::bad_components::*;
use crate::http_components::*;
use crate::misbehaviour::*;
use crate::programs::*;
use crate::requests::*;
use crate::typed::*;

macro_rules! has_a_test {
    ($name:ident) => {
        use self::$name as _;
    };
}

busway_tests::foreach_program!(has_a_test);
busway_tests::foreach_bad_component!(has_a_test);
