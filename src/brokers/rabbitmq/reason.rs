//! Which kind of refusal RabbitMQ's words stand for: it has no codes for them. Pure.
//!
//! Its sentences hold names that anyone may choose (`queue 'rate-limit' in vhost '/' in use`), so a sentence is known
//! by how it begins and, where that is a name, by how it ends after the last one: never by what is in between. The
//! sentences are those of RabbitMQ 3.13 to 4.3. One that is not known may be about RabbitMQ's own trouble, and what
//! was asked for may have been done: [`ErrorKind::Unavailable`].

use super::error::ErrorKind;

/// How a sentence begins, how it ends, and what it stands for. The first that fits counts.
const SENTENCES: &[(&str, &str, ErrorKind)] = &[
    ("inequivalent arg '", "", ErrorKind::Inequivalent),
    ("cannot obtain exclusive access to locked ", "", ErrorKind::Locked),
    ("invalid arg '", "", ErrorKind::Invalid),
    ("invalid type '", "", ErrorKind::Invalid),
    ("invalid property '", "", ErrorKind::Invalid),
    ("invalid exchange type '", "", ErrorKind::Invalid),
    ("unknown exchange type '", "", ErrorKind::Invalid),
    // Of streams.
    ("Exceeded max value for ", "", ErrorKind::Invalid),
    ("Invalid type for ", "", ErrorKind::Invalid),
    ("Invalid value for ", "", ErrorKind::Invalid),
    // Of bindings, by the type of the exchange.
    ("Invalid x-match field ", "", ErrorKind::Invalid),
    ("The binding key must ", "", ErrorKind::Invalid),
    ("Topic binding key '", "", ErrorKind::Invalid),
    ("Non empty binding '", " key not permitted", ErrorKind::Invalid),
    ("Queue type ", " not valid for this exchange type", ErrorKind::Invalid),
    // Of policies and of bodies.
    ("Validation failed", "", ErrorKind::Invalid),
    ("[{key_missing,", "", ErrorKind::Invalid),
    ("not_json", "", ErrorKind::Invalid),
    ("queue '", "' not empty", ErrorKind::Refused),
    ("queue '", "' in use", ErrorKind::Refused),
    ("exchange '", "' in use", ErrorKind::Refused),
    ("cannot declare queue '", " is reached", ErrorKind::Refused),
    ("cannot declare exchange '", " is reached", ErrorKind::Refused),
    ("cannot delete queue '", " flag set are not supported by quorum queues", ErrorKind::Refused),
    ("Cannot delete protected queue '", "", ErrorKind::Refused),
    ("basic.get not supported by ", "", ErrorKind::Refused),
];

/// Which kind of 400 it is.
pub(super) fn bad_request(words: &str) -> ErrorKind {
    let words = without_code(words);
    let fits = |(begins, ends, _): &&(&str, &str, ErrorKind)| {
        words.strip_prefix(begins).is_some_and(|rest| rest.ends_with(ends))
    };
    SENTENCES.iter().find(fits).map_or(ErrorKind::Unavailable, |(_, _, kind)| *kind)
}

/// Which kind of 404 it is: a queue that cannot be reached is said to be not found, too.
pub(super) fn not_found(words: &str) -> ErrorKind {
    let words = without_code(words);
    let there = words.starts_with("home node '")
        || words.starts_with("failed to perform operation on queue '")
        || (words.starts_with("queue '")
            && (words.ends_with("' process is stopped by supervisor")
                || words.ends_with("' has crashed and failed to restart")));
    if there { ErrorKind::Unavailable } else { ErrorKind::NotFound }
}

/// The sentence without AMQP's code and its name: some come as `406 PRECONDITION_FAILED - queue 'q' …`.
fn without_code(words: &str) -> &str {
    let Some((code, sentence)) = words.split_once(" - ") else { return words };
    let known = code
        .split_once(' ')
        .is_some_and(|(number, name)| number.parse::<u16>().is_ok() && is_name_of_a_code(name));
    if known { sentence } else { words }
}

