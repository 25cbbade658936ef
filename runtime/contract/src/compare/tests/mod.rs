//! The rules one by one, and all of them against a reader of JSON.

mod readable;
mod rules;
