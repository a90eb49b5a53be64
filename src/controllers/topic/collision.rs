//! Other Topics of the cluster whose names Kafka would not tell from this one's.

use crate::api::Topic;
use crate::controllers::guard::{self, Standing};
use crate::controllers::reconciler::{Pass, Rival};
use crate::topology::Rejection;
use crate::topology::kafka::collision;
use crate::topology::kafka::companions::Companion;
use crate::topology::ownership::Claim;

/// Under what a topic is found by those that it may collide with. No topic has such a name.
pub fn key(name: &str) -> Option<String> {
    collision::key(name).map(|key| format!("~{key}"))
}

/// Refuses what is not there yet and collides with what was declared before it: the topic, and what it implies. Those are
/// as old as the CRs that were made for them.
pub fn check(pass: &Pass<'_, Topic>, name: &str, implied: &[Companion]) -> Result<(), Rejection> {
    let own = Rival::of(pass.ctx, pass.object).claim;
    alone(pass, name, &own)?;
    for companion in implied {
        let made = pass.ctx.topics.get(&own.namespace, &companion.metadata_name);
        let claim = match made {
            Some(made) => Rival::of(pass.ctx, made.as_ref()).claim,
            None => {
                Claim { companion: true, created: None, name: companion.metadata_name.clone(), ..own.clone() }
            }
        };
        alone(pass, companion.topic(), &claim)?;
    }
    Ok(())
}

fn alone(pass: &Pass<'_, Topic>, name: &str, own: &Claim) -> Result<(), Rejection> {
    let Some(key) = key(name) else { return Ok(()) };
    let found = pass.ctx.topics.find(&key);
    let others: Vec<_> = found
        .iter()
        .filter(|other| collision::collide(name, other.topic_name()))
        .map(|other| (other.topic_name().to_owned(), Rival::of(pass.ctx, other.as_ref())))
        .filter(|(_, rival)| guard::standing(pass.ctx, rival, &pass.link.cluster_id) == Standing::Same)
        .map(|(name, rival)| (name, rival.claim))
        .collect();
    collision::with_others(name, own, &others)
}
