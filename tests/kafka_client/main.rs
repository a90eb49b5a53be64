//! The Kafka client against a real broker.
//!
//! `SPILLWAY_TEST_KAFKA` names it (`host:port`, no TLS, no credentials); the tests of credentials and TLS take
//! `SPILLWAY_TEST_KAFKA_{SASL,SASL_SSL,SSL}` and `SPILLWAY_TEST_KAFKA_{USER,PASSWORD,CA,CERT,KEY}`. The test bed sets
//! them all. Topics and groups carry a name of the test's own and are deleted in the end, so that tests and runs
//! do not see each other.

mod batching;
mod connection;
mod offsets;
mod support;
mod topics;
