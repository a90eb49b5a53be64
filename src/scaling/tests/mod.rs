//! Behaviour, told as sentences. `world` is a hand-moved group: tests say what happens each second.

mod bad_pods;
mod gaps;
mod guards;
mod held;
mod kept;
mod learned;
mod limits;
mod offsets;
mod properties;
mod queue;
mod queue_properties;
mod reaction;
mod sequences;
mod ways_out;
mod world;

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn decisions_name_no_client_no_clock_and_no_runtime() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scaling"), &mut files);
    files.retain(|f| !f.components().any(|c| c.as_os_str() == "tests"));
    assert!(files.len() > 20);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for name in [
            "std::time",
            "tokio",
            "rdkafka",
            "lapin",
            "reqwest",
            "kube::",
            "rand::",
            "Instant::",
            "Zoned::",
            "async ",
        ] {
            assert!(!text.contains(name), "{} names {name}", file.display());
        }
    }
}
