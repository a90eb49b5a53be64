//! Plain scalars, those without quotes: here YAML 1.2 says what they are, for `kubectl` YAML 1.1. What a schema says
//! is a text, the API server refuses as anything else; in `arguments` there is no schema, so one file would be two
//! things without a word. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use granit_parser::{Event, Parser, ScalarStyle};
use regex::Regex;
use serde_yaml::Value;

/// The field whose values have no schema.
const OPEN: &str = "arguments";

/// What a plain scalar is to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Truth,
    Number,
    Null,
}

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Truth => "a truth value",
            Self::Number => "a number",
            Self::Null => "null",
        }
    }

    /// As go-yaml has it, the version that `kubectl` reads manifests with.
    fn for_kubectl(text: &str) -> Self {
        static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| {
            let whole = "0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+";
            let float = r"(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?";
            Regex::new(&format!("^[-+]?({whole}|{float})$")).ok()
        });
        match text {
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" | "n" | "N"
            | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Self::Truth,
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            ".nan" | ".NaN" | ".NAN" => Self::Number,
            _ if matches!(text.trim_start_matches(['-', '+']), ".inf" | ".Inf" | ".INF") => Self::Number,
            // Underscores count for nothing, but not in front.
            _ if text.starts_with(['-', '+', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
                && NUMBER.as_ref().is_none_or(|number| number.is_match(&text.replace('_', ""))) =>
            {
                Self::Number
            }
            _ => Self::Text,
        }
    }

    /// As the reader of [`super::input`] has it.
    fn here(text: &str) -> Self {
        match serde_yaml::from_str(text) {
            Ok(Value::Null) => Self::Null,
            Ok(Value::Bool(_)) => Self::Truth,
            Ok(Value::Number(_)) => Self::Number,
            _ => Self::Text,
        }
    }
}

/// Whether a text without quotes is another thing to some reader of YAML 1.1. `kubectl` knows neither numbers to the
/// base of 60 nor dates; others do.
fn needs_quotes(text: &str) -> bool {
    static ELSEWHERE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let sixties = r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$";
        Regex::new(&format!("^({sixties}|[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}([Tt \t]|$))")).ok()
    });
    Kind::for_kubectl(text) != Kind::Text
        || matches!(text, "<<" | "=")
        || ELSEWHERE.as_ref().is_none_or(|elsewhere| elsewhere.is_match(text))
}

/// A document as YAML that 1.1 and 1.2 read alike: what needs quotes has them, keys too.
pub fn write(mut document: Value) -> Result<String, String> {
    let written = |document: &Value| serde_yaml::to_string(document).map_err(|error| error.to_string());
    let mut quoted = Vec::new();
    // The writer takes no orders about quotes: words that need none stand in until it is done.
    let mut word = "quoted".to_owned();
    let text = written(&document)?;
    while text.contains(&word) {
        word.push('q');
    }
    stand_in(&mut document, &word, &mut quoted);
    let mut text = written(&document)?;
    for (number, original) in quoted.iter().enumerate() {
        text = text.replacen(&stand_in_word(&word, number), &format!("'{original}'"), 1);
    }
    Ok(text)
}

fn stand_in_word(word: &str, number: usize) -> String {
    format!("{word}-{number}-x")
}

