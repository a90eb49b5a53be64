//! Addresses of the management interface: every name is one segment, whatever is in it. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The segments as a path, each encoded; or the segment that no address can carry.
///
/// An empty segment would name a whole collection, and `.` and `..` are taken for steps along the path, also when
/// they are encoded.
pub(super) fn path<'a>(segments: &[&'a str]) -> Result<String, &'a str> {
    let mut path = String::new();
    for segment in segments {
        if matches!(*segment, "" | "." | "..") {
            return Err(segment);
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.extend(utf8_percent_encode(segment, ENCODED));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slashes_percent_signs_spaces_and_umlauts_are_encoded() {
        let path = path(&["queues", "/", "a/b %ü~c.d_e-f?#&"]);
        assert_eq!(path.as_deref(), Ok("queues/%2F/a%2Fb%20%25%C3%BC~c.d_e-f%3F%23%26"));
    }

    #[test]
    fn a_name_that_an_address_cannot_carry_is_named() {
        for name in ["", ".", ".."] {
            assert_eq!(path(&["queues", "/", name]), Err(name));
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_as_the_one_segment_it_went_in(name in ".{1,20}") {
            prop_assume!(name != "." && name != "..");
            let url = format!("http://host/api/{}", path(&["queues", "/", &name]).expect("it can be carried"));
            let url = reqwest::Url::parse(&url).expect("it is a URL");
            let segments: Vec<_> = url.path_segments().expect("it has a path").collect();
            prop_assert_eq!(segments.len(), 4);
            let back = percent_encoding::percent_decode_str(segments[3]).decode_utf8().expect("UTF-8");
            prop_assert_eq!(back, name);
        }
    }
}
