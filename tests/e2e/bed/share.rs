//! A member of a share group (KIP-932), which no client of these tests can be: the one request that it takes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// `ShareGroupHeartbeat` and the version that Kafka 4.1 speaks.
const HEARTBEAT: (i16, i16) = (76, 1);
/// A member's id: 16 bytes of any value, in base64.
const MEMBER: &str = "c3BpbGx3YXktZTJlLTAwMQ";
/// The epoch of one that joins, and of one that leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;
const UNKNOWN_MEMBER_ID: i16 = 25;

/// A member that joined and says nothing more, until it leaves.
pub struct ShareMember {
    server: String,
    group: String,
    topic: String,
}

impl ShareMember {
    /// Makes the group, if it is not there.
    pub fn join(server: &str, group: &str, topic: &str) -> Self {
        let member = Self { server: server.to_owned(), group: group.to_owned(), topic: topic.to_owned() };
        member.beat(JOINS);
        member
    }

    fn beat(&self, epoch: i32) {
        let mut request = Vec::new();
        request.extend(HEARTBEAT.0.to_be_bytes());
        request.extend(HEARTBEAT.1.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        request.extend(3_i16.to_be_bytes());
        request.extend(b"e2e\0");
        compact(&mut request, &self.group);
        compact(&mut request, MEMBER);
        request.extend(epoch.to_be_bytes());
        // No rack; one topic; no tagged fields.
        request.extend([0, 2]);
        compact(&mut request, &self.topic);
        request.push(0);

        let mut connection = TcpStream::connect(&self.server).expect("Kafka is there");
        connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let length = i32::try_from(request.len()).expect("a short request");
        connection.write_all(&[&length.to_be_bytes(), request.as_slice()].concat()).expect("it takes it");
        // Length, correlation id, tagged fields, throttle time; then the error.
        let mut answer = [0; 15];
        connection.read_exact(&mut answer).expect("an answer");
        let code = i16::from_be_bytes([answer[13], answer[14]]);
        // A member that said nothing for 45 s is out already.
        let out = epoch == LEAVES && code == UNKNOWN_MEMBER_ID;
        assert!(
            code == 0 || out,
            "{}: Kafka's error {code}: are share groups on (share.version=1)?",
            self.group
        );
    }
}

impl Drop for ShareMember {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.beat(LEAVES);
        }
    }
}

/// A string of less than 127 bytes.
fn compact(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len() + 1).expect("a short name"));
    out.extend(text.as_bytes());
}
