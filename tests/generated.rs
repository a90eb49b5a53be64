//! What is generated and committed is what the binary prints today.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use spillway_operator::api;

/// What `spillway` prints for these arguments.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_spillway"))
        .args(arguments)
        .output()
        .expect("the spillway binary starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "spillway {arguments:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The documents of a YAML text.
fn documents(text: &str) -> Vec<serde_json::Value> {
    use serde::Deserialize as _;
    serde_yaml::Deserializer::from_str(text)
        .map(|document| serde_json::Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// The committed CRDs, by file.
fn committed() -> Vec<(String, serde_json::Value)> {
    let mut files: Vec<_> =
        fs::read_dir("crds").expect("crds/").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
        .into_iter()
        .flat_map(|file| {
            let text = fs::read_to_string(&file).expect("a text");
            documents(&text).into_iter().map(move |crd| (file.display().to_string(), crd)).collect::<Vec<_>>()
        })
        .collect()
}

fn name(crd: &serde_json::Value) -> &str {
    crd["metadata"]["name"].as_str().unwrap_or_default()
}

/// The properties that take one of a few words and may be left out, at any depth, with what is said of each.
fn choices(path: &str, schema: &serde_json::Value, found: &mut Vec<(String, String)>) {
    let required = schema["required"].as_array();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let optional = required.is_none_or(|required| !required.iter().any(|one| one == name));
        if optional && property["enum"].is_array() {
            found.push((path.clone(), property["description"].as_str().unwrap_or_default().to_owned()));
        }
        choices(&path, property, found);
        choices(&path, &property["items"], found);
    }
}

#[test]
fn a_choice_is_explained_by_its_fields_own_words_with_what_holds_when_it_is_left_out() {
    let mut found = Vec::new();
    for (_, crd) in committed() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        choices(kind, schema, &mut found);
    }
    assert!(found.len() > 20, "{found:?}");
    found.retain(|(_, said)| !said.contains("efault") && !said.contains("Left out"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_committed_crds_are_what_the_binary_prints() {
    let printed = documents(&printed(&["crds"]));
    let committed = committed();
    let names = |crds: &mut dyn Iterator<Item = &serde_json::Value>| {
        crds.map(|crd| name(crd).to_owned()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&mut printed.iter()), names(&mut committed.iter().map(|(_, crd)| crd)));
    for (file, crd) in &committed {
        let fresh = printed.iter().find(|fresh| name(fresh) == name(crd));
        assert_eq!(fresh, Some(crd), "{file} is out of date: run `make crds`");
    }
    assert_eq!(printed.len(), api::crds().len());
}

#[test]
fn a_crd_is_far_smaller_than_what_kubectl_apply_can_carry() {
    for (file, crd) in committed() {
        // kubectl apply keeps a copy in an annotation, and all annotations together are at most 256 KiB.
        let size = crd.to_string().len();
        assert!(size < 128 * 1024, "{file}: {size} bytes");
    }
}

#[test]
fn kubectl_explain_wraps_a_description_by_the_terminal_and_not_by_the_source() {
    fn broken(value: &serde_json::Value, found: &mut Vec<String>) {
        let said = value["description"].as_str().unwrap_or_default();
        if said.split("\n\n").any(|paragraph| paragraph.contains('\n')) {
            found.push(said.to_owned());
        }
        match value {
            serde_json::Value::Object(of) => of.values().for_each(|value| broken(value, found)),
            serde_json::Value::Array(of) => of.iter().for_each(|value| broken(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (_, crd) in committed() {
        broken(&crd, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_field_of_a_crd_is_described_for_kubectl_explain() {
    fn undescribed(path: &str, schema: &serde_json::Value, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                found.push(path.clone());
            }
            // What a condition is made of, Kubernetes itself describes.
            if name == "conditions" {
                continue;
            }
            undescribed(&path, property, found);
            undescribed(&path, &property["items"], found);
            undescribed(&path, &property["additionalProperties"], found);
        }
    }
    let mut found = Vec::new();
    for (_, crd) in committed() {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
        for part in ["spec", "status"] {
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
            undescribed(&format!("{kind}.{part}"), schema, &mut found);
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_bill_of_materials_names_what_is_linked_and_nothing_twice() {
    let output = Command::new("hack/sbom").output().expect("hack/sbom");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let parts = bill["components"].as_array().expect("components");
    let names: Vec<_> = parts.iter().filter_map(|part| part["name"].as_str()).collect();
    for linked in ["kube", "rdkafka-sys", "lapin", "tikv-jemalloc-sys"] {
        assert!(names.contains(&linked), "{linked} is missing: {names:?}");
    }
    for not_linked in ["proptest", "criterion", "cmake"] {
        assert!(!names.contains(&not_linked), "{not_linked} is not in the binary");
    }
    let references: BTreeSet<_> = parts.iter().filter_map(|part| part["bom-ref"].as_str()).collect();
    assert_eq!(references.len(), parts.len(), "a part is named twice");
    for part in parts {
        assert!(part["version"].is_string() && part["licenses"][0]["expression"].is_string(), "{part}");
    }
}
