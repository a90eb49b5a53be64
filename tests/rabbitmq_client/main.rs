//! The RabbitMQ client against a real broker.
//!
//! `SPILLWAY_TEST_RABBITMQ` names its management interface (`http://user:password@host:port`, an administrator), and
//! `SPILLWAY_TEST_AMQP` its AMQP listener. The tests of TLS take `SPILLWAY_TEST_RABBITMQ_{TLS,CA,CERT,KEY}` and
//! `SPILLWAY_TEST_AMQPS`, and certificates of a stranger in `SPILLWAY_TEST_KAFKA_{CA,CERT,KEY}`. The test bed sets them
//! all. Every test works in a virtual host of its own, which is deleted in the end.

mod answers;
mod bulk;
mod connection;
mod depth;
mod observing;
mod support;
mod topology;
