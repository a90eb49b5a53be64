//! What goes wrong before anything is done is one line; what is printed for programs is theirs to read.

use std::process::Command;

use clap::CommandFactory as _;
use serde_json::Value;
use spillway_operator::cli::Cli;

use crate::bed::{
    Folder, Said, Topics, kafka_at, kafka_broker, on, on_a_terminal, rabbitmq_at, spillway, spillway_with,
    topic, unique,
};

/// Asserts an error of one line on standard error, nothing on standard output, and no backtrace.
#[track_caller]
fn one_line(said: &Said, expected: &str) {
    assert_eq!(said.code, 1, "{}", said.all());
    assert_eq!((said.out.as_str(), said.err.lines().count()), ("", 1), "{}", said.all());
    assert!(said.err.starts_with("spillway: ") && said.err.contains(expected), "{}", said.all());
    assert!(!said.err.contains("backtrace"), "{}", said.all());
}

const BACKTRACE: (&str, &str) = ("RUST_BACKTRACE", "1");

#[test]
fn a_wrong_flag_is_one_line_that_says_what_and_where() {
    for (arguments, expected) in [
        (
            &["plan", "--no-such-flag"][..],
            "plan: unexpected argument '--no-such-flag' found (see spillway plan --help)",
        ),
        (&["plan"], "plan: the following required arguments were not provided: --filename <PATH>"),
        (&["status", "-o", "xml"], "status: invalid value 'xml' for '--output <FORMAT>'"),
        (&["status", "--lease", "x"], "--lease-namespace <NAMESPACE>"),
        (&["dlq", "show", "orders"], "dlq show: invalid value 'orders'"),
        (&["explain", "topic/orders"], "explain: invalid value 'topic/orders'"),
        (&["run", "--lease-seconds", "1"], "run: invalid value '1' for '--lease-seconds <SECONDS>'"),
        (
            &["status", "--log", "warning"],
            "status: invalid value 'warning' for '--log <FILTER>': \"warning\" is no level",
        ),
        (&["run", "--watch-namespace", ""], "the name of a namespace is empty"),
        (
            &["run", "--watch-namespace", "Shop"],
            "run: invalid value 'Shop' for '--watch-namespace <NAMESPACE>'",
        ),
        (&["release", "--all", "-n", ""], "release: invalid value '' for '--namespace <NAMESPACE>'"),
        (
            &["run", "--http-address", "nowhere"],
            "run: invalid value 'nowhere' for '--http-address <ADDRESS>'",
        ),
        (&["simulate", "no such workload"], "no workload's name contains"),
        (&["stauts"], "a similar subcommand exists: 'status'"),
        (&["apply", "-f", "x", "-o", "json"], "use --yes"),
        (&["plan", "-f", "/no/such/folder"], "failed to read /no/such/folder: "),
    ] {
        one_line(&spillway_with(arguments, &[BACKTRACE], None), expected);
    }
}

#[test]
fn a_kubeconfig_or_an_api_server_that_is_not_there_is_one_line() {
    let folder = Folder::new();
    folder.write("broken", "clusters: [");
    let server = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {token: t}}]\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n";
    folder.write("away", server);
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    for verb in [
        &["status"][..],
        &["lag"],
        &["explain", "consumer/orders"],
        &["dlq", "ls"],
        &["dlq", "show", "topic/orders"],
        &["release", "--all", "--yes"],
    ] {
        for (file, expected) in [
            ("/no/such/file", "failed to find a Kubernetes API server"),
            (&path("broken"), "failed to find a Kubernetes API server"),
            (&path("away"), "the API server does not answer"),
        ] {
            let variables = [("KUBECONFIG", file), ("KUBERNETES_SERVICE_HOST", ""), BACKTRACE];
            one_line(&spillway_with(verb, &variables, None), expected);
        }
    }
    let variables = [("KUBECONFIG", "/no/such/file"), ("KUBERNETES_SERVICE_HOST", ""), BACKTRACE];
    let said = spillway_with(&["run", "--http-address", "127.0.0.1:0"], &variables, None);
    one_line(&said, "failed to find a Kubernetes API server");
}

