//! The chart says what the code says: settings, versions, metrics, alerts and their runbooks.

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory as _;
use serde_json::Value;
use spillway_operator::cli::Cli;
use spillway_operator::runtime::metrics::Metrics;

const CHART: &str = "charts/spillway";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_chart_carries_the_committed_crds() {
    let names = |folder: &str| -> BTreeSet<String> {
        let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    };
    let copies = format!("{CHART}/files/crds");
    assert_eq!(names("crds"), names(&copies));
    for name in names("crds") {
        assert_eq!(read(&format!("crds/{name}")), read(&format!("{copies}/{name}")), "{name}: make generate");
    }
}

#[test]
fn the_chart_has_the_version_of_the_crate() {
    let chart = yaml(&format!("{CHART}/Chart.yaml"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_setting_of_the_operator_reaches_the_pods() {
    let deployment = read(&format!("{CHART}/templates/deployment.yaml"));
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("spillway run");
    let settings: Vec<_> =
        run.get_arguments().chain(command.get_arguments()).filter_map(clap::Arg::get_env).collect();
    assert!(settings.len() >= 8, "{settings:?}");
    for setting in settings {
        let name = format!("{{name: {}, ", setting.to_str().expect("UTF-8"));
        assert!(deployment.contains(&name), "{name}: not in the Deployment");
    }
}

/// The paths of all leaves of values.yaml; what is a map in one line is a leaf.
fn values() -> Vec<(String, bool)> {
    let (mut path, mut commented, mut found) = (Vec::<String>::new(), false, Vec::new());
    for line in read(&format!("{CHART}/values.yaml")).lines() {
        let text = line.trim_start();
        if text.is_empty() {
            commented = false;
        } else if text.starts_with('#') {
            commented = !text.starts_with("# ---");
        } else {
            let (key, value) = text.split_once(':').unwrap_or_else(|| panic!("{line}"));
            path.truncate((line.len() - text.len()) / 2);
            path.push(key.to_owned());
            if !value.is_empty() {
                found.push((path.join("."), commented));
            }
            commented = false;
        }
    }
    found
}

/// The paths of all leaves of the schema: what has no properties of its own, or free ones.
fn schema(path: &str, node: &Value, found: &mut BTreeSet<String>) {
    for (key, property) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        // Kubernetes' own form of resources; the chart passes it on.
        if property.get("properties").is_none() || path == "resources" {
            found.insert(path);
        } else {
            let closed = property["additionalProperties"] == false;
            assert!(closed || path == "global", "{path} takes what it does not know");
            schema(&path, property, found);
        }
    }
}

#[test]
fn every_value_has_a_comment_and_a_type() {
    let values = values();
    let bare: Vec<_> = values.iter().filter(|(_, commented)| !commented).collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
    let root: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    assert_eq!(root["additionalProperties"], false);
    let mut typed = BTreeSet::new();
    schema("", &root, &mut typed);
    assert_eq!(values.into_iter().map(|(path, _)| path).collect::<BTreeSet<_>>(), typed);
}

#[test]
fn only_alerts_that_exist_can_be_left_out() {
    let root: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    let rules = &root["properties"]["metrics"]["properties"]["rules"]["properties"];
    let alerts = yaml(&format!("{CHART}/files/alerts.yaml"));
    let alerts = alerts["groups"].as_array().expect("groups").iter().flat_map(|group| {
        let rules = group["rules"].as_array().expect("rules");
        rules.iter().map(|rule| rule["alert"].clone())
    });
    assert_eq!(rules["disabled"]["items"]["enum"], alerts.collect::<Value>());
}

#[test]
fn no_setting_can_be_given_twice() {
    let refused = read(&format!("{CHART}/templates/_refused.tpl"));
    let list = refused.split("define \"spillway.settings\"").nth(1).expect("the list");
    let list = &list[list.find('[').expect("its begin") + 1..list.find(']').expect("its end")];
    let listed: BTreeSet<_> = list.split(',').map(|name| name.trim().to_owned()).collect();
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("spillway run");
    let arguments = run.get_arguments().chain(command.get_arguments());
    let settings = arguments.filter_map(|argument| {
        let name = argument.get_env()?.to_str().expect("UTF-8").to_owned();
        // The chart makes the flag of it.
        let flag = name.trim_start_matches("SPILLWAY_").replace('_', "-").to_lowercase();
        assert_eq!(argument.get_long(), Some(&*flag), "{name}");
        Some(name)
    });
    assert_eq!(settings.collect::<BTreeSet<_>>(), listed);
}

#[test]
fn the_chart_and_the_page_on_sizing_tell_the_same_memory() {
    let (values, page) = (yaml(&format!("{CHART}/values.yaml")), read("docs/sizing.md"));
    let memory = |which: &str| {
        let quantity = values["resources"][which]["memory"].as_str().expect("a quantity");
        quantity.replace("Mi", " MiB")
    };
    let told = format!("The chart asks for {} and sets a limit of {}", memory("requests"), memory("limits"));
    assert!(page.contains(&told), "{told}");
    let comment = read(&format!("{CHART}/values.yaml"));
    for figure in ["90 MiB", "up to 106 MiB"] {
        assert!(page.contains(figure) && comment.contains(figure), "{figure}");
    }
}

/// Where the schema takes an object of whatever form, or a list of whatever.
fn free(path: &str, node: &Value, found: &mut Vec<String>) {
    let is = |kind: &str| {
        node["type"] == kind || node["type"].as_array().is_some_and(|kinds| kinds.contains(&kind.into()))
    };
    if is("object") && !node["additionalProperties"].is_object() {
        let known = ["properties", "patternProperties"].iter().any(|keys| node[*keys].is_object());
        let closed = node["additionalProperties"] == false && known;
        found.extend((!closed).then(|| path.to_owned()));
    }
    if is("array") && !node["items"].is_object() {
        found.push(path.to_owned());
    }
    for (key, below) in node.as_object().into_iter().flatten() {
        free(&format!("{path}/{key}"), below, found);
    }
    for (place, below) in node.as_array().into_iter().flatten().enumerate() {
        free(&format!("{path}/{place}"), below, found);
    }
}

#[test]
fn no_value_takes_an_object_whose_keys_are_not_known() {
    let mut root: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).expect("JSON");
    // What Helm gives to all charts alike, and objects of any kind.
    for path in ["global", "extraObjects"] {
        root["properties"].as_object_mut().expect("properties").remove(path).expect(path);
    }
    let mut found = Vec::new();
    free("", &root, &mut found);
    assert_eq!(found, [""; 0]);
}

/// The names that begin with `prefix` and go on in lower case.
fn names<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let metrics = Metrics::new();
    let known: BTreeSet<_> = metrics
        .described()
        .iter()
        .flat_map(|metric| match metric.kind {
            "histogram" => ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", metric.name)).to_vec(),
            _ => vec![metric.name.clone()],
        })
        .collect();
    let (mut asked, mut seen) = (BTreeSet::new(), 0);
    for file in ["alerts.yaml", "dashboard.json"] {
        let text = read(&format!("{CHART}/files/{file}"));
        for name in names(&text, "spillway_") {
            assert!(known.contains(name), "{file}: {name} does not exist");
            asked.insert(name.to_owned());
            seen += 1;
        }
    }
    assert!(seen > 20 && asked.len() > 15, "{asked:?}");
}

