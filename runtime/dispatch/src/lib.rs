//! busway.
