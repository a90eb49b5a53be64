//! Where the real parts are: the environment, as `hack/testbed env` prints it.

/// The variable's value, or one line that says how to come by it.
pub fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `make test`, or `eval \"$(hack/testbed env)\"` after `hack/testbed up`")
    })
}

/// The plaintext listener of the Kafka that the tests share.
pub fn kafka() -> String {
    required("SPILLWAY_TEST_KAFKA")
}

/// The RabbitMQ that the tests share.
#[derive(Clone, Debug)]
pub struct RabbitAddress {
    /// `http://host:port`, without credentials.
    pub management: String,
    /// `amqp://host:port`, without credentials.
    pub amqp: String,
    pub username: String,
    pub password: String,
}

impl RabbitAddress {
    /// Where it is, and who may do everything there.
    pub fn of_the_bed() -> Self {
        let (management, user) = without_credentials(&required("SPILLWAY_TEST_RABBITMQ"));
        let (amqp, _) = without_credentials(&required("SPILLWAY_TEST_AMQP"));
        let (username, password) = user.expect("SPILLWAY_TEST_RABBITMQ is http://user:password@host:port");
        // The virtual host is each test's own.
        let amqp = amqp.trim_end_matches("/%2f").trim_end_matches("/%2F").trim_end_matches('/').to_owned();
        Self { management, amqp, username, password }
    }
}

/// A URL, and the user name and password that were in it.
pub fn without_credentials(url: &str) -> (String, Option<(String, String)>) {
    let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("{url} is no URL"));
    let Some((user, host)) = rest.split_once('@') else { return (url.to_owned(), None) };
    let user = user.split_once(':').unwrap_or((user, ""));
    (format!("{scheme}://{}", host.trim_end_matches('/')), Some((user.0.to_owned(), user.1.to_owned())))
}
