//! From a broker to observations: what all due Consumers need is read once, by the kind of the broker.
//!
//! What could not be read stays unknown, and an error of one group, partition or queue is that one's alone.

mod crowd;
mod kafka;
mod members;
mod offsets;
mod outside;
mod pods;
mod rabbitmq;
mod retention;

use std::sync::Arc;

use super::environment;
use super::registry::{Registration, Source};
use crate::api::conditions::Reason;
use crate::controllers::context::Context;
use crate::controllers::failure::{Failure, hiding};
use crate::controllers::links::{Endpoint, Link};
use crate::scaling::{DeadLetter, Observation, Target};

/// What is kept from sweep to sweep.
#[derive(Default)]
pub struct Facts {
    kafka: kafka::Facts,
    rabbitmq: rabbitmq::Facts,
}

/// Why nothing is known of what a Consumer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The condition's reason.
    pub reason: Reason,
    /// The condition's message.
    pub message: String,
    /// What in it came from the broker, at its end.
    outside: String,
}

impl Trouble {
    fn of(failure: &Failure) -> Self {
        Self::new(failure.reason(), failure.to_string(), failure.outside())
    }

    fn new(reason: Reason, message: String, outside: &str) -> Self {
        Self { reason, message, outside: outside.to_owned() }
    }

    /// The same with `hide` over the broker's words.
    #[must_use]
    pub fn hiding(self, hide: impl FnOnce(&str) -> String) -> Self {
        let message = hiding(self.message, &self.outside, hide);
        Self { message, ..self }
    }
}

/// What one sweep brought.
pub enum Sample {
    /// The broker told nothing.
    Nothing(Trouble),
    /// Of a Kafka.
    Kafka(Box<kafka::Sample>),
    /// Of a RabbitMQ.
    Rabbitmq(rabbitmq::Sample),
}

impl Sample {
    /// The broker told nothing.
    #[must_use]
    pub fn nothing(failure: &Failure) -> Self {
        Self::Nothing(Trouble::of(failure))
    }

    /// Why nothing is known for this Consumer, if that is so.
    #[must_use]
    pub fn trouble(&self, registration: &Registration) -> Option<Trouble> {
        match (self, &registration.source) {
            (Self::Nothing(trouble), _) => Some(trouble.clone()),
            (Self::Kafka(sample), Source::Kafka(group)) => sample.trouble(group),
            (Self::Rabbitmq(sample), Source::Rabbitmq(queue)) => sample.trouble(queue),
            _ => None,
        }
    }
}

/// Reads what the due Consumers need.
pub async fn read(ctx: &Arc<Context>, link: &Link, due: &[Arc<Registration>], facts: &mut Facts) -> Sample {
    match &link.endpoint {
        Endpoint::Kafka(kafka) => match kafka::read(ctx, (link, kafka), due, &mut facts.kafka).await {
            Ok(sample) => Sample::Kafka(Box::new(sample)),
            Err(error) => Sample::nothing(&error.into()),
        },
        Endpoint::Rabbitmq(rabbit) => {
            Sample::Rabbitmq(rabbitmq::read(ctx, (link, rabbit), due, &mut facts.rabbitmq).await)
        }
    }
}

/// One Consumer's observation from a sample and its target. A Consumer on a broker of the wrong kind sees nothing.
#[must_use]
pub fn observation(sample: &Sample, registration: &Registration, target: Target, now: f64) -> Observation {
    let seen = match (sample, &registration.source) {
        (Sample::Kafka(sample), Source::Kafka(group)) => kafka::observation(sample, registration, group),
        (Sample::Rabbitmq(sample), Source::Rabbitmq(queue)) => {
            rabbitmq::observation(sample, registration, queue)
        }
        _ => Observation { now, ..Observation::default() },
    };
    Observation { target, ..seen }
}

/// The dead-letter and retry topics, or queues, of one Consumer.
#[derive(Clone, Default)]
struct Side {
    dead_letters: Vec<String>,
    retries: Vec<String>,
}

/// Which dead-letter and retry topics, or queues, count for a Consumer.
fn side(ctx: &Context, registration: &Registration) -> Side {
    let declared = environment::names(ctx, &registration.consumer);
    let retries = declared.retries.iter().filter_map(|retry| Some(retry.rsplit_once('=')?.0.to_owned()));
    let retries = retries.collect();
    let set = registration.consumer.spec.scaling.breaker.dead_letter.clone();
    Side { dead_letters: set.map_or(declared.dead_letters, |name| vec![name]), retries }
}

impl Side {
    /// What came into all of them that are there, where that is known of each; none where there are none. One that is
    /// not there holds nothing, but where none is, nobody knows where dead letters go.
    fn dead_letter(
        &self,
        there: impl Fn(&String) -> bool,
        came: impl Fn(&String) -> Option<i64>,
    ) -> Option<DeadLetter> {
        let mut counted: Vec<_> = self.dead_letters.iter().filter(|name| there(name)).collect();
        if counted.is_empty() {
            counted.extend(&self.dead_letters);
        }
        (!counted.is_empty()).then(|| DeadLetter {
            of: counted.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ").into(),
            end: counted.into_iter().map(came).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_of_several_topics_are_counted_together_and_one_that_is_unknown_makes_all_unknown() {
        let side = Side { dead_letters: vec!["a.dlq".into(), "b.dlq".into()], retries: Vec::new() };
        let counted = side.dead_letter(|_| true, |name| Some(if name == "a.dlq" { 7 } else { 5 })).unwrap();
        assert_eq!((counted.end, &*counted.of), (Some(12), "a.dlq, b.dlq"));
        assert_eq!(side.dead_letter(|_| true, |name| (name == "a.dlq").then_some(7)).unwrap().end, None);
        assert_eq!(Side::default().dead_letter(|_| true, |_| Some(1)), None);
    }

    #[test]
    fn a_dead_letter_topic_that_is_not_there_keeps_nobody_from_counting_the_others() {
        let side = Side { dead_letters: vec!["a.dlq".into(), "b.dlq".into()], retries: Vec::new() };
        let came = |name: &String| (name == "a.dlq").then_some(7);
        let counted = side.dead_letter(|name| name == "a.dlq", came).unwrap();
        assert_eq!((counted.end, &*counted.of), (Some(7), "a.dlq"));
        assert_eq!(side.dead_letter(|_| false, |_| None).unwrap().end, None);
    }
}