fn stand_in(value: &mut Value, word: &str, quoted: &mut Vec<String>) {
    match value {
        // None of these has a quote or a line break in it.
        Value::String(text) if needs_quotes(text) => {
            let stand_in = stand_in_word(word, quoted.len());
            quoted.push(std::mem::replace(text, stand_in));
        }
        Value::Sequence(items) => items.iter_mut().for_each(|item| stand_in(item, word, quoted)),
        Value::Mapping(fields) => {
            let old = std::mem::take(fields);
            for (mut key, mut value) in old {
                stand_in(&mut key, word, quoted);
                stand_in(&mut value, word, quoted);
                fields.insert(key, value);
            }
        }
        Value::Tagged(tagged) => stand_in(&mut tagged.value, word, quoted),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What `kubectl` would read another way, by the number of the document: where it stands, and what it is.
#[must_use]
pub fn ambiguous(text: &str) -> BTreeMap<usize, Vec<Ambiguous>> {
    let mut found: BTreeMap<usize, Vec<Ambiguous>> = BTreeMap::new();
    let (mut document, mut place) = (0, Place::default());
    // Where it is no YAML, whoever reads it for good says so.
    for (event, _) in Parser::new_from_str(text).map_while(Result::ok) {
        if let Event::DocumentStart(..) = event {
            document += 1;
            place = Place::default();
        } else if let Some(one) = place.step(event) {
            found.entry(document).or_default().push(one);
        }
    }
    found
}

/// Something that is two things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambiguous {
    /// The item of a `kind: List` that it would stand in, from 1.
    pub item: Option<usize>,
    /// Its place in that item, or in the document.
    pub path: String,
    /// What it would be in the item of a List: the path without the item.
    pub path_in_item: String,
    /// What is wrong with it.
    pub what: String,
}

impl Ambiguous {
    /// The line for it, in an item of a List or not.
    #[must_use]
    pub fn told(&self, in_list: bool) -> String {
        format!("{}: {}", if in_list { &self.path_in_item } else { &self.path }, self.what)
    }
}

/// What a collection holds at the moment.
enum Now {
    /// A map waits for a key.
    Key,
    /// A map is at the value of this key.
    Value(String),
    /// A list is at this item.
    Item(usize),
}

struct Level {
    now: Now,
    anchor: usize,
    /// Whether all of it is a key itself.
    is_key: bool,
}

/// Where a walk through a document is.
#[derive(Default)]
struct Place {
    levels: Vec<Level>,
    /// Anchors with something ambiguous below them: an alias may bring it into `arguments`.
    tainted: BTreeSet<usize>,
}

impl Place {
    /// Takes one event. What is ambiguous, if it is.
    fn step(&mut self, event: Event<'_>) -> Option<Ambiguous> {
        match event {
            Event::MappingStart(_, anchor, _) => self.begin(Now::Key, anchor),
            Event::SequenceStart(_, anchor, _) => self.begin(Now::Item(0), anchor),
            Event::MappingEnd | Event::SequenceEnd => {
                let is_key = self.levels.pop().is_some_and(|level| level.is_key);
                self.end(is_key, "?");
            }
            Event::Alias(anchor) => {
                let what = "an alias of what kubectl reads another way: write it out, in quotes";
                let found = self.tainted.contains(&anchor).then(|| self.here(what.to_owned()));
                self.end(self.at_key(), "?");
                return found.flatten();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_key = self.at_key();
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let watched =
                    self.in_open() || anchor > 0 || self.levels.iter().any(|level| level.anchor > 0);
                let what = (plain && watched).then(|| differs(&text, is_key)).flatten();
                if what.is_some() {
                    self.tainted.extend(self.levels.iter().map(|level| level.anchor).filter(|one| *one > 0));
                    self.tainted.extend((anchor > 0).then_some(anchor));
                }
                let found = what.and_then(|what| self.here(what));
                self.end(is_key, &text);
                return found;
            }
            _ => {}
        }
        None
    }

    fn at_key(&self) -> bool {
        self.levels.last().is_some_and(|level| matches!(level.now, Now::Key))
    }

    fn begin(&mut self, now: Now, anchor: usize) {
        let is_key = self.at_key();
        self.levels.push(Level { now, anchor, is_key });
    }

    /// A node has ended.
    fn end(&mut self, is_key: bool, text: &str) {
        let Some(level) = self.levels.last_mut() else { return };
        match &mut level.now {
            now @ Now::Key if is_key => *now = Now::Value(text.to_owned()),
            now @ Now::Value(_) => *now = Now::Key,
            Now::Item(number) => *number += 1,
            Now::Key => {}
        }
    }

    fn in_open(&self) -> bool {
        self.levels.iter().any(|level| matches!(&level.now, Now::Value(key) if key == OPEN))
    }

    /// That it is wrong here; none: here is a schema.
    fn here(&self, what: String) -> Option<Ambiguous> {
        let path = |levels: &[Level]| {
            let mut path = String::new();
            for level in levels {
                match &level.now {
                    Now::Value(key) if path.is_empty() => path.push_str(key),
                    Now::Value(key) => path = format!("{path}.{key}"),
                    Now::Item(number) => path = format!("{path}[{number}]"),
                    Now::Key => {}
                }
            }
            path
        };
        let item = match self.levels.get(..2) {
            Some([Level { now: Now::Value(key), .. }, Level { now: Now::Item(number), .. }])
                if key == "items" =>
            {
                Some(number + 1)
            }
            _ => None,
        };
        let below = if item.is_some() { self.levels.get(2..).unwrap_or_default() } else { &self.levels };
        let (path, path_in_item) = (path(&self.levels), path(below));
        self.in_open().then_some(Ambiguous { item, path, path_in_item, what })
    }
}

/// In words, how the two readers differ; none where they do not.
fn differs(text: &str, is_key: bool) -> Option<String> {
    let (here, there) = (Kind::here(text), Kind::for_kubectl(text));
    if is_key && text == "<<" {
        return Some("<< is a key, and to kubectl no key but a merge: put it in quotes".into());
    }
    if here == there {
        return None;
    }
    let (here, there) = (here.words(), there.words());
    Some(if is_key {
        format!("the key {text} is {here}, and to kubectl {there}: put it in quotes")
    } else {
        format!("is {here}, and to kubectl {there}: put it in quotes, or write it as what it shall be")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `kubectl apply --dry-run=server` (1.32) makes of plain scalars in a Queue's `arguments`.
    const KUBECTL: [(&str, Kind); 56] = [
        ("y", Kind::Truth),
        ("n", Kind::Truth),
        ("on", Kind::Truth),
        ("Off", Kind::Truth),
        ("yes", Kind::Truth),
        ("NO", Kind::Truth),
        ("TRUE", Kind::Truth),
        ("yEs", Kind::Text),
        ("1_000", Kind::Number),
        ("1__0", Kind::Number),
        ("1_", Kind::Number),
        ("0_", Kind::Number),
        ("0_7", Kind::Number),
        ("_1", Kind::Text),
        ("0x_1", Kind::Number),
        ("0X1F", Kind::Number),
        ("-0x1F", Kind::Number),
        ("0x", Kind::Text),
        ("0xG", Kind::Text),
        ("0x1p-2", Kind::Text),
        ("0o7", Kind::Number),
        ("0O7", Kind::Number),
        ("-0o17", Kind::Number),
        ("010", Kind::Number),
        ("08", Kind::Number),
        ("00", Kind::Number),
        ("09.5", Kind::Number),
        ("0b11", Kind::Number),
        ("0B11", Kind::Number),
        ("0b_1", Kind::Number),
        ("+0b1", Kind::Number),
        ("-0b1", Kind::Number),
        ("0b", Kind::Text),
        ("+5", Kind::Number),
        ("1.", Kind::Number),
        (".5", Kind::Number),
        ("+.5", Kind::Number),
        (".5_0", Kind::Number),
        ("1_0.5", Kind::Number),
        (".1_0e2", Kind::Number),
        (".1e3", Kind::Number),
        (".e3", Kind::Text),
        ("1e3", Kind::Number),
        ("1E+2", Kind::Number),
        ("1e5_0", Kind::Number),
        ("99999999999999999999999", Kind::Number),
        ("18446744073709551615", Kind::Number),
        ("1:30", Kind::Text),
        ("2020-01-01", Kind::Text),
        ("=", Kind::Text),
        ("-", Kind::Text),
        ("NaN", Kind::Text),
        ("~", Kind::Null),
        ("Null", Kind::Null),
        ("lazy", Kind::Text),
        ("10s", Kind::Text),
    ];

    #[test]
    fn a_plain_scalar_is_to_kubectl_what_go_yaml_makes_of_it() {
        for (text, kind) in KUBECTL {
            assert_eq!(Kind::for_kubectl(text), kind, "{text}");
        }
    }

    #[test]
    fn what_yaml_1_1_would_read_as_something_else_is_written_in_quotes() {
        let texts = KUBECTL.map(|(text, _)| text);
        let mut fields = serde_yaml::Mapping::new();
        for text in texts.into_iter().chain(["<<", "plain words", "", "it's", "quoted"]) {
            fields.insert(Value::String(text.into()), Value::String(text.into()));
        }
        let document = Value::Mapping(serde_yaml::Mapping::from_iter([("arguments".into(), fields.into())]));
        let text = write(document.clone()).unwrap();
        assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), document, "{text}");
        for line in text.lines().filter(|line| line.contains(": ")) {
            let (key, value) = line.trim().split_once(": ").unwrap();
            for side in [key, value] {
                let plain = !side.starts_with(['\'', '"', '|']);
                assert!(!plain || Kind::for_kubectl(side) == Kind::Text, "{line}");
            }
        }
        for text in ["yes", "1_000", "010", "1:30", "2020-01-01", "<<", "="] {
            assert!(needs_quotes(text), "{text}");
        }
        for text in ["lazy", "10s", "order-1", "1.2.3.4", "7D"] {
            assert!(!needs_quotes(text), "{text}");
        }
    }

    fn told(text: &str) -> Vec<String> {
        let found = ambiguous(text);
        found
            .iter()
            .flat_map(|(number, all)| all.iter().map(move |one| format!("{number} {}", one.told(false))))
            .collect()
    }

    #[test]
    fn what_kubectl_would_read_another_way_is_found_in_arguments_as_value_key_and_alias() {
        assert_eq!(
            told("spec: {arguments: {a: lazy, b: 'yes', c: 5, d: true, e: !!str on}, name: on}"),
            [""; 0]
        );
        assert_eq!(
            told(
                "a: 1\n---\nspec:\n  arguments:\n    a: yes\n    b: [1, {c: 010}]\n    on: 1\n  other: no\n"
            ),
            [
                "2 spec.arguments.a: is a text, and to kubectl a truth value: put it in quotes, or write it as what it shall be",
                "2 spec.arguments.b[1].c: is a text, and to kubectl a number: put it in quotes, or write it as what it shall be",
                "2 spec.arguments: the key on is a text, and to kubectl a truth value: put it in quotes",
            ]
        );
        let bindings = told("spec: {bindings: [{source: a, arguments: {x: 1_000}}]}");
        assert!(bindings[0].starts_with("1 spec.bindings[0].arguments.x: is a text"), "{bindings:?}");
        let alias = told("spec: {other: &a [off], arguments: {x: *a, k: &b lazy, z: *b}}");
        assert_eq!(alias.len(), 1, "{alias:?}");
        assert!(alias[0].starts_with("1 spec.arguments.x: an alias of"), "{alias:?}");
        let merge = told("spec: {arguments: {<<: {a: 1}}}");
        assert!(merge[0].contains("<< is a key"), "{merge:?}");
    }

    #[test]
    fn in_a_list_its_place_is_that_in_the_item() {
        let found = ambiguous("kind: List\nitems: [{spec: {}}, {spec: {arguments: {a: off}}}]");
        let one = &found[&1][0];
        assert_eq!((one.item, one.path_in_item.as_str()), (Some(2), "spec.arguments.a"));
    }
}
