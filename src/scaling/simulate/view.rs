//! What an operator can see of a plant: an [`Observation`], and no more.

use std::sync::Arc;

use super::super::{
    Committed, DeadLetter, Group, GroupKind, GroupRead, GroupState, Kafka, Member, Observation, Partition,
    Pod, RabbitMq, Target,
};
use super::plant::{Plant, Protocol};

/// Seconds between two descriptions of the group: they cost more than offsets.
const DESCRIBE: f64 = 5.0;

/// Looks at a plant, and remembers names so that they are made once.
#[derive(Debug, Default)]
pub(super) struct View {
    names: Vec<Arc<str>>,
    described_at: Option<f64>,
}

impl View {
    /// The observation of this moment.
    pub fn look(&mut self, plant: &Plant) -> Observation {
        while self.names.len() < plant.partitions.len() {
            self.names.push(format!("orders/{}", self.names.len()).into());
        }
        let due = self.described_at.is_none_or(|at| plant.now - at >= DESCRIBE - 1e-6);
        let group = if due && !plant.dark {
            self.described_at = Some(plant.now);
            GroupRead::Known(self.group(plant))
        } else {
            GroupRead::NotRead
        };
        Observation {
            now: plant.now,
            target: Target {
                spec: plant.spec,
                ready: Some(plant.ready()),
                unschedulable: Some(plant.unschedulable()),
                updating: plant.updating(),
                revision: plant.revision.to_string().into(),
                ..Target::default()
            },
            rabbitmq: (!plant.dark && plant.design.prefetch.is_some()).then(|| queue(plant)),
            kafka: (!plant.dark && plant.design.prefetch.is_none()).then(|| Kafka {
                group,
                partitions: self.partitions(plant),
                ..Kafka::default()
            }),
            dead_letter: Some(DeadLetter { end: Some(plant.dead_letters), ..DeadLetter::default() }),
            ..Observation::default()
        }
    }

    fn partitions(&self, plant: &Plant) -> Vec<Partition> {
        let id: Arc<str> = plant.topic.to_string().into();
        plant
            .partitions
            .iter()
            .zip(&self.names)
            .map(|(p, name)| Partition {
                tp: name.clone(),
                topic_id: Some(id.clone()),
                start: Some(0),
                end: (!p.leaderless).then_some(p.held_end.unwrap_or(p.end)),
                hw: (!p.leaderless).then_some(p.end),
                committed: Committed::At(p.committed),
                error: p.leaderless.then(|| "leader not available".to_owned()),
            })
            .collect()
    }

    fn group(&self, plant: &Plant) -> Group {
        let members: Vec<Member> = plant
            .pods
            .iter()
            .filter(|p| p.joined)
            .map(|pod| Member {
                id: format!("member-{}", pod.id).into(),
                pod: if pod.foreign { Pod::Foreign } else { Pod::Known(format!("pod-{}", pod.id).into()) },
                is_static: plant.design.static_members,
                partitions: (0..plant.partitions.len())
                    .filter(|&p| plant.partitions[p].owner.is_some_and(|o| o as u64 == pod.id))
                    .map(|p| self.names[p].clone())
                    .collect(),
            })
            .collect();
        let rebalancing = plant.now < plant.rebalancing_until;
        let consumer = plant.design.protocol == Protocol::Consumer;
        Group {
            kind: if consumer { GroupKind::Consumer } else { GroupKind::Classic },
            state: match (members.is_empty(), rebalancing, consumer) {
                (true, ..) => GroupState::Empty,
                (_, true, true) => GroupState::Reconciling,
                (_, true, false) => GroupState::PreparingRebalance,
                _ => GroupState::Stable,
            },
            assignor: match plant.design.protocol {
                Protocol::Eager => "range",
                Protocol::Cooperative => "cooperative-sticky",
                Protocol::Consumer => "uniform",
            }
            .into(),
            members,
        }
    }
}

/// A queue with AMQP: what is ready and who consumes as of now, the rest as of the statistics.
fn queue(plant: &Plant) -> RabbitMq {
    RabbitMq {
        kind: "quorum".into(),
        ready: Some(plant.ready_messages()),
        unacked: Some(plant.statistics.unacked),
        publish: Some(plant.statistics.publish),
        ack: Some(plant.statistics.ack),
        deliver_no_ack: Some(0),
        consumers: u32::try_from(plant.pods.iter().filter(|pod| pod.joined).count()).ok(),
        single_active: false,
    }
}