/// A counter that a scrape shows for the first time may have counted already, which `increase()` does not see: a first loss
/// would be told by nobody.
#[test]
fn the_first_loss_of_a_process_has_a_time_that_the_alert_asks_for() {
    let alerts = read(&format!("{CHART}/files/alerts.yaml"));
    assert!(
        !alerts.contains("increase(spillway")
            && alerts.contains("spillway_objects_last_vanished_timestamp_seconds{")
    );
    let metrics = Metrics::new();
    assert!(!metrics.encode().contains("last_vanished_timestamp_seconds{"));
    metrics.vanished("Topic");
    let served = metrics.encode();
    let told = served.lines().find_map(|line| {
        line.strip_prefix("spillway_objects_last_vanished_timestamp_seconds{kind=\"Topic\"} ")?
            .parse::<f64>()
            .ok()
    });
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!(told.is_some_and(|at| (now - at).abs() < 60.0), "{served}");
}

/// A panel and those within it.
fn panels<'a>(of: &'a Value, found: &mut Vec<&'a Value>) {
    for panel in of["panels"].as_array().into_iter().flatten() {
        found.push(panel);
        panels(panel, found);
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let text = read(&format!("{CHART}/files/dashboard.json"));
    let board: Value = serde_json::from_str(&text).expect("JSON");
    assert!(board["title"].is_string() && board["uid"].is_string(), "{board}");
    assert!(board["schemaVersion"].as_u64().is_some_and(|version| version >= 36), "{board}");
    // One that is imported gets its id from the Grafana that takes it.
    assert!(board.get("id").is_none_or(Value::is_null), "{board}");
    let variables = board["templating"]["list"].as_array().expect("variables");
    let named: BTreeSet<_> =
        variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    let source =
        variables.iter().find(|variable| variable["type"] == "datasource").expect("a data source to choose");
    assert_eq!(source["query"], "prometheus");
    let through = format!("${{{}}}", source["name"].as_str().expect("a name"));
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        assert_eq!(variable["datasource"]["uid"], through.as_str(), "{variable}");
    }
    let mut all = Vec::new();
    panels(&board, &mut all);
    let (mut ids, mut asked) = (BTreeSet::new(), 0);
    let mut places: Vec<(&str, [u64; 4])> = Vec::new();
    for panel in all {
        let title = panel["title"].as_str().unwrap_or_else(|| panic!("a panel without a title: {panel}"));
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is another one's, too");
        let [x, y, w, h] = ["x", "y", "w", "h"]
            .map(|key| panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{title}: {key}")));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title}: it does not fit into the grid");
        for (other, [ox, oy, ow, oh]) in &places {
            let apart = x + w <= *ox || ox + ow <= x || y + h <= *oy || oy + oh <= y;
            assert!(apart, "{title} lies on {other}");
        }
        places.push((title, [x, y, w, h]));
        if panel["type"] == "row" || panel["type"] == "text" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], through.as_str(), "{title}");
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{title} asks for nothing"));
        let references: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str()).collect();
        assert_eq!(references.len(), targets.len(), "{title}: queries need names of their own");
        for target in targets {
            let expr =
                target["expr"].as_str().unwrap_or_else(|| panic!("{title}: a query without an expression"));
            assert!(
                names(expr, "spillway_").next().is_some(),
                "{title}: {expr} asks for no metric of Spillway's"
            );
            for name in expr.split('$').skip(1) {
                let name = name.trim_start_matches('{');
                let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(name.len());
                let own = name.starts_with("__");
                assert!(
                    own || named.contains(&name[..end]),
                    "{title}: no variable is called {}",
                    &name[..end]
                );
            }
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked} queries");
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts = yaml(&format!("{CHART}/files/alerts.yaml"));
    let rules: Vec<_> = alerts["groups"][0]["rules"].as_array().expect("rules").clone();
    let mut linked = BTreeSet::from(["README.md".to_owned()]);
    for rule in &rules {
        let (alert, page) =
            (rule["alert"].as_str().unwrap(), rule["annotations"]["runbook"].as_str().unwrap());
        let file = page.strip_prefix("docs/runbooks/").unwrap_or_else(|| panic!("{alert}: {page}"));
        assert!(read(page).starts_with(&format!("# {alert}\n")), "{page} is not headed {alert}");
        linked.insert(file.to_owned());
    }
    let there: BTreeSet<_> = fs::read_dir("docs/runbooks")
        .expect("docs/runbooks")
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(linked, there);
}
