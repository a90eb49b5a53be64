//! Which characters of somebody's words a person would not see, or be misled by, on a terminal.

use std::fmt::Write as _;

/// Whether a terminal obeys it, or shows nothing for it, or lets it turn around what stands beside it: control
/// characters, line and paragraph separators, what has no width, and marks and overrides of the direction of text.
#[must_use]
pub fn hides(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            // Without width, and marks of direction.
            | '\u{200b}'..='\u{200f}'
            // Separators, embeddings, overrides.
            | '\u{2028}'..='\u{202e}'
            // Invisible operators, isolates, and what is deprecated of both.
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            // Tags: letters that are not shown.
            | '\u{e0000}'..='\u{e007f}')
}

/// The text with those characters as they are written in code: `\n`, `\u{202e}`.
#[must_use]
pub fn legible(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    for char in text.chars() {
        if hides(char) {
            // Writing to a String cannot fail.
            let _ = write!(said, "{}", char.escape_default());
        } else {
            said.push(char);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_does_not_show_is_written_out() {
        for (text, shown) in [
            ("\u{1b}[31mred\nline", "\\u{1b}[31mred\\nline"),
            // Right to left: it would be read as "orders.exe".
            ("orders.\u{202e}exe", "orders.\\u{202e}exe"),
            ("a\u{2066}b\u{2069}c", "a\\u{2066}b\\u{2069}c"),
            ("or\u{200b}ders", "or\\u{200b}ders"),
            ("one\u{2028}two\u{2029}three", "one\\u{2028}two\\u{2029}three"),
            ("\u{feff}orders", "\\u{feff}orders"),
            ("orders\u{e0041}", "orders\\u{e0041}"),
            ("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m"),
        ] {
            assert_eq!(legible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn words_of_any_language_stay_as_they_are() {
        for text in ["straße \"é\" \\ 'x'", "заказы", "注文", "طلبات", "הזמנות", "👍 e\u{301}"]
        {
            assert_eq!(legible(text), text);
        }
    }

    #[test]
    fn every_override_isolate_and_separator_of_the_standard_is_among_them() {
        let ranges = [
            '\u{202a}'..='\u{202e}',
            '\u{2066}'..='\u{2069}',
            '\u{200b}'..='\u{200f}',
            '\u{2028}'..='\u{2029}',
        ];
        for char in ranges.into_iter().flatten() {
            assert!(hides(char), "{}", char.escape_default());
        }
    }
}
