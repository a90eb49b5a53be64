//! Behaviour, told as sentences. `world` is a hand-moved group: tests say what happens each second.

mod reaction;
mod world;
