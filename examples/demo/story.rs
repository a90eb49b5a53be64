//! The demo from beginning to end.

use std::time::Duration;

use crate::cluster::{Cluster, wait};
use crate::flood;
use crate::kafka::{Log, Watcher};
use crate::recorder::Recorder;
use crate::report::{Evidence, Report};
use crate::{
    DEAD_LETTERS, DemoError, EMAIL_GROUP, EMAILS, ORDER, ORDER_GROUP, ORDERS, PAYMENTS, Settings, report,
};

/// For an object to be made, a pod to start, a group to form.
const PATIENCE: Duration = Duration::from_secs(90);
/// From the last message to one replica: the patch for the demo lets stabilization take seconds.
const REST: Duration = Duration::from_secs(90);
const FULL: u64 = 5_000;

/// Tells it, and returns whether everything was as expected.
pub async fn tell(settings: &Settings) -> Result<bool, DemoError> {
    let cluster = Cluster::new(&settings.namespace).await?;
    say("Waiting for topics, consumers and their groups");
    cluster.ready(PATIENCE).await?;
    let bootstrap = settings.place.bootstrap_servers.as_str();
    let orders = Watcher::new(bootstrap, ORDER_GROUP, PAYMENTS)?;
    let emails = Watcher::new(bootstrap, EMAIL_GROUP, ORDERS)?;
    for (watcher, group) in [(&orders, ORDER_GROUP), (&emails, EMAIL_GROUP)] {
        wait(PATIENCE, async || Ok(one_member(watcher.members()?, group))).await?;
    }
    let marks = Marks {
        payments: Log::mark(bootstrap, PAYMENTS)?,
        orders: Log::mark(bootstrap, ORDERS)?,
        emails: Log::mark(bootstrap, EMAILS)?,
        dead_letters: Log::mark(bootstrap, DEAD_LETTERS)?,
    };
    let mut recorder = Recorder::start(orders, cluster.follow(ORDER));

    let count = settings.count;
    say(&format!(
        "{count} payments, {} of them poison, scaling off: one replica, ten a second",
        settings.poison
    ));
    cluster.set_mode(ORDER, "DryRun", PATIENCE).await?;
    let fixed = flood::run(settings, &mut recorder, count).await?;

    say(&format!("{count} more, with Spillway"));
    cluster.set_mode(ORDER, "Auto", PATIENCE).await?;
    let mut scaled = vec![flood::run(settings, &mut recorder, count).await?];
    say(
        "Back to rest: the demo's patch waits 5 s before a step down, and remembers a peak for 8 s (default: 3 m and 15 m)",
    );
    let mut rested = vec![flood::rest(&mut recorder, REST).await];
    if settings.full {
        say(&format!("{FULL} at once, with Spillway"));
        scaled.push(flood::run(settings, &mut recorder, FULL).await?);
        say("Back to rest");
        rested.push(flood::rest(&mut recorder, REST).await);
    }

    wait(PATIENCE, async || {
        let lag = emails.look()?.lag;
        Ok(if lag == 0 { Ok(()) } else { Err(format!("e-mails: {lag} orders have none yet")) })
    })
    .await?;
    let evidence = marks.collect()?;
    let seen = recorder.seen();
    Report { settings, seen, fixed, scaled, rested, evidence }.finish()
}

fn one_member(members: Option<usize>, group: &str) -> Result<(), String> {
    match members {
        Some(1) => Ok(()),
        Some(more) => Err(format!("group {group} to have one member, not {more}")),
        None => Err(format!("group {group} to be stable")),
    }
}

/// Where each topic stood before the first flood.
struct Marks {
    payments: Log,
    orders: Log,
    emails: Log,
    dead_letters: Log,
}

impl Marks {
    fn collect(&self) -> Result<Evidence, DemoError> {
        tokio::task::block_in_place(|| {
            Ok(Evidence {
                payments: self.payments.since()?,
                orders: self.orders.since()?,
                emails: self.emails.since()?,
                dead_letters: self.dead_letters.since()?,
            })
        })
    }
}

fn say(what: &str) {
    println!("\n{}{what}{}", report::BOLD.get(), report::PLAIN.get());
}
