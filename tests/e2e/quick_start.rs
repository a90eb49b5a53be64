//! The quick start, typed as it is printed.
//!
//! What differs from the page is what differs between its cluster and the test bed, and nothing else:
//!
//! * the brokers' addresses and RabbitMQ's login are the bed's; what the page does inside of a broker's pod, the bed's own
//!   tools do;
//! * the namespace `shop`, and the virtual host of that name, are the test's own;
//! * pods are on the host's network, as all are on the bed;
//! * the operator is started by the harness, and its Lease is in the test's namespace: the chart's own test installs it.

use std::path::Path;
use std::process::Command;

use serde::Deserialize as _;
use serde_json::Value;

use crate::bed::{ExtraKafka, RabbitAddress, World, bare_world, binary, required, world};
use crate::page::{Step, printed, run, steps};

/// A text of the page as it is for the bed.
fn for_the_bed(w: &World, text: &str, kafka: &str) -> String {
    let bed = RabbitAddress::of_the_bed();
    let mut text = text.to_owned();
    for (from, to) in [
        ("kubectl -n brokers exec deploy/kafka -- /opt/kafka/bin/", ""),
        ("kafka-configs.sh", "kafka-configs"),
        ("kafka-console-consumer.sh", "kafka-console-consumer"),
        ("localhost:9092", kafka),
        ("kafka.brokers.svc:9092", kafka),
        ("kubectl -n brokers exec deploy/rabbitmq -- ", ""),
        ("http://rabbitmq.brokers.svc:15672", &bed.management),
        ("amqp://rabbitmq.brokers.svc:5672", &bed.amqp),
        ("username=quick", &format!("username={}", bed.username)),
        ("password=start", &format!("password={}", bed.password)),
        (" quick '.*'", &format!(" {} '.*'", bed.username)),
        ("spillway-system/spillway", &format!("{}/spillway", w.namespace)),
        ("-n shop", &format!("-n {}", w.namespace)),
        ("vhost shop", &format!("vhost {}", w.namespace)),
        ("vhost: shop", &format!("vhost: {}", w.namespace)),
        ("namespace: shop", &format!("namespace: {}", w.namespace)),
        ("metadata: {name: shop}", &format!("metadata: {{name: {}}}", w.namespace)),
        ("shop/", &format!("{}/", w.namespace)),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// Puts the pods of a file onto the host's network.
fn on_the_host(text: &str) -> String {
    let documents = serde_yaml::Deserializer::from_str(text).map(|document| {
        let mut object = Value::deserialize(document).expect("YAML");
        if let Some(pod) = object.pointer_mut("/spec/template/spec") {
            pod["hostNetwork"] = true.into();
        }
        serde_yaml::to_string(&object).expect("YAML")
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The name that the page gives the shop's image, and loads into the cluster.
fn printed_tag(page: &str) -> &str {
    let tag = page.split_once("hack/image shop --tag ").expect("a build of the shop").1;
    let tag = tag.split_whitespace().next().expect("a name");
    let load = page.lines().find(|line| line.starts_with("$ kind load docker-image ")).expect("a load");
    assert!(load.split(' ').any(|image| image == tag), "{load}: not {tag}");
    tag
}

/// Gives the node the shop's image, as `kind load` does.
fn load_the_shop(folder: &Path, tag: &str) {
    let shop = Path::new(env!("CARGO_BIN_EXE_spillway")).with_file_name("examples/shop");
    let archive = folder.join("shop.tar");
    let shown = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/image");
    let arguments = ["shop", "--prebuilt", &shown(&shop), "--tag", tag, "--out", &shown(&archive)];
    for (program, arguments) in
        [(image, &arguments[..]), (&required("SPILLWAY_TEST_LOAD_IMAGE"), &[shown(&archive).as_str()])]
    {
        let output = Command::new(program).args(arguments).output().expect("it starts");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What comes before the commands that are run: brokers from public registries, and a chart that another test installs.
#[test]
fn the_quick_starts_brokers_and_its_release_are_what_the_api_server_takes() {
    bare_world(async |w| {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/quick-start.md"));
        let page = page.expect("the page");
        let (before, _) = page.split_once("<!-- run: begin -->").expect("a mark");
        let brokers = before.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        let brokers =
            brokers.expect("a block").replace("namespace: brokers", &format!("namespace: {}", w.namespace));
        let release = before.lines().skip_while(|line| !line.starts_with("$ helm install ")).take(2);
        let release =
            release.map(|line| line.trim_start_matches("$ ").trim_end_matches('\\')).collect::<String>();
        assert!(release.contains("--set image."), "{release}");
        let release = release.replace("helm install", "helm template").replace("--create-namespace", "");
        let version = "--kube-version $(kubectl version -o json | jq -r .serverVersion.gitVersion)";
        let release = format!("{} {version}", release.replace("spillway-system", &w.namespace));
        // Both are looked at, and nothing is kept.
        let take = "kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server -f";
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&w.namespace);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("brokers.yaml"), brokers).expect("written");
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/spillway");
        let out = run(&format!("{take} brokers.yaml"), &folder, &binary());
        assert_eq!(out.lines().count(), 5, "{out}");
        let render = release.replace("charts/spillway", chart);
        let out = run(&format!("{render} > release.yaml && {take} release.yaml"), &folder, &binary());
        assert!(out.contains("deployment.apps/spillway serverside-applied"), "{out}");
        let rendered = std::fs::read_to_string(folder.join("release.yaml")).expect("a release");
        assert!(rendered.contains("spillway:quick-start"), "{rendered}");
        let _ = std::fs::remove_dir_all(&folder);
    });
}

#[test]
fn the_quick_start_works_as_it_is_printed() {
    world(async |w| {
        let kafka = ExtraKafka::start().await;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&w.namespace);
        std::fs::create_dir_all(&folder).expect("a folder");
        // Goes with the world; the page makes it.
        w.mq().await;
        run(&format!("rabbitmqctl delete_vhost {}", w.vhost), &folder, &binary());
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/quick-start.md"));
        let page = page.expect("the page");
        load_the_shop(&folder, printed_tag(&page));
        for step in steps(&page) {
            let kafka = kafka.address();
            match step {
                Step::File(name, text) => {
                    let text = on_the_host(&for_the_bed(w, &text, kafka));
                    std::fs::write(folder.join(name), text).expect("written");
                }
                Step::Command(command, expected) => {
                    let command = for_the_bed(w, &command, kafka);
                    let (binary, folder) = (binary(), folder.clone());
                    let typed = command.clone();
                    let typed = tokio::task::spawn_blocking(move || run(&typed, &folder, &binary));
                    let out = typed.await.expect("it works");
                    let expected: Vec<_> = expected.iter().map(|line| for_the_bed(w, line, kafka)).collect();
                    printed(&command, &out, &expected);
                }
            }
        }
        let _ = std::fs::remove_dir_all(&folder);
    });
}
