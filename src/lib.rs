//! Spillway.
pub mod api;
pub mod topology;
