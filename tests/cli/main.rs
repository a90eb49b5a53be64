//! The command line against real brokers, without a cluster: `plan`, `apply`, `import`.
//!
//! Each test runs the binary as a person does and reads what it prints. Names are unique: tests run
//! beside each other and beside others on the same brokers.

mod asking;
mod bed;
mod between;
mod cluster;
mod kafka;
mod lines;
mod options;
mod rabbitmq;
