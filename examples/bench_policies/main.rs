//! What one more policy costs RabbitMQ as a virtual host fills: `docs/rabbitmq.md` quotes its table.
//!
//! Every queue gets a policy of its own, as `applyVia: Policy` does; then single policies are written, and single
//! queues declared, one at a time. `hack/bench-policies` brings up what this needs; numbers of queues are its arguments.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use spillway_operator::brokers::rabbitmq::{
    Policy, QueueDeclaration, RabbitClient, RabbitError, RabbitSettings,
};
use spillway_operator::brokers::settings::Secret;

/// How many queues, each with its policy.
const SIZES: [usize; 3] = [100, 1_000, 5_000];
/// How many of each request are timed: many, or a few where one takes half a minute.
const TIMED: std::ops::RangeInclusive<usize> = 3..=20;
const VHOST: &str = "bench-policies";
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("failed to read SPILLWAY_TEST_RABBITMQ: it is no http://USER:PASSWORD@HOST:PORT")]
    Address,
    #[error(transparent)]
    Rabbitmq(#[from] RabbitError),
    #[error("failed to ask RabbitMQ by HTTP: {0}")]
    Http(#[from] reqwest::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BenchError> {
    let (base, settings) = address().ok_or(BenchError::Address)?;
    let client = RabbitClient::connect(&settings)?.with_timeout(PATIENCE);
    let http = reqwest::Client::new();
    let vhost = || {
        let url = format!("{base}/api/vhosts/{VHOST}");
        (url.clone(), http.put(&url).basic_auth(&settings.username, Some(settings.password.expose())))
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "RabbitMQ {}, {processors} processors; classic queues in one virtual host",
        client.overview().await?.version
    );
    println!("{:>8}  {:>14}  {:>14}  {:>14}", "queues", "policy, ms", "no policy, ms", "listing, ms");
    let mut sizes: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.extend(SIZES);
    }
    for size in sizes {
        let (url, put) = vhost();
        put.json(&json!({})).send().await?.error_for_status()?;
        let measured = measure(&client, size).await;
        match measured {
            Ok([policy, none, listing]) => {
                println!("{size:>8}  {policy:>14.1}  {none:>14.1}  {listing:>14.1}");
            }
            // RabbitMQ's management interface closes a connection that it had nothing to say on for 60 s.
            Err(error) => println!("{size:>8}  no answer: {error}"),
        }
        // RabbitMQ may close the connection before thousands of policies are gone.
        let secret = Some(settings.password.expose());
        let _ = http.delete(&url).basic_auth(&settings.username, secret).send().await;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE
            && http.get(&url).basic_auth(&settings.username, secret).send().await?.status().is_success()
        {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// Milliseconds, medians: a policy written, a queue declared without one, a listing of all queues.
async fn measure(client: &RabbitClient, size: usize) -> Result<[f64; 3], BenchError> {
    let queues: Vec<_> = (0..size)
        .map(|n| json!({"name": format!("q{n}"), "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "classic"}}))
        .collect();
    let policies: Vec<_> = (0..size)
        .map(|n| json!({"name": format!("spillway.q.q{n}"), "pattern": format!("^q{n}$"), "apply-to": "classic_queues", "priority": 100, "definition": {"max-length": 1000}}))
        .collect();
    client.import_definitions(Some(VHOST), &json!({"policies": policies, "queues": queues})).await?;
    let (mut policy, mut none, mut listing) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..(20_000 / size).clamp(*TIMED.start(), *TIMED.end()) {
        let begun = Instant::now();
        let changed = Policy {
            vhost: VHOST.into(),
            name: format!("spillway.q.q{n}"),
            pattern: format!("^q{n}$"),
            apply_to: "classic_queues".into(),
            priority: 100,
            definition: [("max-length".to_owned(), json!(2_000))].into(),
        };
        client.put_policy(&changed).await?;
        policy.push(begun.elapsed());
        let begun = Instant::now();
        let arguments =
            [("x-queue-type".to_owned(), json!("classic")), ("x-max-length".to_owned(), json!(1_000))];
        let queue = QueueDeclaration {
            name: format!("more{n}"),
            durable: true,
            auto_delete: false,
            arguments: arguments.into(),
        };
        client.declare_queue(VHOST, &queue).await?;
        none.push(begun.elapsed());
    }
    for _ in 0..3 {
        let begun = Instant::now();
        client.list_queues(Some(VHOST)).await?;
        listing.push(begun.elapsed());
    }
    Ok([policy, none, listing].map(median))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}

/// The address without credentials, and the client's settings.
fn address() -> Option<(String, RabbitSettings)> {
    let url = std::env::var("SPILLWAY_TEST_RABBITMQ").ok()?;
    let (scheme, rest) = url.split_once("://")?;
    let (credentials, host) = rest.split_once('@')?;
    let (username, password) = credentials.split_once(':')?;
    let base = format!("{scheme}://{host}");
    let settings = RabbitSettings {
        management_url: base.clone(),
        amqp_url: None,
        username: username.to_owned(),
        password: Secret::new(password),
        tls: None,
    };
    Some((base, settings))
}
