//! A trace of arrivals as CSV: what a person recorded.

/// Messages/s over time, each rate until the next row.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// (seconds since the first row, messages/s).
    rows: Vec<(f64, f64)>,
}

/// Why a trace was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A row that is not two numbers.
    #[error("line {0}: expected seconds,messages per second such as 60,125.5")]
    Row(usize),
    /// A time that is not after the one before.
    #[error("line {0}: times must rise")]
    Order(usize),
    /// A rate that cannot be.
    #[error("line {0}: a rate must be between 0 and 1000000 messages per second")]
    Rate(usize),
    /// Too few rows to be a load.
    #[error("a trace needs at least two rows")]
    Short,
    /// More than a week.
    #[error("a trace must not be longer than 604800 seconds, a week")]
    Long,
}

impl Trace {
    const MOST_SECONDS: f64 = 604_800.0;
    const MOST_RATE: f64 = 1e6;

    /// Reads `seconds,messages per second` rows. Empty lines, lines that begin with `#` and a heading are skipped;
    /// further columns are ignored. Times may begin anywhere, such as at an epoch.
    ///
    /// # Errors
    /// Names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut rows: Vec<(f64, f64)> = Vec::new();
        let mut may_be_heading = true;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, row) in text.lines().enumerate().map(|(i, row)| (i + 1, row.trim())) {
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            let heading = std::mem::take(&mut may_be_heading)
                && row.starts_with(|c: char| c.is_alphabetic() || c == '"');
            if heading {
                continue;
            }
            let mut cells =
                row.split(',').map(|cell| cell.trim().parse::<f64>().ok().filter(|n| n.is_finite()));
            let (Some(Some(at)), Some(Some(rate))) = (cells.next(), cells.next()) else {
                return Err(TraceError::Row(line));
            };
            if !(0.0..=Self::MOST_RATE).contains(&rate) {
                return Err(TraceError::Rate(line));
            }
            if rows.last().is_some_and(|last| at <= last.0) {
                return Err(TraceError::Order(line));
            }
            rows.push((at, rate));
        }
        let first = rows.first().map_or(0.0, |row| row.0);
        for row in &mut rows {
            row.0 -= first;
        }
        let trace = Self { rows };
        match trace.rows.len() {
            0 | 1 => Err(TraceError::Short),
            _ if trace.seconds() > Self::MOST_SECONDS => Err(TraceError::Long),
            _ => Ok(trace),
        }
    }

    /// How long it is; the last row is as long as the one before.
    pub(super) fn seconds(&self) -> f64 {
        match self.rows[..] {
            [.., (before, _), (last, _)] => (2.0 * last - before).max(1.0),
            _ => 0.0,
        }
    }

    /// Messages/s at `t` seconds.
    pub(super) fn rate(&self, t: f64) -> f64 {
        let next = self.rows.partition_point(|row| row.0 <= t);
        self.rows.get(next.saturating_sub(1)).map_or(0.0, |row| row.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_until_the_next_row_and_the_first_row_is_the_beginning() {
        let text =
            "\u{feff}time,rate\n# from the broker\n1700000000,10\n1700000060, 25.5,more\n\n1700000090,0\n";
        let trace = Trace::parse(text).unwrap();
        assert!((trace.seconds() - 120.0).abs() < 1e-6, "{}", trace.seconds());
        for (t, rate) in [(0.0, 10.0), (59.9, 10.0), (60.0, 25.5), (90.0, 0.0), (500.0, 0.0)] {
            assert!((trace.rate(t) - rate).abs() < 1e-9, "{t}: {}", trace.rate(t));
        }
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        for (text, error) in [
            ("", TraceError::Short),
            ("time,rate\n", TraceError::Short),
            ("0,1\n", TraceError::Short),
            ("0,1\n10\n", TraceError::Row(2)),
            ("time,rate\ntime,rate\n", TraceError::Row(2)),
            ("0,1\n10,many\n", TraceError::Row(2)),
            ("0,NaN\n10,1\n", TraceError::Row(1)),
            ("0,1\n10,-1\n", TraceError::Rate(2)),
            ("0,1\n10,1e300\n", TraceError::Rate(2)),
            ("0,1\n10,1\n10,2\n", TraceError::Order(3)),
            ("0,1\n604799,1\n604801,1\n", TraceError::Long),
        ] {
            assert_eq!(Trace::parse(text), Err(error), "{text:?}");
        }
    }
}
