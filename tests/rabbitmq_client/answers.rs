//! What the client makes of servers that are not RabbitMQ's management interface, or not well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use spillway_operator::brokers::lane::Lane;
use spillway_operator::brokers::rabbitmq::{ErrorKind, Observer};
use tokio::sync::Semaphore;

use crate::support::{client_of, eventually, response, server};

const EMPTY: &str = "[]";

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let target = server(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { response("200 OK", "", EMPTY) }
    })
    .await;
    let location = format!("location: {target}/api/queues\r\n");
    let url = server(move |_| {
        let location = location.clone();
        async move { response("302 Found", &location, "") }
    })
    .await;
    let error = client_of(url).list_queues(None).await.expect_err("it is not followed");
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert_eq!(error.message, "it answered HTTP 302 Found, a redirect, which is not followed");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_answer_of_another_server_is_neither_echoed_nor_taken_for_not_there() {
    for status in ["404 Not Found", "200 OK", "400 Bad Request", "401 Unauthorized", "502 Bad Gateway"] {
        let url = server(async move |_| response(status, "", "<b>internal-secret</b>")).await;
        let client = client_of(url);
        let errors = [
            client.queue("/", "q").await.map(drop).expect_err("it is no queue"),
            client.list_queues(None).await.map(drop).expect_err("it is no list"),
        ];
        for error in errors {
            assert_ne!(error.kind, ErrorKind::NotFound, "{status}: {error}");
            assert!(!format!("{error:?}").contains("internal-secret"), "{status}: {error}");
        }
        if status != "200 OK" {
            client.delete_queue("/", "q", false, false).await.expect_err("nothing was deleted");
        }
    }
    let url =
        server(async |_| response("200 OK", "", r#"[{"name": "internal-secret", "durable": 1}]"#)).await;
    let error = client_of(url).list_exchanges(None).await.expect_err("it is no exchange");
    assert_eq!(error.kind, ErrorKind::Protocol);
    assert!(!error.to_string().contains("internal-secret"), "{error}");
}

#[tokio::test]
async fn a_404_of_a_proxy_in_json_is_no_word_about_a_virtual_host() {
    for body in [r#"{"error":"Object Not Found","reason":"no such route"}"#, r#"{"error":"Not Found"}"#] {
        let url = server(async move |_| response("404 Not Found", "", body)).await;
        let client = client_of(url);
        let errors = [
            client.queue("v", "q").await.map(drop).expect_err("nobody said that there is none"),
            client.exchange("v", "e").await.map(drop).expect_err("nobody said that there is none"),
            client.list_policies(Some("v")).await.map(drop).expect_err("it is no list"),
        ];
        for error in errors {
            assert_ne!(error.kind, ErrorKind::NoVhost, "{error}");
        }
    }
}

#[tokio::test]
async fn a_binding_that_cannot_be_listed_in_one_virtual_host_hides_nothing_in_the_others() {
    let asked = async move |line: String| {
        let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        let exchange = |vhost: &str| {
            format!(
                r#"{{"vhost":"{vhost}","name":"x","type":"topic","durable":true,"auto_delete":false,"internal":false,
                    "arguments":{{}}}}"#
            )
        };
        match path.as_str() {
            "/api/exchanges" => {
                response("200 OK", "", &format!("[{},{}]", exchange("bad"), exchange("good")))
            }
            "/api/bindings/good" => {
                let binding = r#"[{"vhost":"good","source":"x","destination":"q","destination_type":"queue",
                    "routing_key":"k","arguments":{},"properties_key":"k"}]"#;
                response("200 OK", "", binding)
            }
            "/api/bindings/bad/e/x/q/q" => response("200 OK", "", EMPTY),
            bindings if bindings.starts_with("/api/bindings") => {
                response("500 Internal Server Error", "", r#"{"error":"internal_error"}"#)
            }
            _ => response("200 OK", "", EMPTY),
        }
    };
    let client = client_of(server(asked).await);
    let seen = Observer::new(&client).sweep(Lane::User).await.expect("what can be listed");
    assert_eq!(seen.unlisted.keys().collect::<Vec<_>>(), ["bad"]);
    assert_eq!(seen.bindings.iter().map(|binding| binding.vhost.as_str()).collect::<Vec<_>>(), ["good"]);

    let none = client_of(server(async |_| response("500 Internal Server Error", "", EMPTY)).await);
    Observer::new(&none).sweep(Lane::User).await.expect_err("nothing can be listed");
}

#[tokio::test]
async fn an_error_of_rabbitmqs_own_or_of_a_proxy_before_it_is_retried() {
    for status in ["500 Internal Server Error", "503 Service Unavailable", "504 Gateway Timeout"] {
        let url = server(async move |_| response(status, "", "")).await;
        let error = client_of(url).queue("/", "q").await.expect_err("it is unwell");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.is_retriable() && !error.is_unreachable());
        assert_eq!(error.message, format!("it answered HTTP {status}"));
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut() {
    let url = server(async |_| {
        let body = "x".repeat(65 << 20);
        response("200 OK", "", &body)
    })
    .await;
    let error = client_of(url).list_queues(None).await.expect_err("it is too large");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Protocol, "the answer is larger than 64 MiB")
    );
}

#[tokio::test]
async fn at_most_sixteen_requests_are_under_way_and_a_user_does_not_wait_for_a_resync() {
    let (now, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, opened) = (Arc::clone(&now), Arc::clone(&gate));
    let url = server(move |line| {
        let (counted, opened) = (Arc::clone(&counted), Arc::clone(&opened));
        async move {
            if line.contains("exchanges") {
                return response("200 OK", "", EMPTY);
            }
            counted.fetch_add(1, Ordering::Relaxed);
            opened.acquire().await.expect("it is never closed").forget();
            response("200 OK", "", EMPTY)
        }
    })
    .await;
    let client = client_of(url);
    let ask = |lane: Lane| {
        let client = client.on(lane);
        tokio::spawn(async move { client.list_queues(None).await })
    };
    let mut waiting: Vec<_> = (0..30).map(|_| ask(Lane::Resync)).collect();
    let under_way = async |expected: u32| {
        eventually("requests arrive", async || (now.load(Ordering::Relaxed) == expected).then_some(())).await;
    };
    under_way(12).await;
    client.list_exchanges(None).await.expect("places are kept for users");
    waiting.extend((0..30).map(|_| ask(Lane::User)));
    under_way(16).await;
    let full = client.with_timeout(Duration::from_secs(1));
    let late = tokio::time::timeout(Duration::from_millis(100), full.list_exchanges(None)).await;
    assert!(late.is_err(), "there is no place left");
    gate.add_permits(60);
    for call in waiting {
        call.await.expect("it does not panic").expect("it has its turn");
    }
    assert_eq!(client.requests_sent(), 61);
}
