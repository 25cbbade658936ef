//! Acknowledges everything: the other half of a benchmark, and the healthy neighbour of tests.

busway_guest::service!(subscribe = ["bench.>"], |_event| Ok(()));
