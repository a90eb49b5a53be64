//! End to end: the real binary, a real API server, a real Kafka, a real RabbitMQ.
//!
//! Each test has a namespace and an operator to itself ([`bed`]); they run in parallel and leave
//! nothing behind. A test is named by the sentence that it proves. They begin in the order of their names, so the folders
//! of those that take minutes are named to come first: at the end, a processor would wait for the last one.

// A test reads better as `world.topic_yaml(…)`, whether the world is asked or not.
#![allow(clippy::unused_self)]

mod access;
mod alerts;
mod at_rest;
mod bed;
mod binding;
mod broker;
mod consumer;
mod coordinators;
mod deletion;
mod drift;
mod examples;
mod exchange;
mod faults;
mod fuzz;
mod manifests;
mod operator;
mod outage;
mod ownership;
mod page;
mod permissions;
mod plant;
mod queue;
mod queue_policy;
mod quick_start;
mod rabbit_access;
mod rabbit_broker;
mod rabbit_companions;
mod rabbit_deletion;
mod rabbit_drift;
mod rabbit_ownership;
mod rabbit_recreate;
mod rotation;
mod scaling;
mod scaling_breaker;
mod scaling_faults;
mod scaling_guards;
mod scaling_hands;
mod scaling_kept;
mod scaling_queue;
mod scaling_share;
mod scaling_stateful;
mod scaling_told;
mod scaling_transactions;
mod secrecy;
mod seen;
mod topic;
mod verbs;
