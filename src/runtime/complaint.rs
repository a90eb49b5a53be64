//! A complaint about what is tried every second: made when it changes, and then once a minute.

use std::time::{Duration, Instant};

/// How long the same words are not said again.
const PAUSE: Duration = Duration::from_secs(60);

/// What was said last of one matter, and when.
#[derive(Debug, Default)]
pub struct Complaint(Option<(String, Instant)>);

impl Complaint {
    /// Whether these words are to be said now.
    pub fn is_due(&mut self, words: &str, now: Instant) -> bool {
        let told = self.0.as_ref();
        if told.is_some_and(|(said, at)| said == words && now.saturating_duration_since(*at) < PAUSE) {
            return false;
        }
        self.0 = Some((words.to_owned(), now));
        true
    }

    /// All is well; whether that is news.
    pub fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_said_once_a_minute_and_others_at_once() {
        let (mut complaint, begun) = (Complaint::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        let said = [
            (0, "refused", true),
            (1, "refused", false),
            (59, "refused", false),
            (60, "refused", true),
            (61, "forbidden", true),
            (62, "refused", true),
        ];
        for (seconds, words, due) in said {
            assert_eq!(complaint.is_due(words, after(seconds)), due, "{words} after {seconds} s");
        }
    }

    #[test]
    fn an_end_is_news_once_and_what_comes_after_it_is_said_at_once() {
        let (mut complaint, now) = (Complaint::default(), Instant::now());
        assert!(!complaint.is_over());
        assert!(complaint.is_due("refused", now));
        assert!(complaint.is_over());
        assert!(!complaint.is_over());
        assert!(complaint.is_due("refused", now));
    }
}