/// Two ways in which a kubeconfig can be wrong around a credential: no YAML any more, and another type.
const PLANTED: [(&str, &str, &str); 2] = [
    (
        "torn",
        "apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    password: PLANTED-PW-123\n   token: PLANTED-TOKEN-123\n",
        "torn: line 7, column 4: it is not YAML",
    ),
    (
        "typed",
        "apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user: {token: [PLANTED-TOKEN-123]}\n",
        "typed: line 5, column 17: ",
    ),
];

#[test]
fn a_kubeconfig_that_cannot_be_read_is_told_without_the_credentials_in_it() {
    let folder = Folder::new();
    for (file, text, expected) in PLANTED {
        folder.write(file, text);
        let path = folder.path().join(file).to_str().expect("UTF-8").to_owned();
        let variables = [("KUBECONFIG", path.as_str()), ("KUBERNETES_SERVICE_HOST", ""), BACKTRACE];
        let run = ["run", "--http-address", "127.0.0.1:0"];
        for verb in [
            &["status"][..],
            &["lag"],
            &["explain", "consumer/orders"],
            &["dlq", "ls"],
            &["dlq", "show", "topic/orders"],
            &["release", "--all", "--yes"],
            &run,
        ] {
            let said = spillway_with(verb, &variables, None);
            one_line(&said, expected);
            assert!(!said.all().contains("PLANTED"), "{}", said.all());
            let chosen = [&["--kubeconfig", &path], verb].concat();
            let said = spillway_with(&chosen, &[("KUBECONFIG", "/no/such/file"), BACKTRACE], None);
            one_line(&said, expected);
            assert!(!said.all().contains("PLANTED"), "{}", said.all());
        }
        let said = spillway_with(&[&run[..], &["--log-format", "json"]].concat(), &variables, None);
        let line: Value = serde_json::from_str(&said.err).expect("JSON");
        assert!(line["error"].as_str().is_some_and(|error| error.contains(expected)), "{line}");
        assert!(!said.all().contains("PLANTED"), "{}", said.all());
    }
}

#[test]
fn what_an_exec_plugin_printed_is_not_repeated_where_it_is_of_no_use() {
    let folder = Folder::new();
    for (file, script, expected) in [
        (
            "failing",
            "echo PLANTED-TOKEN-123; echo PLANTED-TOKEN-123 >&2; exit 3",
            "exec plugin failed: exit status: 3",
        ),
        ("torn", "echo '{PLANTED-TOKEN-123: ['", "exec plugin printed: line "),
        (
            "typed",
            "echo '{\"kind\": \"ExecCredential\", \"status\": {\"token\": [\"PLANTED-TOKEN-123\"]}}'",
            "exec plugin printed: line ",
        ),
    ] {
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "a", "user": {"exec": {
                "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                "command": "/bin/sh", "args": ["-c", script],
            }}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        });
        folder.write(file, &kubeconfig.to_string());
        let path = folder.path().join(file).to_str().expect("UTF-8").to_owned();
        for verb in [&["status"][..], &["run", "--http-address", "127.0.0.1:0", "--log", "off"]] {
            let said = spillway_with(&[verb, &["--kubeconfig", &path]].concat(), &[BACKTRACE], None);
            one_line(&said, expected);
            assert!(!said.all().contains("PLANTED"), "{}", said.all());
        }
    }
}

#[test]
fn a_kubeconfig_is_of_no_use_to_verbs_that_ask_no_api_server() {
    for verb in [&["plan", "-f", "x"][..], &["import", "--broker", "x"], &["crds"], &["completion", "bash"]] {
        let said = spillway(&[&["--context", "a"], verb].concat());
        one_line(&said, &format!("{}: --context is of no use: it asks no API server", verb[0]));
        let said = spillway(&[verb, &["--kubeconfig", "a"]].concat());
        one_line(&said, &format!("{}: --kubeconfig is of no use", verb[0]));
    }
}

