//! A world whose operator reaches everything through proxies.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::{Cut, HttpProxy, KafkaProxy};
use crate::bed::operator::{Operator, Start};
use crate::bed::{World, env};

/// A world, and the proxies that its operators use.
pub struct Site<'a> {
    pub w: &'a World,
    pub cut: Arc<Cut>,
    pub api: HttpProxy,
    pub kafka: KafkaProxy,
    pub rabbitmq: HttpProxy,
    kubeconfig: PathBuf,
}

impl<'a> Site<'a> {
    /// The proxies; no operator yet.
    pub async fn new(w: &'a World) -> Self {
        let cut = Cut::new();
        let api = HttpProxy::kubernetes(w.client.clone(), &cut).await;
        let kafka = KafkaProxy::start(&env::kafka(), &cut).await;
        let management = env::RabbitAddress::of_the_bed().management;
        let rabbitmq = HttpProxy::rabbitmq(management.trim_start_matches("http://"), &cut).await;
        let kubeconfig =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.kubeconfig", w.namespace));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "cut",
            "clusters": [{"name": "cut", "cluster": {"server": api.url()}}],
            "users": [{"name": "cut", "user": {}}],
            "contexts": [{"name": "cut", "context": {"cluster": "cut", "user": "cut"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("a kubeconfig");
        Self { w, cut, api, kafka, rabbitmq, kubeconfig }
    }

    /// Starts one more operator behind the proxies.
    pub async fn start(&self) -> Arc<Operator> {
        self.start_with(&[]).await
    }

    /// [`Site::start`], with more arguments.
    pub async fn start_with(&self, arguments: &[&str]) -> Arc<Operator> {
        let start = Start {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: vec![("KUBECONFIG".into(), self.kubeconfig.display().to_string())],
        };
        self.w.start_operator_as(&start).await
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}
