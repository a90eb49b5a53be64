//! Other Topics of the cluster whose names Kafka would not tell from this one's.

use kube::Resource as _;

use crate::api::Topic;
use crate::controllers::guard::{self, Standing};
use crate::controllers::reconciler::{Pass, Rival};
use crate::topology::Rejection;
use crate::topology::kafka::collision;

/// Under what a topic is found by those that it may collide with. No topic has such a name.
pub fn key(name: &str) -> Option<String> {
    collision::key(name).map(|key| format!("~{key}"))
}

/// Refuses what is not there yet and collides with what was declared before it. `names`: the topic and what it implies.
pub fn check<'a>(pass: &Pass<'_, Topic>, names: impl Iterator<Item = &'a str>) -> Result<(), Rejection> {
    let own = Rival::of(pass.ctx, pass.object).claim;
    for name in names {
        let Some(key) = key(name) else { continue };
        let found = pass.ctx.topics.find(&key);
        let others: Vec<_> = found
            .iter()
            .filter(|other| other.meta().uid != pass.object.meta().uid)
            .filter(|other| collision::collide(name, other.topic_name()))
            .map(|other| (other.topic_name().to_owned(), Rival::of(pass.ctx, other.as_ref())))
            .filter(|(_, rival)| guard::standing(pass.ctx, rival, &pass.link.cluster_id) == Standing::Same)
            .map(|(name, rival)| (name, rival.claim))
            .collect();
        collision::with_others(name, &own, &others)?;
    }
    Ok(())
}