fn is_name_of_a_code(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RabbitMQ's sentences with `@` for each name, and `#` for what an error of Erlang's is printed as.
    const REASONS: &[(&str, ErrorKind)] = &[
        (
            "inequivalent arg 'durable' for queue '@' in vhost '@': received 'false' but current is 'true'",
            ErrorKind::Inequivalent,
        ),
        (
            "inequivalent arg 'type' for exchange '@' in vhost '@': received 'topic' but current is 'direct'",
            ErrorKind::Inequivalent,
        ),
        (
            "cannot obtain exclusive access to locked queue '@' in vhost '@'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
            ErrorKind::Locked,
        ),
        (
            "invalid arg 'x-queue-type' for queue '@' in vhost '@': \"unsupported queue type '@'\"",
            ErrorKind::Invalid,
        ),
        (
            "invalid arg 'x-max-priority' for queue '@' in vhost '@' of queue type rabbit_quorum_queue",
            ErrorKind::Invalid,
        ),
        (
            "invalid type 'long' for arg 'x-dead-letter-exchange' in queue '@' in vhost '@'",
            ErrorKind::Invalid,
        ),
        ("invalid type 'long' for arg 'alternate-exchange' in exchange '@' in vhost '@'", ErrorKind::Invalid),
        ("invalid property 'non-durable' for queue '@' in vhost '@'", ErrorKind::Invalid),
        ("unknown exchange type '@'", ErrorKind::Invalid),
        ("invalid exchange type '@'", ErrorKind::Invalid),
        ("Exceeded max value for x-stream-max-segment-size-bytes", ErrorKind::Invalid),
        ("Invalid value for x-stream-filter-size-bytes", ErrorKind::Invalid),
        (
            "Invalid x-match field value <<\"@\">>; expected all, any, all-with-x, or any-with-x",
            ErrorKind::Invalid,
        ),
        ("The binding key must be an integer: <<\"@\">>", ErrorKind::Invalid),
        ("Topic binding key '@' uses 9 '#' wildcards, at most 8 are allowed", ErrorKind::Invalid),
        ("Non empty binding '@' key not permitted", ErrorKind::Invalid),
        ("Validation failed [{<<\"@\">>,5}] are not recognised policy settings", ErrorKind::Invalid),
        ("[{key_missing,definition}]", ErrorKind::Invalid),
        ("not_json", ErrorKind::Invalid),
        ("queue '@' in vhost '@' not empty", ErrorKind::Refused),
        ("queue '@' in vhost '@' in use", ErrorKind::Refused),
        ("406 PRECONDITION_FAILED - queue '@' in vhost '@' in use", ErrorKind::Refused),
        ("exchange '@' in vhost '@' in use", ErrorKind::Refused),
        ("cannot declare queue '@': queue limit in vhost '@' (1) is reached", ErrorKind::Refused),
        ("cannot declare queue '@': queue limit in cluster (1) is reached", ErrorKind::Refused),
        ("cannot declare exchange '@' in vhost '@': exchange limit of 1 is reached", ErrorKind::Refused),
        (
            "cannot delete queue '@' in vhost '@'. queue.delete operations with if-empty flag set are not supported by quorum queues",
            ErrorKind::Refused,
        ),
        ("Cannot delete protected queue '@' in vhost '@'.", ErrorKind::Refused),
        (
            "540 NOT_IMPLEMENTED - basic.get not supported by stream queues queue '@' in vhost '@'",
            ErrorKind::Refused,
        ),
        ("Cannot declare a queue 'queue '@' in vhost '@'' on node 'rabbit@host': #", ErrorKind::Unavailable),
        (
            "Cannot declare quorum queue '@' in vhost '@' on node 'rabbit@host' with leader on node 'rabbit@host': #",
            ErrorKind::Unavailable,
        ),
        (
            "Could not declare quorum queue '@' in vhost '@' on node 'rabbit@host' because the metadata store operation timed out",
            ErrorKind::Unavailable,
        ),
        ("Cannot declare queue '@' in vhost '@' on node 'rabbit@host': #", ErrorKind::Unavailable),
        ("Cannot delete queue '@' in vhost '@' on node 'rabbit@host': #", ErrorKind::Unavailable),
        (
            "failed to declare exchange '@' in vhost '@' because the operation timed out",
            ErrorKind::Unavailable,
        ),
        ("failed to delete exchange '@' in vhost '@' due to a timeout", ErrorKind::Unavailable),
        ("The operation to delete the queue from the metadata store timed out", ErrorKind::Unavailable),
        ("Could not add binding due to timeout", ErrorKind::Unavailable),
        ("Node rabbit@host could not be contacted", ErrorKind::Unavailable),
        (
            "Request to node rabbit@host failed with {timeout,{gen_server,call,[<<\"@\">>]}}",
            ErrorKind::Unavailable,
        ),
        ("operation queue.declare caused a channel exception internal_error: #", ErrorKind::Unavailable),
    ];

    /// The same for 404.
    const ABSENCES: &[(&str, ErrorKind)] = &[
        ("Not Found", ErrorKind::NotFound),
        ("vhost_not_found", ErrorKind::NotFound),
        ("no queue '@' in vhost '@'", ErrorKind::NotFound),
        ("no exchange '@' in vhost '@'", ErrorKind::NotFound),
        (
            "home node 'rabbit@host' of durable queue '@' in vhost '@' is down or inaccessible",
            ErrorKind::Unavailable,
        ),
        ("queue '@' in vhost '@' process is stopped by supervisor", ErrorKind::Unavailable),
        ("queue '@' in vhost '@' has crashed and failed to restart", ErrorKind::Unavailable),
        ("failed to perform operation on queue '@' in vhost '@' due to timeout", ErrorKind::Unavailable),
    ];

    /// Names that say what the sentences say, and any others.
    fn name() -> impl Strategy<Value = String> {
        let said = [
            "rate-limit",
            "in use",
            "not empty",
            "unsupported",
            "invalid arg 'x' for queue",
            "inequivalent arg 'x' for queue 'q'",
            "cannot obtain exclusive access to locked",
            "' not empty",
            "' in use",
            "x' in vhost '/' in use",
            "limit (1) is reached",
            "406 PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
            "home node 'x'",
            "has crashed and failed to restart",
            "not found",
        ];
        prop_oneof![prop::sample::select(said.to_vec()).prop_map(str::to_owned), "[^@#]{1,20}"]
    }

    /// What was read of a sentence with these names in it.
    fn filled(sentence: &str, names: &[String]) -> String {
        let mut names = names.iter().cycle();
        let mut text = String::new();
        for part in sentence.replace("rabbit@host", "rabbit-host").split_inclusive(['@', '#']) {
            let name = names.next().map(String::as_str).unwrap_or_default();
            match part.strip_suffix(['@', '#']) {
                Some(before) if part.ends_with('@') => text.extend([before, name]),
                Some(before) => text.extend([before, "{timeout,{rabbit_", name, ",[]}}"]),
                None => text.push_str(part),
            }
        }
        super::super::error::one_line(&text)
    }

    #[test]
    fn a_transient_refusal_about_a_queue_named_rate_limit_was_taken_for_a_limit() {
        let words = "Cannot declare quorum queue 'rate-limit' in vhost '/' on node 'a' with leader on node 'a': timeout";
        assert_eq!(bad_request(words), ErrorKind::Unavailable);
        assert_eq!(
            bad_request("failed to delete exchange 'in use' in vhost '/' due to a timeout"),
            ErrorKind::Unavailable
        );
    }

    #[test]
    fn every_sentence_is_known_by_an_example() {
        let examples: Vec<_> = REASONS.iter().map(|(words, _)| without_code(words)).collect();
        for (begins, ends, kind) in SENTENCES {
            let told = ["Invalid type for ", "Queue type "].contains(begins)
                || examples.iter().any(|words| words.starts_with(begins) && words.ends_with(ends));
            assert!(told, "{begins}…{ends} {kind:?}");
        }
    }

    #[test]
    fn a_queue_that_cannot_be_reached_is_not_gone() {
        let words = "home node 'rabbit@a' of durable queue 'q' in vhost '/' is down or inaccessible";
        assert_eq!(not_found(words), ErrorKind::Unavailable);
        assert_eq!(not_found("no queue 'home node 'a'' in vhost '/'"), ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn no_name_changes_what_a_sentence_stands_for(
            names in prop::collection::vec(name(), 3),
        ) {
            for (sentence, kind) in REASONS {
                let words = filled(sentence, &names);
                prop_assert_eq!(bad_request(&words), *kind, "{}", words);
            }
            for (sentence, kind) in ABSENCES {
                let words = filled(sentence, &names);
                prop_assert_eq!(not_found(&words), *kind, "{}", words);
            }
        }
    }
}