#[test]
fn what_cannot_be_printed_is_an_error_of_crds_and_a_reader_who_has_enough_is_none() {
    let binary = env!("CARGO_BIN_EXE_spillway");
    let ran = |script: &str| {
        let output = Command::new("bash").args(["-c", script]).output().expect("bash");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = ran(&format!("{binary} crds >/dev/full"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("spillway: failed to write to standard output: "), "{said}");
    let (code, said) = ran(&format!("set -o pipefail; {binary} crds | head -1 >/dev/null"));
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn who_collects_json_gets_the_error_that_ends_the_operator_as_json() {
    let variables = [("KUBECONFIG", "/no/such/file"), ("KUBERNETES_SERVICE_HOST", ""), BACKTRACE];
    let run = ["run", "--http-address", "127.0.0.1:0", "--log-format", "json"];
    let said = spillway_with(&run, &variables, None);
    let line: Value =
        serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {}", said.all()));
    assert_eq!((said.code, &line["level"], &line["message"]), (1, &"ERROR".into(), &"ended".into()));
    let error = line["error"].as_str().expect("words");
    assert!(error.starts_with("failed to find a Kubernetes API server"), "{error}");
    // Nobody is left without a word.
    let said = spillway_with(&[&run[..], &["--log", "off"]].concat(), &variables, None);
    one_line(&said, "failed to find a Kubernetes API server");
}

/// Asserts an error, told in lines of its own on standard error, without a panic or a backtrace.
#[track_caller]
fn in_lines(said: &Said, expected: &str) {
    assert_eq!(said.code, 1, "{}", said.all());
    assert!(said.out.contains(expected) || said.err.contains(expected), "no {expected:?} in {}", said.all());
    assert!(said.err.lines().all(|line| line.starts_with("spillway: ")), "{}", said.all());
    assert!(!said.all().contains("panicked") && !said.all().contains("backtrace"), "{}", said.all());
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_every_verb_that_reads_one() {
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    folder.write("torn", "kind: [");
    folder.write("stranger", "just: text");
    folder.write("typo", &(kafka_broker("kafka", "") + &topic(&unique("typo"), "partitons: 3")));
    folder.write("empty/none", "");
    std::fs::write(folder.path().join("bytes"), [0xff, 0xfe, 0x00]).expect("written");
    let (missing, torn, stranger) = (path("no-such-file"), path("torn"), path("stranger"));
    let (typo, empty, bytes) = (path("typo"), path("empty"), path("bytes"));
    let unread = format!("failed to read {missing}: No such file or directory");
    let not_text = format!("failed to read {bytes}: ");
    for verb in [&["plan", "-f"][..], &["apply", "--yes", "-f"], &["import", "--broker", "kafka", "-f"]] {
        let with = |file: &str| spillway_with(&[verb, &[file]].concat(), &[BACKTRACE], None);
        one_line(&with(&missing), &unread);
        one_line(&with(&bytes), &not_text);
        in_lines(&with(&torn), &format!("{torn}: document 1: not YAML: "));
        in_lines(&with(&stranger), &format!("{stranger}: document 1: kind: is required"));
        if verb[0] != "import" {
            in_lines(&with(&typo), "spec.partitons: unknown field; did you mean partitions?");
            one_line(&with(&empty), &format!("no document in {empty}"));
        }
    }
    for (arguments, expected) in [
        (&["import", "--broker", &missing][..], "no such file, and no Broker of this name in the input"),
        (&["import", "--broker", &bytes], &not_text),
        (&["import", "--broker", &empty], "failed to find Broker "),
        (&["simulate", "--trace", &missing], "No such file or directory"),
        (&["simulate", "--trace", &bytes], "stream did not contain valid UTF-8"),
        (&["simulate", "--trace", &stranger], &stranger),
        (&["crds", "--out", "/dev/null/crds"], "/dev/null/crds"),
    ] {
        one_line(&spillway_with(arguments, &[BACKTRACE], None), expected);
    }
    // A line that is none is answered, and the next one counts again.
    let said = spillway_with(&["replay"], &[BACKTRACE], Some("{\n[]\n")).exits(0);
    assert_eq!((said.out.matches("\"error\"").count(), said.err.as_str()), (2, ""), "{}", said.all());
}

#[test]
fn a_broker_that_is_away_is_told_in_lines_by_every_verb_that_asks_one() {
    let (kafka, rabbitmq) = (Folder::new(), rabbitmq_at("http://127.0.0.1:9"));
    kafka.write("broker.yaml", &(kafka_at("127.0.0.1:9", "kafka", "") + &topic(&unique("orphan"), "")));
    for (folder, name) in [(&kafka, "kafka"), (&rabbitmq, "rabbitmq")] {
        let path = folder.path().to_str().expect("UTF-8");
        let away = format!("Broker default/{name}: failed to ");
        one_line(&spillway_with(&["import", "--broker", name, "-f", path], &[BACKTRACE], None), &away);
        in_lines(&spillway_with(&["plan", "-f", path], &[BACKTRACE], None), &away);
        in_lines(&spillway_with(&["apply", "--yes", "-f", path], &[BACKTRACE], None), &away);
    }
}

#[test]
fn every_verb_ends_with_1_and_one_line_where_its_arguments_are_wrong() {
    fn walk(command: &clap::Command, path: &[&str], count: &mut usize) {
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        for verb in verbs {
            let path = [path, &[verb.get_name()]].concat();
            if verb.has_subcommands() {
                walk(verb, &path, count);
            } else {
                let said = spillway_with(&[&path[..], &["--no-such-flag"]].concat(), &[BACKTRACE], None);
                let words = path.join(" ");
                one_line(&said, &format!("{words}: unexpected argument '--no-such-flag' found"));
                assert!(said.err.contains(&format!("(see spillway {words} --help)")), "{}", said.all());
                *count += 1;
            }
        }
    }
    let mut count = 0;
    walk(&Cli::command(), &[], &mut count);
    assert!(count >= 14, "{count} verbs");
}

#[test]
fn every_verb_has_examples_in_its_help() {
    fn walk(command: &clap::Command, path: &[&str]) {
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        for verb in verbs {
            let path = [path, &[verb.get_name()]].concat();
            if verb.has_subcommands() {
                walk(verb, &path);
            } else {
                spillway(&[&path[..], &["--help"]].concat()).exits(0).says("Examples:\n");
            }
        }
    }
    walk(&Cli::command(), &[]);
}

/// clap wraps at the width of the terminal, at 100 at most: what was wrapped by hand before would leave stumps.
#[test]
fn help_is_not_wrapped_twice() {
    fn walk(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter(|line| !line.is_empty()) {
            let whole =
                if line.starts_with("  ") { line.chars().count() <= 80 } else { line.ends_with(['.', ':']) };
            assert!(whole, "{}: {line}", command.get_name());
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

/// What is printed by the verbs that have no table: a script, a protocol of lines, definitions for `kubectl`; and a process.
const NO_TABLE: [&str; 4] = ["completion", "crds", "replay", "run"];

#[test]
fn every_verb_that_shows_something_takes_the_same_formats() {
    fn walk<'a>(command: &'a clap::Command, path: &str, found: &mut Vec<(String, &'a clap::Command)>) {
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        for verb in verbs {
            let path = format!("{path} {}", verb.get_name()).trim().to_owned();
            if verb.has_subcommands() {
                walk(verb, &path, found);
            } else {
                found.push((path, verb));
            }
        }
    }
    let command = Cli::command();
    let mut verbs = Vec::new();
    walk(&command, "", &mut verbs);
    let mut without = Vec::new();
    for (verb, command) in verbs {
        let Some(output) = command.get_arguments().find(|argument| argument.get_id() == "output") else {
            without.push(verb);
            continue;
        };
        let formats: Vec<_> = output.get_possible_values();
        let formats: Vec<_> = formats.iter().map(clap::builder::PossibleValue::get_name).collect();
        assert_eq!(formats, ["table", "wide", "json", "yaml"], "{verb}");
        assert_eq!((output.get_short(), output.get_long()), (Some('o'), Some("output")), "{verb}");
    }
    without.sort();
    assert_eq!(without, NO_TABLE);
}

#[test]
fn help_says_what_paused_and_observed_objects_are_to_an_exit_code() {
    for verb in ["plan", "apply"] {
        let help = spillway(&[verb, "--help"]).exits(0).out;
        let said = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("What is paused") && said.contains("only observed"), "{help}");
        assert!(!help.contains("0 in step") && !help.contains("0 all is in step"), "{help}");
    }
}

#[test]
fn a_simulation_is_the_same_in_all_formats() {
    let asked = |more: &[&str]| {
        let said = spillway(&[&["simulate", "constant P=1 ", "--seeds", "1"][..], more].concat()).exits(0);
        said.out
    };
    let json: Value = serde_json::from_str(&asked(&["-o", "json"])).expect("JSON");
    let yaml: Value = serde_yaml::from_str(&asked(&["-o", "yaml"])).expect("YAML");
    assert_eq!(json, yaml);
    let rows = json.as_array().expect("rows");
    let lines = asked(&["--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows, &lines);
    let (table, wide) = (asked(&[]), asked(&["-o", "wide"]));
    let points =
        rows.iter().filter(|row| row["keda"]["best"] == false && row["keda"]["forAll"] == false).count();
    assert_eq!(wide.lines().count(), table.lines().count() + points, "{wide}");
    let refused = spillway(&["simulate", "--json", "-o", "yaml"]).exits(1);
    assert!(refused.err.contains("cannot be used with"), "{}", refused.all());
}

#[test]
fn a_plan_for_programs_is_the_same_in_json_and_yaml() {
    let (name, fine) = (unique("formats"), unique("fine"));
    let _gone = Topics(vec![name.clone(), fine.clone()]);
    let folder = Folder::with_kafka();
    folder.write("fine.yaml", &topic(&fine, "partitions: 1"));
    on("apply", &folder, &["--yes"]).exits(0);
    folder.write("new.yaml", &topic(&name, "partitions: 1"));
    let json: Value = serde_json::from_str(&on("plan", &folder, &["-o", "json"]).exits(2).out).expect("JSON");
    let yaml: Value = serde_yaml::from_str(&on("plan", &folder, &["-o", "yaml"]).exits(2).out).expect("YAML");
    assert_eq!(json, yaml);
    assert_eq!(json["objects"][1]["action"], "create", "{json}");
    // What is in step stands in the wide table only.
    assert!(!on("plan", &folder, &[]).exits(2).out.contains(&fine));
    assert!(on("plan", &folder, &["-o", "wide"]).exits(2).out.contains(&fine));
}

#[test]
fn an_apply_for_programs_says_what_became_of_each_object() {
    let (good, bad) = (unique("good"), unique("bad"));
    let _gone = Topics(vec![good.clone(), bad.clone()]);
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &(topic(&good, "partitions: 1") + &topic(&bad, "config: {retention.ms: soon}")));
    let said = on("apply", &folder, &["--yes", "-o", "yaml"]).exits(1);
    let report: Value =
        serde_yaml::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all()));
    let objects = report["objects"].as_array().expect("objects");
    let of = |name: &str| objects.iter().find(|object| object["name"] == name).expect("it is listed");
    assert_eq!((&of(&good)["action"], &of(&good)["applied"]), (&"create".into(), &true.into()), "{report}");
    assert_eq!(of(&bad)["error"]["reason"], "BrokerRefused", "{report}");
    let again = on("apply", &folder, &["--yes", "-o", "json"]).exits(1);
    let again: Value = serde_json::from_str(&again.out).expect("JSON");
    assert!(again["objects"][0].get("applied").is_none(), "{again}");
}

#[test]
fn colours_are_for_a_terminal_that_wants_them() {
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &topic(&unique("coloured"), ""));
    let shown = |no_color: &str| {
        let path = folder.path().to_str().expect("UTF-8");
        on_a_terminal(&["plan", "-f", path], &[("NO_COLOR", no_color)], "").exits(2).out
    };
    let coloured = shown("");
    assert!(coloured.contains("\u{1b}[32mcreate\u{1b}[0m"), "{coloured:?}");
    let plain = shown("1");
    assert!(plain.contains("create") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn a_completion_knows_every_verb_and_is_a_script_that_its_shell_takes() {
    for shell in ["bash", "zsh", "fish"] {
        let script = spillway(&["completion", shell]).exits(0).out;
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
        }
        for option in ["lease-namespace", "kubeconfig", "context"] {
            assert!(script.contains(option), "{shell}: {option}");
        }
    }
    let script = spillway(&["completion", "bash"]).exits(0).out;
    let words =
        "COMP_WORDS=(spillway sta); COMP_CWORD=1; _spillway spillway sta spillway; echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash").args(["-c", &format!("{script}\n{words}")]).output().expect("bash");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "status");
}

#[test]
fn kubectl_is_told_what_may_follow_its_plugin() {
    let folder = Folder::new();
    let plugin = folder.path().join("kubectl-spillway");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_spillway"), plugin).expect("a link");
    let script = spillway(&["completion", "kubectl"]).exits(0).out;
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    for (words, answer) in
        [(&["sta"][..], "status\n:4\n"), (&["dlq", "s"], "show\n:4\n"), (&["lag", "-o", "w"], "wide\n:4\n")]
    {
        let arguments = [&["-c", script.as_str(), "kubectl_complete-spillway"], words].concat();
        let output = Command::new("bash").args(arguments).env("PATH", &path).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&output.stdout), answer, "{words:?}");
    }
}
