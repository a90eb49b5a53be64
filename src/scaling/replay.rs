//! The replay protocol, version 1: one observation per line in, one decision per line out.
//!
//! The first line carries `config`; a later one may carry another (an edit of the spec). `learned` beside
//! `config` is a new leader's start: it begins a new state. `t` rises. A decision is not taken as applied: the
//! next line's `target.spec` is the truth. A line that cannot be used is answered with `error` and changes
//! nothing.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use super::{Bound, Condition, Config, Decision, Inputs, Learned, Observation, State, decide};

/// The protocol's version.
pub const VERSION: u32 = 1;

/// Longest line that is read, in bytes: a group of 100,000 partitions fits.
const LONGEST: u64 = 64 << 20;

/// What a line says beside its observation. Both are read from the same text: flattening one into the other
/// would buffer the whole line.
#[derive(Deserialize)]
struct Head {
    v: u32,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    learned: Option<Learned>,
}

struct Line {
    head: Head,
    seen: Observation,
}

impl Line {
    fn read(text: &[u8]) -> serde_json::Result<Self> {
        Ok(Self { head: serde_json::from_slice(text)?, seen: serde_json::from_slice(text)? })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    v: u32,
    seq: u64,
    t: f64,
    replicas: u32,
    patch: bool,
    bound: Bound,
    also: &'a [Bound],
    message: &'a str,
    inputs: Inputs,
    conditions: &'a [Condition],
    next_check: f64,
}

#[derive(Serialize)]
struct Refusal<'a> {
    v: u32,
    seq: u64,
    error: &'a str,
}

/// A replay in progress.
#[derive(Default)]
pub struct Replay {
    config: Option<Config>,
    state: State,
    last: Option<f64>,
    lines: u64,
}

impl Replay {
    /// Answers one line, without its line feed.
    pub fn answer(&mut self, line: &[u8]) -> String {
        self.lines += 1;
        let (seq, error) = match Line::read(line) {
            Ok(line) => match self.accept(&line) {
                Ok(decision) => return reply(line.head.seq, line.seen.now, &decision),
                Err(error) => (line.head.seq, error),
            },
            Err(error) => (sequence(line).unwrap_or(self.lines), format!("failed to read the line: {error}")),
        };
        json(&Refusal { v: VERSION, seq, error: &error })
    }

    fn accept(&mut self, line: &Line) -> Result<Decision, String> {
        if line.head.v != VERSION {
            return Err(format!("failed to read the line: version {} is not {VERSION}", line.head.v));
        }
        let t = line.seen.now;
        if !t.is_finite() {
            return Err("failed to read the line: t is not a number of seconds".to_owned());
        }
        if self.last.is_some_and(|last| t <= last) {
            return Err(format!(
                "failed to follow: t {t} is not later than {}",
                self.last.unwrap_or_default()
            ));
        }
        if line.seen.kafka.is_some() && line.seen.rabbitmq.is_some() {
            return Err("failed to read the line: both kafka and rabbitmq are given".to_owned());
        }
        let Some(config) = line.head.config.as_ref().or(self.config.as_ref()) else {
            return Err("failed to decide: no line has had a config yet".to_owned());
        };
        let state = match &line.head.learned {
            Some(learned) => State::seeded(learned),
            None => std::mem::take(&mut self.state),
        };
        let (decision, state) = decide(config, &line.seen, state);
        (self.state, self.last) = (state, Some(t));
        if line.head.config.is_some() {
            self.config.clone_from(&line.head.config);
        }
        Ok(decision)
    }
}

/// Answers every line of `reader` on `writer`, flushed line by line, until the input ends.
///
/// # Errors
/// Only what reading or writing itself reports; a bad line is answered.
pub fn run(mut reader: impl BufRead, mut writer: impl Write) -> std::io::Result<()> {
    let mut replay = Replay::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut reader, LONGEST).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let mut answer = replay.answer(&line);
        answer.push('\n');
        writer.write_all(answer.as_bytes())?;
        writer.flush()?;
    }
}

fn reply(seq: u64, t: f64, decision: &Decision) -> String {
    json(&Answer {
        v: VERSION,
        seq,
        t,
        replicas: decision.replicas,
        patch: decision.patch,
        bound: decision.bound,
        also: &decision.also,
        message: &decision.message,
        inputs: decision.inputs,
        conditions: &decision.conditions,
        next_check: decision.next_check,
    })
}

/// The sequence number of a line that is JSON but not as it should be.
fn sequence(line: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(line).ok()?.get("seq")?.as_u64()
}

