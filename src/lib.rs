//! Spillway.
