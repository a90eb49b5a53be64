//! Files in, documents out. This step only reads: what a document means is [`super::schema`]'s.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::Value;

use super::plain::{self, Ambiguous};
use crate::cli::CliError;

/// Folders inside folders at most: more is a loop of links.
const MAX_DEPTH: usize = 32;

/// Where a document stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as it was given, or as it was found below a folder; `-` is standard input.
    pub file: Arc<str>,
    /// The document's number in the file, from 1.
    pub document: usize,
    /// Its number in a `kind: List`, from 1.
    pub item: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = if &*self.file == "-" { "standard input" } else { &self.file };
        write!(f, "{file}: document {}", self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", item {item}"))
    }
}

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it stands.
    pub origin: Origin,
    /// What it says.
    pub value: Value,
    /// What `kubectl` would read another way.
    pub ambiguous: Vec<String>,
}

/// A document that cannot be used: one line for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{what}", object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default())]
pub struct Wrong {
    /// Where it stands.
    pub origin: Origin,
    /// Its kind and name, where it has them.
    pub object: Option<String>,
    /// What is wrong.
    pub what: String,
}

/// What the files hold, in their order: the order of the arguments, then of the paths below a folder.
#[derive(Debug, Default)]
pub struct Input {
    /// Documents that could be read.
    pub documents: Vec<Document>,
    /// Documents that are not YAML.
    pub wrong: Vec<Wrong>,
    /// JSON that lies beside manifests in a folder and is none: a dashboard, say.
    pub no_manifests: Vec<Origin>,
}

impl Input {
    /// Whether a document of this kind has this name, alone or as `namespace/name`.
    #[must_use]
    pub fn names(&self, kind: &str, name: &str) -> bool {
        let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        self.documents.iter().any(|document| {
            let found = text(&document.value, "/metadata/name");
            text(&document.value, "/kind").as_deref() == Some(kind)
                && found.is_some_and(|found| found == name.rsplit('/').next().unwrap_or_default())
        })
    }
}

/// Reads files, folders (all `*.yaml`, `*.yml` and `*.json` below them; hidden ones are left out)
/// and standard input (`-`).
///
/// # Errors
/// A file or folder that cannot be read.
pub fn read(paths: &[String]) -> Result<Input, CliError> {
    let mut input = Input::default();
    let mut seen = BTreeSet::new();
    for path in paths {
        if path == "-" {
            if !seen.insert(PathBuf::from("-")) {
                continue;
            }
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| CliError::new("read standard input", error))?;
            parse("-", &text, &mut input);
            continue;
        }
        let (mut files, named) = (Vec::new(), !Path::new(path).is_dir());
        find(Path::new(path), 0, &mut files)
            .map_err(|error| CliError::new(&format!("read {path}"), error))?;
        for file in files {
            let shown = file.display().to_string();
            // A file that is named twice, as itself and by its folder, is read once.
            let identity = file.canonicalize().unwrap_or_else(|_| file.clone());
            if !seen.insert(identity) {
                continue;
            }
            let text = std::fs::read_to_string(&file)
                .map_err(|error| CliError::new(&format!("read {shown}"), error))?;
            let json = file.extension().is_some_and(|extension| extension == "json");
            let given = if json && !named { Given::Beside } else { Given::Named };
            parse_given(&shown, &text, given, &mut input);
        }
    }
    Ok(input)
}

fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.metadata()?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > MAX_DEPTH {
        return Err(std::io::Error::other(format!("{} is too deep: a link in a circle?", path.display())));
    }
    let mut entries: Vec<_> = path.read_dir()?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let wanted = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"));
        if path.metadata()?.is_dir() || wanted {
            find(&path, depth + 1, files)?;
        }
    }
    Ok(())
}

/// How a file came into the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// It was named, or its name says that it is YAML: all in it is meant.
    Named,
    /// It is JSON in a folder that was named: other JSON may lie there.
    Beside,
}

/// Takes a text apart that was named. A text that is no YAML from some place on is wrong from there on.
pub fn parse(file: &str, text: &str, input: &mut Input) {
    parse_given(file, text, Given::Named, input);
}

fn parse_given(file: &str, text: &str, given: Given, input: &mut Input) {
    let file: Arc<str> = file.into();
    // Editors on Windows begin a file with it. It is no part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut ambiguous = plain::ambiguous(text);
    for (number, document) in (1..).zip(serde_yaml::Deserializer::from_str(text)) {
        let origin = Origin { file: file.clone(), document: number, item: None };
        // serde_yaml's own value refuses a key that stands there twice; JSON's takes the last.
        let value = serde_yaml::Value::deserialize(document)
            .map_err(|error| error.to_string())
            .and_then(|value| serde_json::to_value(value).map_err(|error| error.to_string()));
        match value {
            Ok(Value::Null) => {}
            Ok(value)
                if given == Given::Beside
                    && ["apiVersion", "kind"].iter().all(|key| value.get(key).is_none()) =>
            {
                input.no_manifests.push(origin);
            }
            Ok(value) => unfold(origin, value, &ambiguous.remove(&number).unwrap_or_default(), input),
            Err(error) => {
                let what = format!("not YAML: {}", error.replace('\n', " "));
                input.wrong.push(Wrong { origin, object: None, what });
                return;
            }
        }
    }
}

