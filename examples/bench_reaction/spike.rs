//! One spike: a flood, what the Deployment's replicas do about it, and the way back to one replica.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;

use crate::cluster::Replicas;
use crate::recorder::Recorder;
use crate::{BenchError, FULL_SIZE, PATIENCE, PAYMENTS};

/// A flood of the bench is drained in well under this.
const DRAINED: Duration = Duration::from_secs(120);
/// And one replica is left this much later.
const RESTED: Duration = Duration::from_secs(180);
/// The longest wait before a flood, in milliseconds: three polls of the operator, so that no phase is preferred.
const LONGEST_WAIT: u64 = 3_000;

/// A measured spike. All times are in seconds since the flood began.
pub struct Spike {
    /// Every change of the wanted replicas on the way up.
    pub ups: Vec<(f64, i32)>,
    /// Until as many replicas as partitions were ready.
    pub all_ready: Option<f64>,
    /// Until everything was committed.
    pub drained: f64,
    /// Until one replica was left.
    pub rested: f64,
}

impl Spike {
    /// Until the Deployment was to have more replicas.
    pub fn first_patch(&self) -> Option<f64> {
        self.ups.first().map(|(at, _)| *at)
    }

    /// Until it was to have as many as there are partitions.
    pub fn full_size(&self) -> Option<f64> {
        self.ups.iter().find(|(_, wanted)| *wanted >= FULL_SIZE).map(|(at, _)| *at)
    }
}

impl fmt::Display for Spike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("1")?;
        for (at, wanted) in &self.ups {
            write!(f, " → {wanted} at {at:.2} s")?;
        }
        match self.all_ready {
            Some(at) => write!(f, ", all ready at {at:.1} s")?,
            None => f.write_str(", never all ready")?,
        }
        write!(f, ", drained at {:.1} s, one replica at {:.1} s", self.drained, self.rested)
    }
}

/// What makes the floods.
pub struct Floods {
    producer: FutureProducer,
    messages: u32,
    random: u64,
}

impl Floods {
    pub fn new(bootstrap: &str, messages: u32, seed: u64) -> Result<Self, BenchError> {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("allow.auto.create.topics", "false")
            .create()?;
        // The first flood is not to wait for what the others find done.
        producer.client().fetch_metadata(Some(PAYMENTS), Duration::from_secs(10))?;
        Ok(Self { producer, messages, random: seed })
    }

    /// Waits a random while, floods, and waits until all is done and one replica is left.
    pub async fn spike(&mut self, recorder: &mut Recorder) -> Result<Spike, BenchError> {
        let before = rest(recorder, PATIENCE).await?;
        let pause = self.draw() % LONGEST_WAIT;
        // Not for a condition: it is the phase that is drawn.
        tokio::time::sleep(Duration::from_millis(pause)).await;

        let began = Instant::now();
        self.publish().await?;
        let expected = before + i64::from(self.messages);
        let drained =
            until(recorder, DRAINED, "the flood to be drained", |_, end, lag| end >= expected && lag == 0)
                .await?;
        rest(recorder, RESTED).await?;
        let rested = Instant::now();

        let seen = recorder.seen();
        let seconds = |at: Instant| at.saturating_duration_since(began).as_secs_f64();
        let during = seen.replicas.iter().filter(|(at, _)| *at >= began && *at <= rested);
        let mut ups: Vec<(f64, i32)> = Vec::new();
        let mut all_ready = None;
        for (at, Replicas { wanted, ready }) in during {
            if *wanted > ups.last().map_or(1, |(_, wanted)| *wanted) {
                ups.push((seconds(*at), *wanted));
            }
            if *ready >= FULL_SIZE {
                all_ready.get_or_insert(seconds(*at));
            }
        }
        Ok(Spike { ups, all_ready, drained: seconds(drained), rested: seconds(rested) })
    }

    /// Publishes the flood, the same share to each partition, and waits for every acknowledgement.
    async fn publish(&self) -> Result<(), BenchError> {
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let sending = (0..self.messages).map(|number| {
            let id = format!("bench-{stamp:x}-{number:06}");
            let payload =
                format!(r#"{{"id":"{id}","amount":1000,"currency":"EUR","email":"{id}@customers.example"}}"#);
            async move {
                let record = FutureRecord::to(PAYMENTS)
                    .key(&id)
                    .payload(&payload)
                    .partition(i32::try_from(number).unwrap_or(0) % FULL_SIZE);
                let sent = self.producer.send(record, Timeout::Never).await;
                sent.map(drop).map_err(|(error, _): (KafkaError, _)| error)
            }
        });
        try_join_all(sending).await?;
        Ok(())
    }

    /// Splitmix64: the next random number.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A seed for those who do not give one.
pub fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Waits until one replica is left and there is no lag; returns how many messages were ever published.
async fn rest(recorder: &mut Recorder, patience: Duration) -> Result<i64, BenchError> {
    let mut published = 0;
    until(recorder, patience, "one replica and no lag", |replicas, end, lag| {
        published = end;
        lag == 0 && replicas == (Replicas { wanted: 1, ready: 1 })
    })
    .await?;
    Ok(published)
}

/// Looks at the broker until replicas, end and lag are as wanted; returns when that was.
async fn until(
    recorder: &mut Recorder,
    patience: Duration,
    what: &str,
    mut reached: impl FnMut(Replicas, i64, i64) -> bool,
) -> Result<Instant, BenchError> {
    let deadline = Instant::now() + patience;
    loop {
        let (at, backlog) = recorder.next().await?;
        let replicas = recorder.replicas();
        if reached(replicas, backlog.end, backlog.lag) {
            return Ok(at);
        }
        if Instant::now() > deadline {
            let state =
                format!("{what} ({} wanted, {} ready, lag {})", replicas.wanted, replicas.ready, backlog.lag);
            return Err(BenchError::Waited(patience, state));
        }
    }
}
