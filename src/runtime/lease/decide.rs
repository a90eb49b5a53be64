//! What a candidate does about the Lease that it sees. Pure: the clock is an argument.
//!
//! The other process's clock is never read. A Lease has expired when `duration` has passed on *our*
//! monotonic clock since *we* saw its record change. We see a renewal after it was made, so this is
//! never too early, whatever the clocks of the two machines say.

use std::time::Duration;

/// A reading of a monotonic clock: time since an origin of the caller's choice.
pub type Reading = Duration;

/// Who holds the Lease, and since which renewal: what makes one record differ from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The holder; empty if it was released.
    pub holder: String,
    /// How long the holder may go without renewing.
    pub duration: Duration,
    /// When the holder says that it renewed, in microseconds. Compared, never interpreted.
    pub renewed: Option<i64>,
    /// How often the Lease has changed hands.
    pub transitions: i32,
}

/// What a candidate should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make the Lease: there is none.
    Create,
    /// Write ourselves into the Lease.
    Take,
    /// Look again at this reading of the clock, or when the record changes.
    WaitUntil(Reading),
}

/// What a candidate has seen of a Lease.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    last: Option<(Record, Reading)>,
    absent: bool,
}

impl Observed {
    /// Notes the Lease as it is read at `now`; None if there is none.
    pub fn note(&mut self, record: Option<Record>, now: Reading) {
        self.absent = record.is_none();
        let Some(record) = record else { return };
        if self.last.as_ref().is_none_or(|(known, _)| *known != record) {
            self.last = Some((record, now));
        }
    }

    /// The holder of the Lease, if somebody holds it.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        let (record, _) = self.last.as_ref().filter(|_| !self.absent)?;
        Some(record.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// What the candidate `me` should do at `now`.
    ///
    /// A Lease that was deleted while somebody held it stays held until that record expires: its
    /// holder may not know yet.
    #[must_use]
    pub fn decide(&self, me: &str, now: Reading) -> Decision {
        let go = if self.absent { Decision::Create } else { Decision::Take };
        match &self.last {
            None if self.absent => Decision::Create,
            None => Decision::WaitUntil(Reading::MAX),
            Some((record, _)) if record.holder.is_empty() || record.holder == me => go,
            Some((record, since)) => match since.saturating_add(record.duration) {
                expiry if now >= expiry => go,
                expiry => Decision::WaitUntil(expiry),
            },
        }
    }
}

#[cfg(test)]
mod tests;
