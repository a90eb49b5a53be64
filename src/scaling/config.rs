//! What a person may say about scaling, checked once.
//!
//! [`Config`] holds plain numbers (seconds, messages, ratios). Its serde form is the text form of the
//! `scaling` block of a Consumer, durations such as `30s` and quantities such as `"0.2"`, beside what the
//! broker connection says (`offsetReset`, `isolation`). Every value in a `Config` is finite and in range.

use serde::{Deserialize, Serialize};

use super::text::{Quantity, Seconds};

/// How one Consumer scales. Built from its text form by serde; always valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct Config {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Fewest replicas, 0 allows scaling to zero. Default 1.
    pub min_replicas: u32,
    /// Most replicas. `None`: as many as can work (the cap); `RabbitMQ` needs a number. Counts above it are lowered at
    /// once, also while nothing is known of the load: what a person says is known.
    pub max_replicas: Option<u32>,
    /// How long a message may wait, in seconds, at least 1. Default 30.
    pub target_delay: f64,
    /// What one replica is expected to do until it has been measured, messages/s.
    pub rate_per_replica: Option<f64>,
    /// Consumers in one pod. `None`: learned.
    pub consumers_per_replica: Option<u32>,
    /// Seconds a lower need must last before replicas go. `None`: as long as keeping them is worth it, 180 at most.
    pub stabilization: Option<f64>,
    /// Seconds for which half of a peak is kept. `None`: 900 where the peak's replicas would come back too late, else 0.
    pub peak_memory: Option<f64>,
    /// Seconds without any work before the last replica goes (`min_replicas` 0). Default 300.
    pub idle_after: f64,
    /// Messages of lag per partition that may be no message at all (transaction markers). Default 1.
    pub lag_tolerance: u64,
    /// When dead letters stop scaling up.
    pub breaker: Breaker,
    /// Seconds without usable data before `unknown_replicas` counts. Default 300.
    pub unknown_after: f64,
    /// Replicas to raise to when nothing has been known for `unknown_after`.
    pub unknown_replicas: Option<u32>,
    /// Share of its rate at which a replica counts as full, 0.1 to 1. Default 0.8.
    pub utilization: f64,
    /// Seconds between two observations. Default 1.
    pub poll_interval: f64,
    /// Seconds from a patch to the first commit of a new replica. `None`: learned.
    pub cold_start: Option<f64>,
    /// Seconds for which a group stands still when its members change. `None`: learned.
    pub rebalance: Option<f64>,
    /// Where a group without a committed offset begins.
    pub offset_reset: OffsetReset,
    /// What the application reads; decides what an end offset means.
    pub isolation: Isolation,
}

/// Dead letters that stop scaling up: poison is not load.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Name of the dead-letter topic or queue. `None`: no breaker.
    pub dead_letter: Option<String>,
    /// Dead letters per consumed message above which the breaker opens. Default 0.2.
    pub max_ratio: f64,
    /// Seconds over which the ratio is taken. Default 60.
    pub window: f64,
    /// Fewest dead letters in a window that can open it. Default 20.
    pub min_count: u64,
}

/// Whether decisions are carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Decides and patches.
    #[default]
    Auto,
    /// Decides, says what it would do, and does not patch.
    DryRun,
}

/// Where a group without a committed offset begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OffsetReset {
    /// At the log start: everything there is counts as lag.
    #[default]
    Earliest,
    /// At the log end: nothing counts as lag until the group has committed.
    Latest,
}

/// Which records the application sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// All records; `end` is the high watermark.
    #[default]
    ReadUncommitted,
    /// Records of finished transactions; `end` is the last stable offset.
    ReadCommitted,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number outside its limits.
    #[error("scaling.{field} must be {limits}")]
    OutOfRange {
        /// Path below `scaling`.
        field: &'static str,
        /// What is allowed, in words.
        limits: &'static str,
    },
    /// `minReplicas` above `maxReplicas`.
    #[error("scaling.minReplicas ({min}) must not be above scaling.maxReplicas ({max})")]
    MinAboveMax {
        /// The lower limit that was given.
        min: u32,
        /// The upper limit that was given.
        max: u32,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            min_replicas: 1,
            max_replicas: None,
            target_delay: 30.0,
            rate_per_replica: None,
            consumers_per_replica: None,
            stabilization: None,
            peak_memory: None,
            idle_after: 300.0,
            lag_tolerance: 1,
            breaker: Breaker { dead_letter: None, max_ratio: 0.2, window: 60.0, min_count: 20 },
            unknown_after: 300.0,
            unknown_replicas: None,
            utilization: 0.8,
            poll_interval: 1.0,
            cold_start: None,
            rebalance: None,
            offset_reset: OffsetReset::Earliest,
            isolation: Isolation::ReadUncommitted,
        }
    }
}

