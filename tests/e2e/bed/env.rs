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
