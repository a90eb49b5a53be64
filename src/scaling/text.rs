//! Durations and quantities as people write them in YAML, and numbers as people read them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds, written `30s`, `1h30m`, `500ms`. Never negative, always finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds(pub f64);

/// A number written as a string (`"0.2"`, `"1500m"`) or as a bare number. Always finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity(pub f64);

impl Seconds {
    /// Reads `30s`, `1h30m`, `500ms`, `0s`; `None` for anything else or anything negative.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let duration: jiff::SignedDuration = text.parse().ok()?;
        (!duration.is_negative()).then(|| Self(duration.as_secs_f64()))
    }
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = (self.0.clamp(0.0, 1e12) * 1e3).round();
        if millis % 1e3 != 0.0 {
            return write!(f, "{millis}ms");
        }
        let seconds = millis / 1e3;
        match seconds {
            s if s >= 3_600.0 && s % 3_600.0 == 0.0 => write!(f, "{}h", s / 3_600.0),
            s if s >= 60.0 && s % 60.0 == 0.0 => write!(f, "{}m", s / 60.0),
            s => write!(f, "{s}s"),
        }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("not a duration such as 30s or 5m: {text:?}")))
    }
}

impl Quantity {
    /// Reads a decimal number with an optional `m` (thousandths) or `k` (thousands).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, factor) = match text.as_bytes().last()? {
            b'm' => (&text[..text.len() - 1], 1e-3),
            b'k' => (&text[..text.len() - 1], 1e3),
            _ => (text, 1.0),
        };
        digits.parse::<f64>().ok().map(|v| v * factor).filter(|v| v.is_finite()).map(Self)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(f64),
            Text(String),
        }
        let (value, shown) = match Form::deserialize(deserializer)? {
            Form::Number(number) => (Some(Self(number)).filter(|q| q.0.is_finite()), number.to_string()),
            Form::Text(text) => (Self::parse(&text), text),
        };
        value.ok_or_else(|| serde::de::Error::custom(format!("not a quantity such as 0.2: {shown:?}")))
    }
}

/// Rounds to two significant digits: what a status shows, so that it does not change at every poll.
#[must_use]
pub fn two_digits(value: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return 0.0;
    }
    let unit = 10f64.powf(value.abs().log10().floor() - 1.0);
    let rounded = (value / unit).round() * unit;
    // Whole numbers stay whole, and 0.1 + 0.2 does not show.
    if unit >= 1.0 { rounded.round() } else { (rounded * 1e9).round() / 1e9 }
}

/// A count or a rate for a message: two significant digits below 100, whole above.
pub(super) struct Brief(pub f64);

impl std::fmt::Display for Brief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 >= 100.0 { write!(f, "{:.0}", self.0) } else { write!(f, "{}", two_digits(self.0)) }
    }
}

/// Durations that a message tells: steps, so that it seldom changes.
const STEPS: [(f64, &str); 14] = [
    (10.0, "10 s"),
    (30.0, "30 s"),
    (60.0, "a minute"),
    (120.0, "2 minutes"),
    (300.0, "5 minutes"),
    (600.0, "10 minutes"),
    (1_800.0, "half an hour"),
    (3_600.0, "an hour"),
    (7_200.0, "2 hours"),
    (14_400.0, "4 hours"),
    (28_800.0, "8 hours"),
    (86_400.0, "a day"),
    (172_800.0, "2 days"),
    (604_800.0, "a week"),
];

/// How long something has lasted. Since when exactly is told by the condition's transition.
pub(super) struct Lasting(pub f64);

impl std::fmt::Display for Lasting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match STEPS.iter().rev().find(|(seconds, _)| self.0 >= *seconds) {
            Some((_, step)) => write!(f, "more than {step}"),
            None => f.write_str("some seconds"),
        }
    }
}

/// How soon something is due.
pub(super) struct Within(pub f64);

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match STEPS.iter().find(|(seconds, _)| self.0 <= *seconds) {
            Some((_, step)) => write!(f, "within {step}"),
            None => f.write_str("in more than a week"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_in_steps() {
        for (seconds, told) in [
            (0.0, "some seconds"),
            (10.0, "more than 10 s"),
            (119.0, "more than a minute"),
            (5_000.0, "more than an hour"),
            (1e9, "more than a week"),
            (f64::NAN, "some seconds"),
        ] {
            assert_eq!(Lasting(seconds).to_string(), told);
        }
        for (seconds, told) in
            [(-1.0, "within 10 s"), (600.0, "within 10 minutes"), (601.0, "within half an hour")]
        {
            assert_eq!(Within(seconds).to_string(), told);
        }
    }

    #[test]
    fn durations_read_and_write_the_same() {
        for text in ["30s", "5m", "1h", "1500ms", "0s", "90s"] {
            let seconds = Seconds::parse(text).unwrap();
            assert_eq!(Seconds::parse(&seconds.to_string()), Some(seconds), "{text}");
        }
        assert_eq!(Seconds::parse("1h30m"), Some(Seconds(5_400.0)));
        assert_eq!(Seconds::parse("-5s"), None);
        assert_eq!(Seconds::parse("fast"), None);
    }

    #[test]
    fn quantities_are_finite_numbers() {
        assert_eq!(Quantity::parse("200m").map(|q| (q.0 * 10.0).round()), Some(2.0));
        for text in ["", "m", "inf", "NaN", "x1", "1e999"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_status_shows_two_digits() {
        for (value, shown) in [(617.3, 620.0), (98.4, 98.0), (0.123, 0.12), (0.0, 0.0), (f64::NAN, 0.0)] {
            assert!((two_digits(value) - shown).abs() < 1e-9, "{value}");
        }
    }
}
