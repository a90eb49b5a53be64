//! The harness: a world of its own for every test, on parts that all tests share.
//!
//! ```text
//!  world(test) ─▶ namespace, prefix ─▶ `spillway run` for that namespace ─▶ test ─▶ all is removed
//! ```
//!
//! Every name at the broker begins with the world's prefix. The operator is the real binary; what it
//! did is read back with the tests' own clients of Kafka and RabbitMQ and from the API server. At RabbitMQ
//! each world has a virtual host, made when a test first asks for it.

mod amqp;
mod apply;
mod audit;
mod cut;
mod env;
mod extra;
pub mod http;
mod kafka;
mod object;
mod operator;
mod proxy;
mod rabbit_world;
mod rabbitmq;
mod share;
mod wait;
mod workload;
mod world;

pub use amqp::Amqp;
pub use apply::documents;
pub use audit::Audit;
pub use cut::{Fate, Request, Side, Site, meanwhile};
pub use env::{RabbitAddress, required, without_credentials};
pub use extra::{ExtraKafka, ThreeKafkas, testbed, tidy, try_testbed};
pub use kafka::Kafka;
pub use object::Object;
pub use operator::{Operator, Start, binary};
pub use proxy::Proxy;
pub use rabbit_world::{binding_yaml, exchange_yaml, login_yaml, queue_yaml, rabbit_yaml};
pub use rabbitmq::Rabbit;
pub use share::ShareMember;
pub use wait::{never_within, until, until_within};
pub use workload::{Workload, deployment, sleeping_pod};
pub use world::{World, bare_world, consumer_yaml, topic_yaml, world};