impl Config {
    /// The share by which a need may lie above a size before the next one is asked for: a tenth, and less where replicas
    /// are nearly full by `utilization` already.
    pub(super) fn over(&self) -> f64 {
        /// A replica that is busy for more of its time is late with whatever is uneven.
        const FULL: f64 = 0.96;
        (FULL / self.utilization - 1.0).clamp(0.0, 0.1)
    }
}

/// The text form, as in the Consumer's `scaling` block (where the API server refuses what it does not know) and on a
/// replay line, where unknown fields are ignored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawConfig {
    scaling: RawScaling,
    offset_reset: OffsetReset,
    isolation: Isolation,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawScaling {
    mode: Option<Mode>,
    min_replicas: Option<u32>,
    max_replicas: Option<u32>,
    target_delay: Option<Seconds>,
    rate_per_replica: Option<Quantity>,
    consumers_per_replica: Option<u32>,
    scale_down: Option<RawScaleDown>,
    idle: Option<RawIdle>,
    breaker: Option<RawBreaker>,
    on_unknown: Option<RawUnknown>,
    tuning: Option<RawTuning>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawScaleDown {
    stabilization: Option<Seconds>,
    peak_memory: Option<Seconds>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawIdle {
    after: Option<Seconds>,
    lag_tolerance: Option<u64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawBreaker {
    dead_letter: Option<String>,
    max_ratio: Option<Quantity>,
    window: Option<Seconds>,
    min_count: Option<u64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawUnknown {
    after: Option<Seconds>,
    replicas: Option<u32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawTuning {
    utilization: Option<f64>,
    poll_interval: Option<Seconds>,
    cold_start: Option<Seconds>,
    rebalance: Option<Seconds>,
}

impl TryFrom<RawConfig> for Config {
    type Error = ConfigError;

    fn try_from(raw: RawConfig) -> Result<Self, ConfigError> {
        let d = Self::default();
        let s = raw.scaling;
        let (down, idle) = (s.scale_down.unwrap_or_default(), s.idle.unwrap_or_default());
        let (breaker, unknown) = (s.breaker.unwrap_or_default(), s.on_unknown.unwrap_or_default());
        let tuning = s.tuning.unwrap_or_default();
        let seconds = |value: Option<Seconds>, default: f64| value.map_or(default, |v| v.0);
        Self {
            mode: s.mode.unwrap_or(d.mode),
            min_replicas: s.min_replicas.unwrap_or(d.min_replicas),
            max_replicas: s.max_replicas,
            target_delay: seconds(s.target_delay, d.target_delay),
            rate_per_replica: s.rate_per_replica.map(|q| q.0),
            consumers_per_replica: s.consumers_per_replica,
            stabilization: down.stabilization.map(|v| v.0),
            peak_memory: down.peak_memory.map(|v| v.0),
            idle_after: seconds(idle.after, d.idle_after),
            lag_tolerance: idle.lag_tolerance.unwrap_or(d.lag_tolerance),
            breaker: Breaker {
                dead_letter: breaker.dead_letter,
                max_ratio: breaker.max_ratio.map_or(d.breaker.max_ratio, |q| q.0),
                window: seconds(breaker.window, d.breaker.window),
                min_count: breaker.min_count.unwrap_or(d.breaker.min_count),
            },
            unknown_after: seconds(unknown.after, d.unknown_after),
            unknown_replicas: unknown.replicas,
            utilization: tuning.utilization.map_or(d.utilization, |percent| percent / 100.0),
            poll_interval: seconds(tuning.poll_interval, d.poll_interval),
            cold_start: tuning.cold_start.map(|v| v.0),
            rebalance: tuning.rebalance.map(|v| v.0),
            offset_reset: raw.offset_reset,
            isolation: raw.isolation,
        }
        .validated()
    }
}

impl From<Config> for RawConfig {
    fn from(c: Config) -> Self {
        Self {
            scaling: RawScaling {
                mode: Some(c.mode),
                min_replicas: Some(c.min_replicas),
                max_replicas: c.max_replicas,
                target_delay: Some(Seconds(c.target_delay)),
                rate_per_replica: c.rate_per_replica.map(Quantity),
                consumers_per_replica: c.consumers_per_replica,
                scale_down: Some(RawScaleDown {
                    stabilization: c.stabilization.map(Seconds),
                    peak_memory: c.peak_memory.map(Seconds),
                }),
                idle: Some(RawIdle {
                    after: Some(Seconds(c.idle_after)),
                    lag_tolerance: Some(c.lag_tolerance),
                }),
                breaker: Some(RawBreaker {
                    dead_letter: c.breaker.dead_letter,
                    max_ratio: Some(Quantity(c.breaker.max_ratio)),
                    window: Some(Seconds(c.breaker.window)),
                    min_count: Some(c.breaker.min_count),
                }),
                on_unknown: Some(RawUnknown {
                    after: Some(Seconds(c.unknown_after)),
                    replicas: c.unknown_replicas,
                }),
                tuning: Some(RawTuning {
                    utilization: Some((c.utilization * 1e4).round() / 100.0),
                    poll_interval: Some(Seconds(c.poll_interval)),
                    cold_start: c.cold_start.map(Seconds),
                    rebalance: c.rebalance.map(Seconds),
                }),
            },
            offset_reset: c.offset_reset,
            isolation: c.isolation,
        }
    }
}

impl Config {
    /// Refuses what cannot be meant; see [`ConfigError`].
    pub fn validated(self) -> Result<Self, ConfigError> {
        let day = 86_400.0;
        let in_range = |value: f64, low: f64, high: f64| value.is_finite() && value >= low && value <= high;
        let checks: [(bool, &'static str, &'static str); 12] = [
            (in_range(self.target_delay, 1.0, day), "targetDelay", "between 1s and 24h"),
            (
                self.rate_per_replica.is_none_or(|r| in_range(r, 1e-3, 1e9)),
                "ratePerReplica",
                "between 0.001 and 1e9 messages/s",
            ),
            (
                self.consumers_per_replica.is_none_or(|m| (1..=1_000).contains(&m)),
                "consumersPerReplica",
                "between 1 and 1000",
            ),
            (
                self.stabilization.is_none_or(|v| in_range(v, 0.0, day)),
                "scaleDown.stabilization",
                "between 0s and 24h",
            ),
            (
                self.peak_memory.is_none_or(|v| in_range(v, 0.0, 7.0 * day)),
                "scaleDown.peakMemory",
                "between 0s and 168h",
            ),
            (in_range(self.idle_after, 1.0, 7.0 * day), "idle.after", "between 1s and 168h"),
            (in_range(self.breaker.max_ratio, 1e-4, 1.0), "breaker.maxRatio", "between 0.0001 and 1"),
            (in_range(self.breaker.window, 1.0, day), "breaker.window", "between 1s and 24h"),
            (in_range(self.unknown_after, 0.0, 7.0 * day), "onUnknown.after", "between 0s and 168h"),
            (in_range(self.utilization, 0.1, 1.0), "tuning.utilization", "between 10 and 100"),
            (in_range(self.poll_interval, 0.1, 300.0), "tuning.pollInterval", "between 100ms and 5m"),
            (
                [self.cold_start, self.rebalance].iter().flatten().all(|&v| in_range(v, 0.0, 3_600.0)),
                "tuning.coldStart and tuning.rebalance",
                "between 0s and 1h",
            ),
        ];
        for (ok, field, limits) in checks {
            if !ok {
                return Err(ConfigError::OutOfRange { field, limits });
            }
        }
        match self.max_replicas {
            Some(0) => Err(ConfigError::OutOfRange { field: "maxReplicas", limits: "at least 1" }),
            Some(max) if self.min_replicas > max => {
                Err(ConfigError::MinAboveMax { min: self.min_replicas, max })
            }
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_block_has_the_documented_defaults() {
        let config: Config = serde_json::from_str("{}").unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_text_form_reads_back_as_the_same_configuration() {
        let text = r#"{"scaling":{"mode":"DryRun","minReplicas":0,"maxReplicas":9,"targetDelay":"1m30s",
            "ratePerReplica":"98","scaleDown":{"stabilization":"3m"},"idle":{"lagTolerance":2},
            "breaker":{"deadLetter":"dlq","maxRatio":"0.25"},"onUnknown":{"replicas":4},
            "tuning":{"utilization":70,"coldStart":"1500ms"}},"offsetReset":"latest","isolation":"ReadCommitted"}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert!((config.target_delay - 90.0).abs() < 1e-9 && config.cold_start == Some(1.5));
        let again: Config = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (text, part) in [
            (r#"{"scaling":{"targetDelay":"10ms"}}"#, "targetDelay"),
            (r#"{"scaling":{"minReplicas":3,"maxReplicas":2}}"#, "minReplicas (3)"),
            (r#"{"scaling":{"maxReplicas":0}}"#, "maxReplicas"),
            (r#"{"scaling":{"ratePerReplica":"NaN"}}"#, "quantity"),
            (r#"{"scaling":{"targetDelay":"soon"}}"#, "duration"),
            (r#"{"scaling":{"tuning":{"utilization":0}}}"#, "utilization"),
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
