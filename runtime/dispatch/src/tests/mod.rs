//! Tests of the machine by behaviour, and a simulation.

mod delivery;
mod expiry;
mod feed;
mod limits;
mod moving;
mod order;
mod redelivery;
mod rig;
mod settling;
mod sim;
mod world;
