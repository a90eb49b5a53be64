//! The Lease object: what is read from it, and what is written into it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::decide::Record;
use super::{LABEL, LeaseSettings};
use crate::api::own_annotation::WATCHES;

/// What matters of `lease`. A Lease without a duration counts as held for `default`.
pub(super) fn read(lease: &Lease, default: Duration) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(default, Duration::from_secs),
        renewed: spec.renew_time.map(|MicroTime(time)| time.as_microsecond()),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// Whether `now` is an earlier version than `before`: the API server's store was restored from a backup. Versions of one
/// object are numbers that grow, wherever the store is etcd or does as it does; of others nothing is said.
pub(super) fn went_back(before: &Lease, now: &Lease) -> bool {
    let version = |lease: &Lease| lease.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    matches!((version(before), version(now)), (Some(before), Some(now)) if now < before)
}

/// A Lease that we hold and that did not exist before.
pub(super) fn created(settings: &LeaseSettings, now: Timestamp) -> Lease {
    let mut metadata = ObjectMeta {
        name: Some(settings.name.clone()),
        namespace: Some(settings.namespace.clone()),
        ..ObjectMeta::default()
    };
    mark(&mut metadata, settings);
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(settings.identity.clone()),
            lease_duration_seconds: Some(settings.seconds()),
            lease_transitions: Some(0),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

/// `lease` as we write it when we take or renew it. It keeps its resourceVersion, so the write
/// succeeds only if nobody was faster, and everything that is not ours.
pub(super) fn held(mut lease: Lease, settings: &LeaseSettings, now: Timestamp) -> Lease {
    mark(&mut lease.metadata, settings);
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(&settings.identity) {
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        spec.acquire_time = Some(MicroTime(now));
        spec.holder_identity = Some(settings.identity.clone());
    }
    spec.lease_duration_seconds = Some(settings.seconds());
    spec.renew_time = Some(MicroTime(now));
    lease
}

/// Says on the Lease whose it is, and where that one works: of its name people know nothing.
fn mark(metadata: &mut ObjectMeta, settings: &LeaseSettings) {
    let (key, value) = LABEL;
    metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    let watches = if settings.watches.is_empty() { "*".to_owned() } else { settings.watches.join(",") };
    metadata.annotations.get_or_insert_default().insert(WATCHES.to_owned(), watches);
}

/// `lease` without a holder: whoever sees it may take it at once.
pub(super) fn released(mut lease: Lease, now: Timestamp) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    // What client-go writes: candidates that wait for an expiry instead wait a second only.
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(identity: &str) -> LeaseSettings {
        LeaseSettings::new("ns", "spillway", identity)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_renewal_keeps_the_time_of_acquisition_and_the_count_of_transitions() {
        let lease = held(created(&settings("a"), at(10)), &settings("a"), at(20));
        let spec = lease.spec.unwrap();
        assert_eq!(spec.acquire_time, Some(MicroTime(at(10))));
        assert_eq!(spec.renew_time, Some(MicroTime(at(20))));
        assert_eq!(spec.lease_transitions, Some(0));
    }

    #[test]
    fn a_version_that_is_lower_went_back_and_one_that_is_no_number_says_nothing() {
        let lease = |version: &str| {
            let mut lease = created(&settings("a"), at(10));
            lease.metadata.resource_version = Some(version.into());
            lease
        };
        assert!(went_back(&lease("10"), &lease("9")));
        assert!(!went_back(&lease("9"), &lease("10")) && !went_back(&lease("9"), &lease("9")));
        assert!(!went_back(&lease("b"), &lease("9")) && !went_back(&lease("9"), &lease("a")));
    }

    #[test]
    fn taking_from_another_or_after_a_release_counts_as_a_transition() {
        let taken = held(created(&settings("a"), at(10)), &settings("b"), at(20));
        let released = released(taken.clone(), at(30));
        let again = held(released.clone(), &settings("b"), at(40));
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(1));
        assert_eq!(read(&released, Duration::ZERO).holder, "");
        let spec = again.spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(2));
        assert_eq!(spec.acquire_time, Some(MicroTime(at(40))));
        assert_eq!(spec.lease_duration_seconds, Some(15));
    }

    #[test]
    fn labels_that_others_set_on_the_lease_stay() {
        let mut lease = created(&settings("a"), at(10));
        lease.metadata.labels.get_or_insert_default().insert("team".to_owned(), "a".to_owned());
        lease.metadata.resource_version = Some("7".into());
        let renewed = held(lease.clone(), &settings("a"), at(20));
        assert_eq!(renewed.metadata, lease.metadata);
    }

    #[test]
    fn a_lease_of_any_name_tells_whose_it_is_and_where_that_one_works() {
        let mut settings = settings("a");
        settings.name = "shop-spillway".into();
        settings.watches = vec!["bills".into(), "shop".into()];
        let fresh = created(&settings, at(10));
        let mut bare = fresh.clone();
        (bare.metadata.labels, bare.metadata.annotations) = (None, None);
        for lease in [fresh, held(bare, &settings, at(20))] {
            assert_eq!(lease.metadata.labels.unwrap()[LABEL.0], LABEL.1);
            assert_eq!(lease.metadata.annotations.unwrap()[WATCHES], "bills,shop");
        }
    }

    #[test]
    fn a_lease_without_a_duration_counts_as_held_for_the_default() {
        let mut lease = created(&settings("a"), at(10));
        lease.spec.as_mut().unwrap().lease_duration_seconds = None;
        assert_eq!(read(&lease, Duration::from_secs(9)).duration, Duration::from_secs(9));
    }
}
