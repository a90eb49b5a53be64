//! The patterns of policies: regular expressions that names must match.
//!
//! RabbitMQ runs PCRE on bytes, in Latin-1. So here each byte becomes the character of its number,
//! and expressions with look-around (`^(?!amq\.).*` is common) are run, too.

use std::cell::RefCell;
use std::collections::HashMap;

use fancy_regex::{Regex, RegexBuilder};

/// How many compiled expressions are kept: a virtual host has few that are not plain names.
const KEPT: usize = 256;
/// How far a match may backtrack before it counts as one that cannot be judged.
const BACKTRACK: usize = 100_000;

thread_local! {
    /// Expressions by their text, so that thousands of names cost one compilation each.
    static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
}

/// A pattern that matches exactly this name.
#[must_use]
pub fn pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len() + 2);
    pattern.push('^');
    for c in name.chars() {
        if is_meta(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('$');
    pattern
}

const fn is_meta(c: char) -> bool {
    matches!(c, '\\' | '^' | '$' | '.' | '[' | ']' | '|' | '(' | ')' | '?' | '*' | '+' | '{' | '}')
}

/// Whether a pattern matches a name as RabbitMQ sees it; none: the pattern cannot be judged here.
#[must_use]
pub fn matches(pattern: &str, name: &str) -> Option<bool> {
    plainly_matches(pattern, name).or_else(|| {
        COMPILED.with_borrow_mut(|compiled| {
            if compiled.len() >= KEPT && !compiled.contains_key(pattern) {
                compiled.clear();
            }
            let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| {
                let regex = || RegexBuilder::new(&latin1(pattern)).backtrack_limit(BACKTRACK).build().ok();
                if means_another(pattern) { None } else { regex() }
            });
            regex.as_ref()?.is_match(&latin1(name)).ok()
        })
    })
}

/// As [`matches`], where it can be told without an expression: for "everything", and for
/// `^literal$`, such as Spillway's own patterns.
#[must_use]
pub fn plainly_matches(pattern: &str, name: &str) -> Option<bool> {
    if matches!(pattern, "" | ".*" | "^.*" | "^") {
        return Some(true);
    }
    let literal = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let (mut literal, mut name) = (literal.chars(), name.chars());
    let mut equal = true;
    while let Some(c) = literal.next() {
        let c = match c {
            '\\' => literal.next().filter(|c| is_meta(*c))?,
            c if is_meta(c) => return None,
            c => c,
        };
        equal &= name.next() == Some(c);
    }
    Some(equal && name.next().is_none())
}

/// Whether PCRE takes a part of it for something else than we would: `\h` is a space there and a hex digit here, and
/// `&&` in a class two characters there and an intersection here.
fn means_another(pattern: &str) -> bool {
    const ESCAPES: &str = "hHvVRXNQEcCo0";
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(&next)) => {
                if ESCAPES.contains(next) || class && next.is_ascii_digit() {
                    return true;
                }
                chars.next();
            }
            ('[', next) => {
                if class && next != Some(&':') {
                    return true;
                }
                class = true;
                // A bracket that comes first, also after ^, is one of the class.
                chars.next_if_eq(&'^');
                chars.next_if_eq(&']');
            }
            ('&' | '-' | '~', Some(&next)) if class && next == c => return true,
            (':', Some(']')) if class => {
                chars.next();
            }
            (']', _) => class = false,
            _ => {}
        }
    }
    false
}

fn latin1(text: &str) -> String {
    text.bytes().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_are_understood_as_pcre_on_bytes() {
        for (pattern, name, expected) in [
            (r"^(?!amq\.).*", "orders", Some(true)),
            (r"^(?!amq\.).*", "amq.gen-1", Some(false)),
            ("order", "my-orders", Some(true)),
            ("^order", "my-orders", Some(false)),
            (r"^a\.b$", "a.b", Some(true)),
            (r"^a\.b$", "aXb", Some(false)),
            ("^a.b$", "aXb", Some(true)),
            ("^a|b$", "xb", Some(true)),
            ("^é.$", "éx", Some(true)),
            ("^..$", "é", Some(true)),
            ("^.$", "é", Some(false)),
            ("^a(?C)b$", "ab", None),
            ("(", "(", None),
            (r"^h\h$", "h ", None),
            (r"^\Qa.\E", "a.b", None),
            (r"^\v$", "x", None),
            ("^[a-z&&b]$", "&", None),
            ("^[a[b]$", "[", None),
            ("^[[:alpha:]]+[.-]x$", "ab-x", Some(true)),
            ("^[]x]$", "]", Some(true)),
            (r"^[\w.-]+$", "a-b.c", Some(true)),
            ("a&&b", "a&&b", Some(true)),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn our_pattern_matches_its_own_name_only(
            name in r"[a-c.*+?()\[\]{}|^$\\ #é-]{1,12}",
            other in r"[a-c.*+?()\[\]{}|^$\\ #é-]{1,12}",
        ) {
            prop_assert_eq!(matches(&pattern(&name), &name), Some(true));
            prop_assert_eq!(matches(&pattern(&name), &other), Some(name == other));
            // The short cut and the expression say the same.
            let long = format!("(?:{})", pattern(&name));
            prop_assert_eq!(matches(&long, &other), Some(name == other));
        }
    }
}
