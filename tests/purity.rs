//! Rules about the sources that no compiler checks.
//!
//! `src/topology` and `src/scaling` decide, and do nothing else: they name no client, no clock and
//! no async runtime. `unsafe` is in one file only.

use std::fs;
use std::path::{Path, PathBuf};

const PURE: [&str; 2] = ["src/topology", "src/scaling"];

const FORBIDDEN: [&str; 13] = [
    "kube::",
    "use kube;",
    "tokio",
    "futures::",
    "rdkafka",
    "lapin",
    "reqwest",
    "hyper",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "async fn",
    "std::thread",
];

const UNSAFE_FILE: &str = "src/brokers/kafka/ffi.rs";

/// The Rust files below `folder`, relative to the package.
fn sources(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(path.to_str().expect("a UTF-8 path")));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Lines that hold one of the words outside of comments, as `file:line: text`.
fn lines_with(file: &Path, words: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a source file");
    let code = text.lines().enumerate().map(|(number, line)| (number + 1, without_comment(line)));
    code.filter(|(_, code)| words.iter().any(|word| holds(code, word)))
        .map(|(number, code)| format!("{}:{number}: {}", file.display(), code.trim()))
        .collect()
}

/// A line without its `//` comment. A `//` in a string ends the line early, which hides nothing
/// that matters: code after such a string on one line is not forbidden words.
fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` stands in `code`, not as the end or the beginning of a longer name.
fn holds(code: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part_of_name);
        let after =
            word.ends_with(part_of_name) && code[at + word.len()..].chars().next().is_some_and(part_of_name);
        !before && !after
    })
}

#[test]
fn what_decides_names_no_client_no_clock_and_no_runtime() {
    let mut files: Vec<_> = PURE.iter().flat_map(|folder| sources(folder)).collect();
    // Tests decide nothing.
    files.retain(|file| {
        file.components().all(|part| part.as_os_str() != "tests") && !file.ends_with("tests.rs")
    });
    assert!(files.len() > 10, "the folders have moved: {files:?}");
    let found: Vec<_> = files.iter().flat_map(|file| lines_with(file, &FORBIDDEN)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn unsafe_is_in_one_file_only() {
    let files = sources("src");
    assert!(files.iter().any(|file| file == Path::new(UNSAFE_FILE)), "{UNSAFE_FILE} has moved");
    let others = files.iter().filter(|file| *file != Path::new(UNSAFE_FILE));
    let found: Vec<_> = others.flat_map(|file| lines_with(file, &["unsafe"])).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_forbidden_word_is_found_in_code_and_not_in_comments_or_longer_names() {
    for (line, word, found) in [
        ("use tokio::time::sleep;", "tokio", true),
        ("let at = std::time::Instant::now();", "Instant", true),
        ("// tokio is not used here", "tokio", false),
        ("let instantly = Instantly;", "Instant", false),
        ("#![deny(unsafe_code)]", "unsafe", false),
        ("unsafe { read() }", "unsafe", true),
        ("let client = kube::Client::new();", "kube::", true),
    ] {
        assert_eq!(holds(without_comment(line), word), found, "{line}");
    }
}