fn json(value: &impl Serialize) -> String {
    // These types have string keys and no maps that could fail.
    serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"v\":{VERSION},\"error\":\"{error}\"}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"v":1,"seq":1,"t":0.0,"config":{"scaling":{"targetDelay":"30s"},"offsetReset":"earliest","isolation":"ReadCommitted"},
 "target":{"spec":2,"ready":2,"unschedulable":0,"updating":false,"revision":"a","paused":false},
 "kafka":{"readAt":{"committed":-0.02,"end":0.0},
  "group":{"type":"Classic","state":"Stable","assignor":"range","members":[{"id":"m0","pod":"p0","static":false,"partitions":["orders/0"]}]},
  "partitions":[{"tp":"orders/0","topicId":"x","start":0,"end":900,"hw":901,"committed":850,"error":null}]},
 "deadLetter":{"end":7}}"#;

    fn example() -> String {
        EXAMPLE.replace('\n', "")
    }

    fn ask(lines: &str) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        run(lines.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn the_documented_line_gets_a_documented_answer() {
        let answer = &ask(&example())[0];
        let keys: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = [
            "v",
            "seq",
            "t",
            "replicas",
            "patch",
            "bound",
            "also",
            "message",
            "inputs",
            "conditions",
            "nextCheck",
        ];
        wanted.sort_unstable();
        let mut keys_sorted = keys.clone();
        keys_sorted.sort_unstable();
        assert_eq!(keys_sorted, wanted);
        assert_eq!(
            (&answer["seq"], &answer["inputs"]["lag"], &answer["inputs"]["cap"]),
            (&1.into(), &50.into(), &1.into())
        );
        let inputs: Vec<_> = answer["inputs"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(inputs.len(), 11);
    }

    #[test]
    fn a_bad_line_is_answered_and_changes_nothing() {
        let good = example();
        let later = good.replace("\"t\":0.0", "\"t\":1.0").replace("\"seq\":1", "\"seq\":2");
        let bad =
            ["", "{", "[]", r#"{"v":2,"seq":9,"t":0.5,"target":{"spec":1}}"#, r#"{"v":1,"seq":7}"#, &good];
        let plain = ask(&format!("{good}\n{later}\n"));
        let mixed = ask(&format!("{good}\n{}\n{later}\n", bad.join("\n")));
        assert_eq!(mixed.len(), 8);
        assert!(mixed[1..7].iter().all(|a| a["error"].is_string() && a["v"] == 1));
        assert_eq!(mixed[5]["seq"], 7);
        assert_eq!(plain[1], mixed[7]);
    }

    #[test]
    fn unknown_fields_are_ignored_in_the_configuration_too() {
        let line = example()
            .replace("\"targetDelay\"", "\"lagThreshold\":5,\"idle\":{\"soon\":true},\"targetDelay\"")
            .replace("\"spec\":2", "\"spec\":2,\"colour\":\"green\"");
        assert_eq!(ask(&line), ask(&example()));
    }

    #[test]
    fn a_later_configuration_is_an_edit_of_the_spec() {
        let first = example();
        let edit = first.replace("\"t\":0.0", "\"t\":1.0").replace("\"30s\"", "\"60s\"");
        let mut after: serde_json::Value = serde_json::from_str(&edit).unwrap();
        after["t"] = 2.0.into();
        after.as_object_mut().unwrap().remove("config");
        let answers = ask(&format!("{first}\n{edit}\n{after}\n"));
        let target = |i: usize| answers[i]["message"].as_str().unwrap().contains("target 60 s");
        assert_eq!((target(0), target(1), target(2)), (false, true, true), "{answers:?}");
    }

    #[test]
    fn another_scaler_and_a_queue_are_read_from_a_line() {
        let line = r#"{"v":1,"seq":1,"t":0.0,"config":{"scaling":{"minReplicas":3,"maxReplicas":9}},
 "target":{"spec":2,"ready":2,"foreignScaler":"hpa/tasks"},
 "rabbitmq":{"type":"quorum","ready":10,"unacked":5,"publish":900,"ack":885,"deliverNoAck":0,"consumers":2,"singleActive":false}}"#
            .replace('\n', "");
        let answer = &ask(&line)[0];
        assert_eq!(
            (&answer["replicas"], &answer["patch"], &answer["bound"], &answer["inputs"]["lag"]),
            (&3.into(), &false.into(), &"ScaleConflict".into(), &15.into())
        );
        assert!(answer["conditions"][0]["detail"].as_str().unwrap().contains("hpa/tasks"), "{answer}");
        let alone = line
            .replace(",\"foreignScaler\":\"hpa/tasks\"", "")
            .replace("\"singleActive\":false", "\"singleActive\":true");
        let answer = &ask(&alone)[0];
        assert_eq!((&answer["inputs"]["cap"], &answer["patch"]), (&1.into(), &false.into()), "{answer}");
    }

    #[test]
    fn no_decision_without_a_configuration() {
        let line = r#"{"v":1,"seq":1,"t":0.0,"target":{"spec":1}}"#;
        assert!(ask(line)[0]["error"].as_str().unwrap().contains("config"));
    }

    #[test]
    fn a_learned_rate_is_a_new_leaders_start() {
        let line = example().replace(
            "\"target\"",
            "\"learned\":{\"ratePerReplica\":\"98\",\"coldStart\":\"19s\"},\"target\"",
        );
        let answer = &ask(&line)[0];
        assert_eq!((&answer["inputs"]["mu"], &answer["inputs"]["coldStart"]), (&98.0.into(), &19.0.into()));
        assert!(answer["inputs"]["muAge"].is_null());
    }
}
