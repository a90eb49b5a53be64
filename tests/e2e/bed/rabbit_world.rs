//! What a world has of RabbitMQ: a virtual host of its own, made when the first test asks for it.

use spillway_operator::api::Broker;

use super::amqp::Amqp;
use super::env::RabbitAddress;
use super::rabbitmq::Rabbit;
use super::world::World;

/// A Broker at `${RABBITMQ}` with the Secret `rabbitmq`; more can be added to its spec.
const BROKER: &str = "apiVersion: spillway.dev/v1alpha1
kind: Broker
metadata: {name: rabbitmq}
spec:
  rabbitmq:
    managementUrl: ${RABBITMQ}
    amqpUrl: ${AMQP}
    credentialsSecretRef: {name: rabbitmq}
";

/// The YAML of [`World::rabbit`].
pub fn rabbit_yaml(more: &str) -> String {
    format!("{BROKER}  {}\n", more.trim().replace('\n', "\n  "))
}

/// The YAML of a Secret with a user name and a password.
pub fn login_yaml(name: &str, username: &str, password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{username: '{username}', password: '{password}'}}\n"
    )
}

fn object_yaml(kind: &str, name: &str, spec: &str) -> String {
    let vhost = if spec.contains("vhost: ") { "" } else { "\n  vhost: '${VHOST}'" };
    format!(
        "apiVersion: spillway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  brokerRef: {{name: rabbitmq}}{vhost}\n  {}\n",
        spec.trim().replace('\n', "\n  ")
    )
}

/// The YAML of [`World::queue`].
pub fn queue_yaml(name: &str, spec: &str) -> String {
    object_yaml("Queue", name, spec)
}

/// The YAML of [`World::exchange`].
pub fn exchange_yaml(name: &str, spec: &str) -> String {
    object_yaml("Exchange", name, spec)
}

/// The YAML of [`World::binding`].
pub fn binding_yaml(name: &str, spec: &str) -> String {
    object_yaml("Binding", name, spec)
}

impl World {
    /// The world's virtual host: its own look at RabbitMQ.
    pub async fn mq(&self) -> &Rabbit {
        let address = RabbitAddress::of_the_bed();
        self.rabbit.get_or_init(|| Rabbit::with_vhost(&address, &self.vhost)).await
    }

    /// A connection to the world's virtual host.
    pub async fn amqp(&self) -> Amqp {
        self.mq().await;
        Amqp::connect(&RabbitAddress::of_the_bed(), &self.vhost).await
    }

    /// The Broker that most tests of RabbitMQ use, ready, with the virtual host. `more` is added to its spec.
    pub async fn rabbit(&self, more: &str) -> Broker {
        self.mq().await;
        self.login("rabbitmq").await;
        self.apply(&rabbit_yaml(more)).await;
        self.ready("rabbitmq").await
    }

    /// That Broker with its management interface at another address, whatever is there.
    pub async fn rabbit_at(&self, address: &str, more: &str) {
        self.mq().await;
        self.login("rabbitmq").await;
        let yaml = rabbit_yaml(more).replace("    amqpUrl: ${AMQP}\n", "");
        self.apply(&yaml.replace("${RABBITMQ}", address)).await;
    }

    /// A Secret with the bed's user name and password.
    pub async fn login(&self, name: &str) {
        let address = RabbitAddress::of_the_bed();
        self.apply(&login_yaml(name, &address.username, &address.password)).await;
    }

    /// A Queue on that Broker, in the world's virtual host unless `spec` names another.
    pub async fn queue(&self, name: &str, spec: &str) {
        self.apply(&queue_yaml(name, spec)).await;
    }

    /// An Exchange on that Broker.
    pub async fn exchange(&self, name: &str, spec: &str) {
        self.apply(&exchange_yaml(name, spec)).await;
    }

    /// A Binding on that Broker.
    pub async fn binding(&self, name: &str, spec: &str) {
        self.apply(&binding_yaml(name, spec)).await;
    }
}
