//! Who wrote what to the API server: its audit log.

use std::io::{Read as _, Seek as _, SeekFrom};

use serde_json::Value;

use super::env::required;

/// The audit log from the moment that this value was made.
pub struct Audit {
    path: String,
    from: u64,
}

impl Audit {
    /// Begins to listen.
    pub fn begin() -> Self {
        let path = required("SPILLWAY_TEST_AUDIT_LOG");
        let from = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}")).len();
        Self { path, from }
    }

    /// The writes since then into `namespace` by clients whose user agent begins with `agent`, as
    /// `verb resource/name`.
    pub fn writes(&self, namespace: &str, agent: &str) -> Vec<String> {
        let events = self.events(namespace, agent).into_iter();
        let words = events.map(|event| {
            let object = &event["objectRef"];
            let resource = match object["subresource"].as_str() {
                Some(sub) => format!("{}/{sub}", part(&object["resource"])),
                None => part(&object["resource"]),
            };
            format!("{} {resource} {}", part(&event["verb"]), part(&object["name"]))
        });
        words.collect()
    }

    /// The objects of this resource that they made there since then, a name for each time.
    pub fn creations(&self, namespace: &str, agent: &str, resource: &str) -> Vec<String> {
        let events = self.events(namespace, agent).into_iter();
        let created = events.filter(|event| {
            event["responseStatus"]["code"] == 201 && event["objectRef"]["resource"] == resource
        });
        created.map(|event| part(&event["objectRef"]["name"])).collect()
    }

    fn events(&self, namespace: &str, agent: &str) -> Vec<Value> {
        let mut file = std::fs::File::open(&self.path).expect("the audit log");
        file.seek(SeekFrom::Start(self.from)).expect("the audit log has grown");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("the audit log is text");
        // The last line may be half written.
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|event| event["objectRef"]["namespace"] == namespace)
            .filter(|event| event["userAgent"].as_str().is_some_and(|sent| sent.starts_with(agent)))
            .collect()
    }
}

fn part(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