/// Takes a `kind: List` apart.
fn unfold(origin: Origin, mut value: Value, ambiguous: &[Ambiguous], input: &mut Input) {
    if value.get("kind").and_then(Value::as_str) != Some("List") {
        let ambiguous = ambiguous.iter().map(|one| one.told(false)).collect();
        input.documents.push(Document { origin, value, ambiguous });
        return;
    }
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => {
            for (number, value) in (1..).zip(items) {
                let origin = Origin { item: Some(number), ..origin.clone() };
                let of = ambiguous.iter().filter(|one| one.item == Some(number));
                let ambiguous = of.map(|one| one.told(true)).collect();
                input.documents.push(Document { origin, value, ambiguous });
            }
        }
        _ => input.wrong.push(Wrong {
            origin,
            object: Some("List".into()),
            what: "items: must be a list".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Input {
        let mut input = Input::default();
        parse("a.yaml", text, &mut input);
        input
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_of_windows_change_nothing() {
        let text = "kind: A\nspec:\n  a: text\n  b: |\n    one\n    two\n---\nkind: B\n";
        let values = |text: &str| parsed(text).documents.into_iter().map(|one| one.value).collect::<Vec<_>>();
        for other in [
            format!("\u{feff}{text}"),
            text.replace('\n', "\r\n"),
            format!("\u{feff}{}", text.replace('\n', "\r\n")),
        ] {
            assert_eq!(values(&other), values(text), "{other:?}");
        }
        assert_eq!(parsed("\u{feff}").documents.len(), 0);
    }

    #[test]
    fn json_that_is_no_manifest_is_left_aside_below_a_folder_only() {
        let dashboard = r#"{"title": "Queues", "panels": []}"#;
        for (text, given, expected) in [
            (dashboard, Given::Beside, (0, 1)),
            ("[1]", Given::Beside, (0, 1)),
            (dashboard, Given::Named, (1, 0)),
            (r#"{"kind": "Topic"}"#, Given::Beside, (1, 0)),
            (r#"{"apiVersion": "v1"}"#, Given::Beside, (1, 0)),
        ] {
            let mut input = Input::default();
            parse_given("a.json", text, given, &mut input);
            assert_eq!((input.documents.len(), input.no_manifests.len()), expected, "{text} {given:?}");
        }
    }

    #[test]
    fn what_kubectl_would_read_another_way_stays_with_its_document_and_its_item() {
        let text = "kind: A\nspec: {arguments: {a: yes}}\n---\nkind: List\nitems: [{kind: B}, {kind: C, spec: {arguments: {b: off}}}]\n";
        let input = parsed(text);
        let counts: Vec<_> = input.documents.iter().map(|one| one.ambiguous.len()).collect();
        assert_eq!(counts, [1, 0, 1]);
        assert!(
            input.documents[2].ambiguous[0].starts_with("spec.arguments.b: "),
            "{:?}",
            input.documents[2]
        );
    }

    #[test]
    fn documents_are_counted_as_a_person_counts_them() {
        let input = parsed("# a comment\n---\nkind: A\n---\n---\nkind: B\n");
        let places: Vec<_> = input.documents.iter().map(|document| document.origin.to_string()).collect();
        assert_eq!(places, ["a.yaml: document 1", "a.yaml: document 3"]);
        assert!(input.wrong.is_empty());
    }

    #[test]
    fn a_list_is_taken_apart() {
        let input = parsed("kind: List\nitems: [{kind: A}, {kind: B}]\n");
        assert_eq!(input.documents[1].origin.to_string(), "a.yaml: document 1, item 2");
        assert_eq!(input.documents[1].value["kind"], "B");
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(parsed("{\"kind\": \"A\"}").documents.len(), 1);
    }

    #[test]
    fn what_comes_before_a_broken_document_is_kept() {
        let input = parsed("kind: A\n---\nkind: [\n---\nkind: C\n");
        assert_eq!(input.documents.len(), 1);
        let wrong = input.wrong[0].to_string();
        assert!(wrong.starts_with("a.yaml: document 2: not YAML: "), "{wrong}");
        assert!(!wrong.contains('\n'));
    }

    #[test]
    fn a_key_that_stands_there_twice_is_wrong() {
        let wrong = parsed("kind: A\nspec: {a: 1, a: 2}\n").wrong;
        assert!(wrong[0].what.contains("duplicate"), "{}", wrong[0]);
    }
}
