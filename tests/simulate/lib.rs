//! `src/scaling` compiled without the rest of the operator: it is pure, and needs nothing of it.

#[path = "../../src/scaling/mod.rs"]
pub mod scaling;
