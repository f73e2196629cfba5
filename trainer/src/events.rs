//! TensorBoard's event files, so that a run can be watched with what people have: records of length, checksums and one
//! protobuf message each. Only what a curve needs of the format is here.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use prost::Message;

/// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Added to the rotated checksum, so that a checksum of checksums is not weak.
const MASK_DELTA: u32 = 0xa282_ead8;

/// An open event file.
#[derive(Debug)]
pub struct EventFile(File);

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

impl EventFile {
    /// A new file in a folder, named by the time it was begun at, in seconds since 1970. A resumed run begins another;
    /// TensorBoard shows them as one.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(folder: &Path, wall_time: f64) -> std::io::Result<Self> {
        let name = format!("events.out.tfevents.{:010}.remaster", wall_time as u64);
        let mut file = Self(File::create(folder.join(name))?);
        file.write(&Event {
            wall_time,
            file_version: Some("brain.Event:2".to_owned()),
            ..Event::default()
        })?;
        Ok(file)
    }

    /// Appends values of a step.
    ///
    /// # Errors
    /// What the system says.
    pub fn scalars(&mut self, wall_time: f64, step: u64, values: &[(String, f32)]) -> std::io::Result<()> {
        let value = |(tag, value): &(String, f32)| Value {
            tag: tag.clone(),
            simple_value: *value,
        };
        self.write(&Event {
            wall_time,
            step: step.cast_signed(),
            file_version: None,
            summary: Some(Summary {
                value: values.iter().map(value).collect(),
            }),
        })
    }

    fn write(&mut self, event: &Event) -> std::io::Result<()> {
        self.0.write_all(&record(&event.encode_to_vec()))
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend(masked_checksum(&length).to_le_bytes());
    bytes.extend(data);
    bytes.extend(masked_checksum(data).to_le_bytes());
    bytes
}

fn masked_checksum(data: &[u8]) -> u32 {
    checksum(data).rotate_right(15).wrapping_add(MASK_DELTA)
}

/// CRC-32C, bit by bit: a record is some hundred bytes.
fn checksum(data: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !data.iter().fold(u32::MAX, byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_file_is_read_back_record_by_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 12.5).unwrap();
        file.scalars(13.0, 7, &[("l_g_pix".to_owned(), 0.25)]).unwrap();
        let path = folder.path().join("events.out.tfevents.0000000012.remaster");
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_checksum(&rest[..8]).to_le_bytes());
            let data = &rest[12..12 + length];
            assert_eq!(
                rest[12 + length..16 + length],
                masked_checksum(data).to_le_bytes()
            );
            events.push(Event::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].wall_time), (7, 13.0));
        assert_eq!(events[1].summary.as_ref().unwrap().value[0].simple_value, 0.25);
    }
}
