//! Leader election between candidates of one process, on a real API server.
//!
//! `KUBECONFIG` names the cluster. Every test makes a Lease of its own and deletes it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Config};
use serde_json::json;
use spillway_operator::runtime::aside::Aside;
use spillway_operator::runtime::lease::{Fenced, Leadership, LeaseError, LeaseSettings, acquire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Short, so that tests are; the fence closes after four fifths of it.
const DURATION: Duration = Duration::from_secs(5);
/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_millis(300);

struct Arena {
    client: Client,
    name: String,
}

impl Arena {
    async fn new(test: &str) -> Self {
        let client = Client::try_default().await.unwrap_or_else(|error| {
            panic!("no cluster ({error}): run `make test`, or `eval \"$(hack/testbed env)\"` after `hack/testbed up`")
        });
        let name = format!("spillway-test-{test}-{}", std::process::id());
        let arena = Self { client, name };
        arena.delete().await;
        arena
    }

    fn settings(&self, identity: &str) -> LeaseSettings {
        LeaseSettings { duration: DURATION, ..LeaseSettings::new("default", &self.name, identity) }
    }

    async fn lead(&self, identity: &str) -> Leadership {
        acquire(self.client.clone(), self.settings(identity)).await.unwrap()
    }

    /// A candidate in the background: its leadership, and when it was won.
    fn stand_by(&self, identity: &str) -> JoinHandle<(Leadership, Instant)> {
        let acquire = acquire(self.client.clone(), self.settings(identity));
        tokio::spawn(async move {
            let leadership = acquire.await.unwrap();
            (leadership, Instant::now())
        })
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn spec(&self) -> LeaseSpec {
        self.api().get(&self.name).await.unwrap().spec.unwrap()
    }

    async fn delete(&self) {
        let _ = self.api().delete(&self.name, &DeleteParams::default()).await;
    }

    async fn end(self, leadership: Leadership) {
        leadership.release().await;
        self.delete().await;
    }
}

/// Ends a candidate, and waits until it can no longer write.
async fn gone<T>(candidate: JoinHandle<T>) {
    candidate.abort();
    let _ = candidate.await;
}

/// Lets a candidate that was just spawned begin to watch: nothing tells when it has.
async fn let_it_watch() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn a_released_lease_is_taken_at_once() {
    let arena = Arena::new("release").await;
    let first = arena.lead("first").await;
    let second = arena.stand_by("second");
    let_it_watch().await;
    assert!(!second.is_finished(), "two leaders");

    let (fence, lost) = (first.fence.clone(), first.lost.clone());
    let released = Instant::now();
    first.release().await;
    assert_eq!(fence.check(), Err(Fenced));
    assert!(lost.is_cancelled());

    let (second, won) = second.await.unwrap();
    println!("taken {:?} after the release began", won - released);
    assert!(won - released < SOON, "{:?}", won - released);
    assert_eq!(second.fence.check(), Ok(()));
    let spec = arena.spec().await;
    assert_eq!(spec.holder_identity.as_deref(), Some("second"));
    assert_eq!(spec.lease_transitions, Some(1));
    assert_eq!(spec.lease_duration_seconds, Some(5));
    assert_eq!(spec.acquire_time, spec.renew_time);
    arena.end(second).await;
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_fenced_before_another_takes_over() {
    let arena = Arena::new("silent").await;
    let first = arena.lead("first").await;
    let second = arena.stand_by("second");
    let_it_watch().await;

    let fence = first.fence.clone();
    drop(first);
    let silent = Instant::now();
    let closed = loop {
        assert!(!second.is_finished(), "taken over while the old leader's fence was open");
        if fence.check().is_err() {
            break Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let (second, won) = second.await.unwrap();
    println!("fence closed {:?} before the takeover", won - closed);
    assert!(won - closed >= DURATION / 6, "{:?}", won - closed);
    assert!(won - silent <= DURATION + SOON, "{:?}", won - silent);
    arena.end(second).await;
}

#[tokio::test]
async fn a_leader_renews_and_keeps_its_lease_against_a_candidate() {
    let arena = Arena::new("renew").await;
    let first = arena.lead("first").await;
    let before = arena.spec().await;
    let second = arena.stand_by("second");

    tokio::time::sleep(DURATION * 2).await;
    assert_eq!(first.fence.check(), Ok(()));
    assert!(!first.lost.is_cancelled() && !second.is_finished());
    let after = arena.spec().await;
    assert!(after.renew_time > before.renew_time);
    assert_eq!(after.acquire_time, before.acquire_time);
    gone(second).await;
    arena.end(first).await;
}

#[tokio::test]
async fn a_leader_whose_lease_another_holds_is_lost_at_its_next_renewal() {
    let arena = Arena::new("robbed").await;
    let first = arena.lead("first").await;
    let robbed = json!({"spec": {"holderIdentity": "robber"}});
    let patch = Patch::Merge(&robbed);
    arena.api().patch(&arena.name, &PatchParams::default(), &patch).await.unwrap();

    let limit = DURATION / 3 + SOON;
    tokio::time::timeout(limit, first.lost.cancelled()).await.expect("lost by now");
    assert_eq!(first.fence.check(), Err(Fenced));
    assert_eq!(arena.spec().await.holder_identity.as_deref(), Some("robber"), "not taken back");
    drop(first);
    arena.delete().await;
}

#[tokio::test]
async fn a_label_on_the_lease_does_not_unseat_the_leader() {
    let arena = Arena::new("label").await;
    let first = arena.lead("first").await;
    let labelled = json!({"metadata": {"labels": {"seen": "yes"}}});
    let patch = Patch::Merge(&labelled);
    arena.api().patch(&arena.name, &PatchParams::default(), &patch).await.unwrap();

    tokio::time::sleep(DURATION * 3 / 2).await;
    assert!(!first.lost.is_cancelled());
    assert_eq!(first.fence.check(), Ok(()));
    let lease = arena.api().get(&arena.name).await.unwrap();
    assert_eq!(lease.metadata.labels.unwrap()["seen"], "yes");
    arena.end(first).await;
}

#[tokio::test]
async fn a_deleted_lease_is_made_again_by_its_leader_and_by_nobody_else() {
    let arena = Arena::new("deleted").await;
    let first = arena.lead("first").await;
    let second = arena.stand_by("second");
    let_it_watch().await;
    arena.delete().await;

    tokio::time::sleep(DURATION).await;
    assert!(!second.is_finished() && !first.lost.is_cancelled());
    assert_eq!(first.fence.check(), Ok(()));
    assert_eq!(arena.spec().await.holder_identity.as_deref(), Some("first"));
    gone(second).await;
    arena.end(first).await;
}

#[tokio::test]
async fn of_many_candidates_one_wins() {
    let arena = Arena::new("race").await;
    let identities: Vec<_> = (0..8).map(|n| format!("candidate-{n}")).collect();
    let mut candidates: Vec<_> = identities.iter().map(|name| arena.stand_by(name)).collect();
    let ((leader, _), _, rest) = {
        let (won, index, rest) = futures::future::select_all(candidates.drain(..)).await;
        (won.unwrap(), index, rest)
    };
    let_it_watch().await;
    assert!(rest.iter().all(|candidate| !candidate.is_finished()), "two leaders");
    for candidate in rest {
        gone(candidate).await;
    }
    arena.end(leader).await;
}

/// A way to the API server that a test can freeze: connections stay open, and nothing comes through.
struct Path {
    /// Whether the connections of now, and those that are made from now on, are frozen.
    frozen: Arc<Mutex<watch::Sender<bool>>>,
    config: kube::Config,
}

impl Path {
    async fn open() -> Self {
        let mut config = kube::Config::infer().await.unwrap();
        let server = config.cluster_url.authority().unwrap().clone();
        config.tls_server_name = Some(server.host().to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        config.cluster_url = format!("https://{address}").parse().unwrap();
        let frozen = Arc::new(Mutex::new(watch::channel(false).0));
        let current = frozen.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server.as_str()).await.unwrap();
                let frozen = current.lock().unwrap().subscribe();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, frozen.clone()));
                tokio::spawn(carry(from_far, to_near, frozen));
            }
        });
        Self { frozen, config }
    }

    /// Freezes everything, or thaws what this froze.
    fn freeze(&self, frozen: bool) {
        self.frozen.lock().unwrap().send_replace(frozen);
    }

    /// Freezes the connections that there are; new ones work. Lasts as long as the answer.
    fn freeze_present(&self) -> watch::Sender<bool> {
        let present = std::mem::replace(&mut *self.frozen.lock().unwrap(), watch::channel(false).0);
        present.send_replace(true);
        present
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut frozen: watch::Receiver<bool>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_leader_that_the_api_server_no_longer_answers_stops_before_another_takes_over() {
    let arena = Arena::new("partition").await;
    let path = Path::open().await;
    let client = Client::try_from(path.config.clone()).unwrap();
    let first = acquire(client, arena.settings("first")).await.unwrap();
    let second = arena.stand_by("second");
    let_it_watch().await;

    path.freeze(true);
    let frozen = Instant::now();
    let limit = DURATION + SOON;
    tokio::time::timeout(limit, first.lost.cancelled()).await.expect("lost by now");
    let lost = Instant::now();
    assert_eq!(first.fence.check(), Err(Fenced));
    assert!(!second.is_finished(), "taken over while the old leader still led");
    let (second, won) = second.await.unwrap();
    println!("lost {:?} after the path froze, taken {:?} after that", lost - frozen, won - lost);
    assert!(won - lost >= DURATION / 6, "{:?}", won - lost);

    path.freeze(false);
    tokio::time::sleep(DURATION / 3).await;
    assert_eq!(arena.spec().await.holder_identity.as_deref(), Some("second"), "a late write landed");
    arena.end(second).await;
}

/// It waited for a whole interval after each answer, however late that came, and so stepped down at the second one.
#[tokio::test]
async fn a_leader_whose_renewals_are_all_answered_late_goes_on() {
    let arena = Arena::new("late").await;
    let path = Path::open().await;
    let client = Client::try_from(path.config.clone()).unwrap();
    let first = acquire(client, arena.settings("first")).await.unwrap();
    let slow = async {
        loop {
            path.freeze(true);
            tokio::time::sleep(DURATION.mul_f64(0.27)).await;
            path.freeze(false);
            tokio::time::sleep(DURATION.mul_f64(0.03)).await;
        }
    };
    tokio::select! {
        () = slow => {}
        () = first.lost.cancelled() => panic!("it stepped down"),
        () = tokio::time::sleep(DURATION * 4) => {}
    }
    path.freeze(false);
    assert_eq!(first.fence.check(), Ok(()));
    arena.end(first).await;
}

#[tokio::test]
async fn a_process_that_is_busy_for_longer_than_its_lease_lasts_keeps_it() {
    // With 5,000 objects to delete, every worker was busy for seconds, and the renewal waited behind them.
    let arena = Arena::new("busy").await;
    let aside = Aside::new("lease").unwrap();
    let config = Config::infer().await.unwrap();
    let client = aside.within(|| Client::try_from(config)).unwrap();
    let first = aside.run(acquire(client, arena.settings("first"))).await.unwrap().unwrap();
    // This very thread, the only one of this runtime, does nothing else meanwhile.
    let until = Instant::now() + DURATION * 2;
    while Instant::now() < until {
        std::hint::black_box(first.fence.check()).expect("the fence is open");
    }
    assert!(!first.lost.is_cancelled());
    arena.end(first).await;
}

#[tokio::test]
async fn a_candidate_whose_watch_is_dead_takes_over_in_time_all_the_same() {
    let arena = Arena::new("deaf").await;
    let path = Path::open().await;
    let client = Client::try_from(path.config.clone()).unwrap();
    let first = arena.lead("first").await;
    let candidate = acquire(client, arena.settings("second"));
    let candidate = tokio::spawn(async move { (candidate.await.unwrap(), Instant::now()) });
    let_it_watch().await;
    // Its watch stays open and says nothing any more, not even that the leader ends.
    let _present = path.freeze_present();
    first.release().await;
    let released = Instant::now();
    let (second, won) = candidate.await.unwrap();
    println!("taken {:?} after a release that was not heard", won - released);
    assert!(won - released < DURATION * 3 / 2, "{:?}", won - released);
    arena.end(second).await;
}

#[tokio::test]
async fn a_namespace_that_does_not_exist_is_an_error_and_no_endless_wait() {
    let arena = Arena::new("nowhere").await;
    let settings = LeaseSettings::new("no-such-namespace-here", "spillway", "me");
    let error = acquire(arena.client.clone(), settings).await.unwrap_err();
    assert!(matches!(error, LeaseError::Refused { operation: "write", .. }), "{error}");
    assert!(error.to_string().contains("no-such-namespace-here"), "{error}");
}
