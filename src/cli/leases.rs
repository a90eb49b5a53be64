//! Which operators lead: the Leases that they hold, wherever they are.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use serde::Serialize;

use crate::api::own_annotation::WATCHES;

/// Where to look for Leases.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct LeaseArgs {
    /// The namespace that operators run in, and hold their Leases in; default: all namespaces
    #[arg(long, value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// This Lease only; default: all that carry Spillway's label
    #[arg(long, value_name = "NAME", requires = "lease_namespace")]
    pub lease: Option<String>,
}

/// What a Lease says of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
    /// Who holds it; none: it was let go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Seconds since it was renewed.
    #[serde(rename = "renewedSecondsAgo", skip_serializing_if = "Option::is_none")]
    pub renewed: Option<i64>,
    /// Whether it still counts.
    pub leads: bool,
    /// The namespaces that its operator watches; none: all, as far as is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watches: Vec<String>,
}

impl Leader {
    /// What a Lease says at a time.
    pub(super) fn of(lease: &Lease, now: Timestamp) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let renewed = spec.renew_time.map(|time| now.as_second() - time.0.as_second());
        let lasts = i64::from(spec.lease_duration_seconds.unwrap_or_default());
        let leads = holder.is_some() && renewed.is_some_and(|ago| ago <= lasts);
        let watches = lease.annotations().get(WATCHES).map_or("", String::as_str);
        let watches = watches.split(',').filter(|name| !name.is_empty() && *name != "*");
        Self {
            namespace: lease.namespace().unwrap_or_default(),
            lease: lease.name_any(),
            holder,
            renewed,
            leads,
            watches: watches.map(str::to_owned).collect(),
        }
    }

    /// Whether its operator looks after a namespace; none: after any at all.
    #[must_use]
    pub fn watches(&self, namespace: Option<&str>) -> bool {
        namespace.is_none_or(|one| self.watches.is_empty() || self.watches.iter().any(|name| name == one))
    }

    /// Who holds which Lease, and since when not, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Self { namespace, lease, .. } = self;
        let place = format!("Lease {namespace}/{lease}");
        match (&self.holder, self.renewed) {
            (Some(holder), Some(ago)) if self.leads => format!("{holder} holds {place}, renewed {ago} s ago"),
            (Some(holder), Some(ago)) => format!("{holder} held {place} and renewed it {ago} s ago last"),
            _ => format!("nobody holds {place}"),
        }
    }
}

/// The longest that a Lease may hold without being renewed (`--lease-seconds`).
const LONGEST: u64 = 300;

/// How long a Lease holds without being renewed. Nobody whose Lease was not renewed for that long leads.
#[must_use]
pub fn lasts(lease: &Lease) -> Duration {
    let said = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
    Duration::from_secs(u64::try_from(said).unwrap_or_default().clamp(1, LONGEST))
}

/// Of the Leases that are held, those that were written since they were `before`. No clock is asked: that of whoever renews
/// may differ from ours.
#[must_use]
pub fn written_since<'a>(before: &[Lease], now: &'a [Lease]) -> Vec<&'a Lease> {
    let told = |lease: &Lease| {
        let spec = lease.spec.clone().unwrap_or_default();
        (spec.holder_identity, spec.renew_time, spec.acquire_time)
    };
    let same = |a: &Lease, b: &Lease| {
        (a.namespace(), a.name_any(), told(a)) == (b.namespace(), b.name_any(), told(b))
    };
    now.iter().filter(|lease| is_held(lease) && !before.iter().any(|one| same(one, lease))).collect()
}

/// Whether somebody's name is in it, who may be gone.
#[must_use]
pub fn is_held(lease: &Lease) -> bool {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(watches: Option<&str>) -> Leader {
        let now = Timestamp::from_second(1_000).unwrap();
        let lease = serde_json::from_value(json!({
            "metadata": {"namespace": "ops", "name": "shop-spillway",
                "annotations": watches.map(|names| json!({WATCHES: names}))},
            "spec": {"holderIdentity": "pod", "leaseDurationSeconds": 15, "renewTime": "1970-01-01T00:16:33.000000Z"},
        }));
        Leader::of(&lease.unwrap(), now)
    }

    #[test]
    fn a_lease_is_told_by_its_own_name() {
        assert_eq!(lease(None).in_words(), "pod holds Lease ops/shop-spillway, renewed 7 s ago");
    }

    #[test]
    fn an_operator_of_other_namespaces_does_not_look_after_this_one() {
        assert!(lease(Some("shop,bills")).watches(Some("bills")));
        assert!(!lease(Some("shop,bills")).watches(Some("other")));
        assert!(lease(Some("shop,bills")).watches(None));
        for all in [None, Some("*")] {
            assert!(lease(all).watches(Some("other")), "{all:?}");
        }
    }

    fn held(holder: &str, second: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"namespace": "ops", "name": "spillway"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15,
                "renewTime": format!("1970-01-01T00:16:{second}.000000Z")},
        }))
        .unwrap()
    }

    #[test]
    fn a_lease_that_is_renewed_is_told_by_a_second_look_and_not_by_a_clock() {
        let before = [held("pod", "33")];
        assert!(written_since(&before, &before).is_empty());
        assert_eq!(written_since(&before, &[held("pod", "38")]).len(), 1);
        assert_eq!(written_since(&before, &[held("other", "33")]).len(), 1);
        assert!(written_since(&before, &[held("", "39")]).is_empty(), "it was let go");
        assert_eq!(written_since(&[], &before).len(), 1, "somebody began to lead");
    }

    #[test]
    fn no_lease_is_waited_for_longer_than_one_may_last() {
        let of = |seconds: i32| {
            let spec = json!({"spec": {"leaseDurationSeconds": seconds}});
            lasts(&serde_json::from_value(spec).unwrap()).as_secs()
        };
        assert_eq!([of(15), of(0), of(-1), of(i32::MAX)], [15, 1, 1, 300]);
    }
}
