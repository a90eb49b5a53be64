//! Short digests: names and hashes that people see and compare.

use sha2::{Digest as _, Sha256};

/// The first `bytes` bytes of the SHA-256 of the parts, in hexadecimal. A separator keeps
/// ("ab", "c") from ("a", "bc").
#[must_use]
pub fn short<'a>(parts: impl IntoIterator<Item = &'a str>, bytes: usize) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let digit = |nibble: u8| HEX[usize::from(nibble)];
    digest.finalize().iter().take(bytes).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(short(["ab", "c"], 6), short(["a", "bc"], 6));
        assert_eq!(short(["ab"], 6).len(), 12);
    }
}
