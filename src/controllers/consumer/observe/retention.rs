//! For how long the broker keeps what a group without members committed: at zero replicas, that is a deadline.

use std::time::{Duration, Instant};

use crate::brokers::kafka::{KafkaClient, KafkaError};
use crate::controllers::context::Context;
use crate::controllers::sweep::outcome;

const KEY: &str = "offsets.retention.minutes";
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long an answer is good for, and after which time it is asked again where there was none: the user may not be
/// allowed to know.
const GOOD: Duration = Duration::from_secs(3_600);
const AGAIN: Duration = Duration::from_secs(600);

/// What the broker said last.
#[derive(Default)]
pub struct Retention {
    seconds: Option<f64>,
    next: Option<Instant>,
}

impl Retention {
    /// Seconds; none where the broker does not tell.
    pub async fn read(&mut self, ctx: &Context, broker: &str, client: &KafkaClient) -> Option<f64> {
        if self.next.is_none_or(|next| next <= Instant::now()) {
            let asked = Instant::now();
            let answer = ask(client).await;
            ctx.metrics.broker_request(broker, "DescribeBrokerConfigs", outcome(&answer), asked.elapsed());
            let seconds = answer.as_ref().ok().and_then(|value| seconds(value.as_deref()?));
            self.next = Some(asked + if seconds.is_some() { GOOD } else { AGAIN });
            self.seconds = seconds.or(self.seconds);
        }
        self.seconds
    }
}

/// One broker speaks for all.
async fn ask(client: &KafkaClient) -> Result<Option<String>, KafkaError> {
    let cluster = client.describe_cluster(TIMEOUT).await?;
    match cluster.nodes.first() {
        Some(node) => client.broker_config(node.id, KEY, TIMEOUT).await,
        None => Ok(None),
    }
}

fn seconds(minutes: &str) -> Option<f64> {
    minutes.parse::<u32>().ok().map(|minutes| f64::from(minutes) * 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_read_and_nothing_else() {
        assert_eq!(seconds("10080"), Some(604_800.0));
        assert_eq!((seconds(""), seconds("-1"), seconds("7 d")), (None, None, None));
    }
}
