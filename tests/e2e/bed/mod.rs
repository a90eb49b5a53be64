//! The harness: a world of its own for every test, on parts that all tests share.
//!
//! ```text
//!  world(test) ─▶ namespace, prefix ─▶ `spillway run` for that namespace ─▶ test ─▶ all is removed
//! ```
//!
//! Every name at the broker begins with the world's prefix. The operator is the real binary; what it
//! did is read back with the tests' own Kafka client and from the API server.

mod apply;
mod audit;
mod env;
mod extra;
mod http;
mod kafka;
mod object;
mod operator;
mod proxy;
mod wait;
mod workload;
mod world;

pub use apply::documents;
pub use audit::Audit;
pub use env::required;
pub use extra::ExtraKafka;
pub use kafka::Kafka;
pub use object::Object;
pub use operator::binary;
pub use proxy::Proxy;
pub use wait::{never_within, until, until_within};
pub use workload::{Workload, deployment, sleeping_pod};
pub use world::{World, bare_world, consumer_yaml, topic_yaml, world};
