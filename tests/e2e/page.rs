//! A page of the documentation as something to run: its files and its commands, in order.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a page says to do.
#[derive(Debug)]
pub enum Step {
    /// Save a file: its name, which the first line gives, and its text.
    File(String, String),
    /// Type a command; what it prints, as far as the page shows it.
    Command(String, Vec<String>),
}

/// The steps between the page's marks `run: begin` and `run: end`, which no reader sees.
pub fn steps(page: &str) -> Vec<Step> {
    let (_, rest) = page.split_once("<!-- run: begin -->\n").expect("a mark where it begins");
    let (part, _) = rest.split_once("<!-- run: end -->").expect("a mark where it ends");
    let mut steps = Vec::new();
    // Every other part between two fences is inside of a block.
    for block in part.split("```").skip(1).step_by(2) {
        let (language, text) = block.split_once('\n').expect("a language");
        match language {
            "yaml" => {
                let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a name");
                steps.push(Step::File(name.to_owned(), text.to_owned()));
            }
            "console" => steps.extend(commands(text)),
            other => panic!("{other:?} is no language that can be run"),
        }
    }
    assert!(!steps.is_empty(), "there is nothing to do");
    steps
}

/// Commands begin with `$ `; what goes on in the next line is indented, and the rest is what they print.
fn commands(text: &str) -> Vec<Step> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), Vec::new())),
            (None, Some((command, printed))) if printed.is_empty() && goes_on(command, line) => {
                command.push('\n');
                command.push_str(line);
            }
            (None, Some((_, printed))) => printed.push(line.to_owned()),
            (None, None) => panic!("{line:?} comes before any command"),
        }
    }
    steps.into_iter().map(|(command, printed)| Step::Command(command, printed)).collect()
}

fn goes_on(command: &str, line: &str) -> bool {
    command.ends_with('\\')
        || (line.starts_with("  ") && command.starts_with("until ") && !command.contains("done"))
}

/// Types a command in a folder, with the binary's folder first in the PATH. What it printed on standard output.
pub fn run(command: &str, folder: &Path, binary: &str) -> String {
    let beside = Path::new(binary).parent().expect("a folder").display().to_string();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("timeout")
        .args(["150", "bash", "-euo", "pipefail", "-c", command])
        .current_dir(folder)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("$ {command}\n{out}{err}");
    assert!(output.status.success(), "{command}\n{}: {out}{err}", output.status);
    out.into_owned()
}

/// Asserts that a command printed what the page shows: each word of it that has no figure in it.
pub fn printed(command: &str, out: &str, expected: &[String]) {
    for line in expected {
        let words = line.split_whitespace().map(|word| word.trim_end_matches([',', '.', '…']));
        for word in words.filter(|word| !word.chars().any(|c| c.is_ascii_digit())) {
            assert!(out.contains(word), "{command}\nprinted no {word:?} as in {line:?}, but\n{out}");
        }
    }
}

#[test]
fn a_page_is_read_as_a_person_reads_it() {
    let page = "before\n<!-- run: begin -->\n```yaml\n# a.yaml\na: 1\n```\nwords\n```console\n$ one \\\n    more\nprinted 1\n$ two\n```\n<!-- run: end -->\nafter\n";
    let steps = steps(page);
    let [Step::File(name, text), Step::Command(one, out), Step::Command(two, none)] = &steps[..] else {
        panic!("{steps:?}")
    };
    assert_eq!((name.as_str(), text.as_str()), ("a.yaml", "# a.yaml\na: 1\n"));
    assert_eq!((one.as_str(), out.as_slice()), ("one \\\n    more", &["printed 1".to_owned()][..]));
    assert_eq!((two.as_str(), none.len()), ("two", 0));
}
