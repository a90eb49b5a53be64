//! Spillway.
pub mod api;
pub mod runtime;
pub mod topology;

pub mod brokers;

pub mod scaling;
