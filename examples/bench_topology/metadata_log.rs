//! What Kafka wrote down: the records of its metadata log, which holds every topic, config and deletion.
//!
//! A segment is a run of record batches (Kafka's format 2); the value of a record begins with a frame version and
//! the number of the record's kind, both as variable-length integers.

use std::fs;
use std::path::Path;

/// Where the log lies in the broker's folder of logs.
const FOLDER: &str = "__cluster_metadata-0";
/// Written when nothing else is, to move the log on.
const NO_OP_RECORD: u64 = 20;
/// Before the records of a batch.
const HEADER: usize = 61;
/// From a batch's begin to the end of its length field.
const LENGTH_END: usize = 12;
/// A batch of these attributes is Kafka's own book-keeping (a new leader, a snapshot).
const CONTROL: u16 = 1 << 5;
const COMPRESSION: u16 = 0b111;

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it is no metadata log that this bench understands")]
    Format,
}

/// How many records there are that say something.
pub fn records(logs: &Path) -> Result<usize, LogError> {
    let mut count = 0;
    for entry in fs::read_dir(logs.join(FOLDER))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            count += in_segment(&fs::read(path)?)?;
        }
    }
    Ok(count)
}

fn in_segment(mut rest: &[u8]) -> Result<usize, LogError> {
    let mut count = 0;
    while rest.len() >= HEADER {
        let number =
            |at: usize| rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let length = number(8).ok_or(LogError::Format)? as usize + LENGTH_END;
        // A segment is made larger than its content; a batch may be half written.
        if length == LENGTH_END || rest.len() < length {
            break;
        }
        let (batch, next) = rest.split_at(length);
        let attributes = u16::from_be_bytes([batch[21], batch[22]]);
        if batch[16] != 2 || attributes & COMPRESSION != 0 {
            return Err(LogError::Format);
        }
        if attributes & CONTROL == 0 {
            let records = number(57).ok_or(LogError::Format)?;
            count += in_batch(&batch[HEADER..], records)?;
        }
        rest = next;
    }
    Ok(count)
}

fn in_batch(mut rest: &[u8], records: u32) -> Result<usize, LogError> {
    let mut count = 0;
    for _ in 0..records {
        let length = signed(&mut rest)?;
        let (mut record, next) = rest.split_at_checked(length).ok_or(LogError::Format)?;
        rest = next;
        record = record.get(1..).ok_or(LogError::Format)?;
        let (_time, _offset) = (varint(&mut record)?, varint(&mut record)?);
        // A key of no length at all is -1, which metadata records have.
        let key = varint(&mut record)?;
        if key > 1 {
            let length = usize::try_from(key >> 1).map_err(|_| LogError::Format)?;
            record = record.get(length..).ok_or(LogError::Format)?;
        }
        let _value = signed(&mut record)?;
        let _frame = varint(&mut record)?;
        if varint(&mut record)? != NO_OP_RECORD {
            count += 1;
        }
    }
    Ok(count)
}

/// A length in zigzag encoding; a negative one has no place here.
fn signed(rest: &mut &[u8]) -> Result<usize, LogError> {
    let value = varint(rest)?;
    if value & 1 == 1 {
        return Err(LogError::Format);
    }
    usize::try_from(value >> 1).map_err(|_| LogError::Format)
}

fn varint(rest: &mut &[u8]) -> Result<u64, LogError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, next) = rest.split_first().ok_or(LogError::Format)?;
        *rest = next;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(LogError::Format)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch with one record of each kind given.
    fn batch(attributes: u16, kinds: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        for (number, kind) in kinds.iter().enumerate() {
            let value = [1, *kind, 0];
            let offset = u8::try_from(number * 2).expect("few");
            let record = [&[0, 0, offset, 1, 6][..], &value, &[0]].concat();
            records.push(u8::try_from(record.len() * 2).expect("short"));
            records.extend(record);
        }
        let mut bytes = vec![0; HEADER];
        let length = u32::try_from(HEADER - LENGTH_END + records.len()).expect("short");
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        bytes[57..61].copy_from_slice(&u32::try_from(kinds.len()).expect("few").to_be_bytes());
        bytes.extend(records);
        bytes
    }

    #[test]
    fn records_that_say_nothing_are_not_counted() {
        let log = [batch(0, &[2, 20, 3]), batch(CONTROL, &[2]), batch(0, &[20]), vec![0; 100]].concat();
        assert_eq!(in_segment(&log).ok(), Some(2));
    }

    #[test]
    fn a_batch_that_is_half_written_is_left_out() {
        let whole = batch(0, &[2]);
        let log = [whole.as_slice(), &batch(0, &[2, 2])[..65]].concat();
        assert_eq!(in_segment(&log).ok(), Some(1));
    }

    #[test]
    fn what_is_no_log_is_an_error() {
        let mut log = batch(0, &[2]);
        log[16] = 1;
        assert!(in_segment(&log).is_err());
    }
}
