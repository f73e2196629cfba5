//! Reads the packets of a Matroska file with one video track, and writes one with timestamps of our choice.
//!
//! Segments are written by ffmpeg with evenly spaced timestamps; the final file must have the source's, however uneven.
//! No option of ffmpeg assigns a table of timestamps to packets, so the few elements that a video track needs are read
//! and written here (RFC 9559). Everything else about the final file stays ffmpeg's work.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const EBML: u32 = 0x1A45_DFA3;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const CODEC_ID: u32 = 0x86;
const CODEC_PRIVATE: u32 = 0x63A2;
const VIDEO: u32 = 0xE0;
const PIXEL_WIDTH: u32 = 0xB0;
const PIXEL_HEIGHT: u32 = 0xBA;
const CLUSTER: u32 = 0x1F43_B675;
const TIMESTAMP: u32 = 0xE7;
const SIMPLE_BLOCK: u32 = 0xA3;
const BLOCK_GROUP: u32 = 0xA0;
const BLOCK: u32 = 0xA1;
const REFERENCE: u32 = 0xFB;
/// Nanoseconds per tick of every file we write; ffmpeg's own choice as well.
const TICK_NS: u64 = 1_000_000;
/// A cluster is closed here: block timestamps are 16-bit offsets from the cluster's.
const CLUSTER_MS_MAX: i64 = 20_000;
/// Bytes of block header before the picture: track, timestamp, flags.
const BLOCK_HEADER_BYTES: u64 = 4;
/// No header element is this big; a length beyond it is damage, not a reason to allocate.
const HEADER_BYTES_MAX: u64 = 1 << 20;
/// Elements within elements: what is read lies four deep, and a damaged file may say that it lies ever deeper.
const DEPTH_MAX: u32 = 8;

/// What makes two video tracks the same to a decoder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Track {
    pub(crate) codec_id: String,
    pub(crate) codec_private: Vec<u8>,
    pub(crate) width: u64,
    pub(crate) height: u64,
}

/// One coded picture, in decoding order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) pts_ms: i64,
    pub(crate) key: bool,
    offset: u64,
    bytes: usize,
}

/// The packets of a Matroska file with one video track; their data stays where it is.
#[derive(Debug)]
pub struct PacketFile<R = BufReader<File>> {
    pub(crate) track: Track,
    pub(crate) packets: Vec<Packet>,
    file: R,
}

impl PacketFile {
    /// Reads all packet positions of a file.
    ///
    /// # Errors
    /// As [`PacketFile::read`].
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::read(BufReader::new(File::open(path)?))
    }
}

impl<R: Read + Seek> PacketFile<R> {
    /// Reads all packet positions.
    ///
    /// # Errors
    /// When it cannot be read, or is not such a file.
    pub fn read(mut file: R) -> io::Result<Self> {
        let end = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut this = Self {
            track: Track::default(),
            packets: Vec::new(),
            file,
        };
        this.expect_known_header()?;
        this.walk(end, 0, DEPTH_MAX)?;
        if this.track.codec_id.is_empty() {
            return Err(damaged("no video track"));
        }
        Ok(this)
    }

    /// How many packets there are.
    #[must_use]
    pub fn packet_count(&self) -> usize {
        self.packets.len()
    }

    /// The bytes of a packet, which must be there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn data(&mut self, number: usize) -> io::Result<Vec<u8>> {
        let packet = &self.packets[number];
        let mut data = vec![0; packet.bytes];
        self.file.seek(SeekFrom::Start(packet.offset))?;
        self.file.read_exact(&mut data)?;
        Ok(data)
    }

    fn expect_known_header(&mut self) -> io::Result<()> {
        let (id, bytes) = self.element()?;
        if id != EBML {
            return Err(damaged("no EBML header"));
        }
        self.skip(bytes)
    }

    /// Visits the elements up to an offset; containers are entered, the rest is skipped.
    fn walk(&mut self, end: u64, mut cluster_ms: i64, depth: u32) -> io::Result<()> {
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(damaged("elements too deep within each other"));
        };
        while self.file.stream_position()? < end {
            let (id, bytes) = self.element()?;
            let start = self.file.stream_position()?;
            let element_end = start.saturating_add(bytes);
            if element_end > end {
                return Err(damaged("an element is longer than the file"));
            }
            match id {
                SEGMENT | INFO | TRACKS | TRACK_ENTRY | VIDEO | CLUSTER => {
                    self.walk(element_end, 0, deeper)?
                }
                TIMESTAMP_SCALE if self.unsigned(bytes)? != TICK_NS => {
                    return Err(damaged("unexpected timestamp scale"));
                }
                TIMESTAMP => cluster_ms = self.unsigned(bytes)? as i64,
                CODEC_ID => self.track.codec_id = String::from_utf8_lossy(&self.bytes(bytes)?).into_owned(),
                CODEC_PRIVATE => self.track.codec_private = self.bytes(bytes)?,
                PIXEL_WIDTH => self.track.width = self.unsigned(bytes)?,
                PIXEL_HEIGHT => self.track.height = self.unsigned(bytes)?,
                SIMPLE_BLOCK | BLOCK => self.block(id, cluster_ms, bytes)?,
                BLOCK_GROUP => {
                    let before = self.packets.len();
                    self.walk(element_end, cluster_ms, deeper)?;
                    if self.packets.len() != before + 1 {
                        return Err(damaged("a block group without one block"));
                    }
                }
                // It follows the block of its group, which was taken for a key frame until now.
                REFERENCE => self.packets.last_mut().map_or((), |packet| packet.key = false),
                _ => {}
            }
            self.file.seek(SeekFrom::Start(element_end))?;
        }
        Ok(())
    }

    fn block(&mut self, id: u32, cluster_ms: i64, bytes: u64) -> io::Result<()> {
        let offset = self.file.stream_position()? + BLOCK_HEADER_BYTES;
        let header = self.bytes(BLOCK_HEADER_BYTES)?;
        let laced = header[3] & 0x06 != 0;
        if header[0] & 0x80 == 0 || laced || bytes < BLOCK_HEADER_BYTES {
            return Err(damaged("a block of an unexpected kind"));
        }
        let pts_ms = cluster_ms
            .checked_add(i16::from_be_bytes([header[1], header[2]]).into())
            .ok_or_else(|| damaged("a timestamp past the last there is"))?;
        let key = id == BLOCK || header[3] & 0x80 != 0;
        let bytes = usize::try_from(bytes - BLOCK_HEADER_BYTES).map_err(|_| damaged("a block too long"))?;
        self.packets.push(Packet {
            pts_ms,
            key,
            offset,
            bytes,
        });
        Ok(())
    }

    /// Id and length of the element here.
    fn element(&mut self) -> io::Result<(u32, u64)> {
        let (id, _) = self.variable(true)?;
        let (bytes, unknown) = self.variable(false)?;
        if unknown {
            return Err(damaged("an element of unknown length"));
        }
        Ok((
            u32::try_from(id).map_err(|_| damaged("an element id too long"))?,
            bytes,
        ))
    }

    /// A variable-length number, and whether it is the one that means "unknown".
    fn variable(&mut self, with_marker: bool) -> io::Result<(u64, bool)> {
        let mut first = [0];
        self.file.read_exact(&mut first)?;
        let more = first[0].leading_zeros();
        if more > 7 {
            return Err(damaged("a number longer than eight bytes"));
        }
        let mut value = u64::from(first[0]);
        if !with_marker {
            value &= (1 << (7 - more)) - 1;
        }
        for byte in self.bytes(u64::from(more))? {
            value = value << 8 | u64::from(byte);
        }
        Ok((value, value == (1 << (7 * (more + 1))) - 1))
    }

    fn unsigned(&mut self, bytes: u64) -> io::Result<u64> {
        let bytes = self.bytes(bytes.min(8))?;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn bytes(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        if bytes > HEADER_BYTES_MAX {
            return Err(damaged("a header element too long"));
        }
        let mut data = vec![0; bytes as usize];
        self.file.read_exact(&mut data)?;
        Ok(data)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(|_| damaged("an element too long"))?;
        self.file.seek_relative(bytes)
    }
}

/// Writes one video track.
#[derive(Debug)]
pub(crate) struct TrackWriter {
    file: BufWriter<File>,
    cluster: Vec<u8>,
    cluster_ms: Option<i64>,
}

impl TrackWriter {
    /// Starts the file. `frame_ns` is the duration of a frame where all have the same.
    pub(crate) fn create(
        path: &Path,
        track: &Track,
        display: (u64, u64),
        frame_ns: Option<u64>,
    ) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        let doc_type = element(0x4282, b"matroska");
        file.write_all(&element(
            EBML,
            &[doc_type, number(0x4287, 4), number(0x4285, 2)].concat(),
        ))?;
        file.write_all(&SEGMENT.to_be_bytes())?;
        // Unknown length: it ends with the file, which is only read once and from front to back.
        file.write_all(&[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])?;
        let app = [element(0x4D80, b"remaster"), element(0x5741, b"remaster")].concat();
        file.write_all(&element(INFO, &[number(TIMESTAMP_SCALE, TICK_NS), app].concat()))?;
        let size = [
            number(PIXEL_WIDTH, track.width),
            number(PIXEL_HEIGHT, track.height),
        ]
        .concat();
        let shown = [number(0x54B0, display.0), number(0x54BA, display.1)].concat();
        let entry = [
            number(0xD7, 1),
            number(0x73C5, 1),
            number(0x83, 1),
            number(0x9C, 0),
            element(CODEC_ID, track.codec_id.as_bytes()),
            element(CODEC_PRIVATE, &track.codec_private),
            frame_ns.map(|ns| number(0x23_E383, ns)).unwrap_or_default(),
            element(VIDEO, &[size, shown].concat()),
        ];
        file.write_all(&element(TRACKS, &element(TRACK_ENTRY, &entry.concat())))?;
        Ok(Self {
            file,
            cluster: Vec::new(),
            cluster_ms: None,
        })
    }

    /// Writes the next packet in decoding order.
    pub(crate) fn packet(&mut self, pts_ms: i64, key: bool, data: &[u8]) -> io::Result<()> {
        let far = |start: i64| (pts_ms - start).abs() > CLUSTER_MS_MAX;
        if self.cluster_ms.is_none_or(|start| key || far(start)) {
            self.flush_cluster()?;
            let start = u64::try_from(pts_ms).map_err(|_| damaged("a negative timestamp"))?;
            self.cluster = number(TIMESTAMP, start);
            self.cluster_ms = Some(pts_ms);
        }
        let offset = i16::try_from(pts_ms - self.cluster_ms.unwrap_or(pts_ms))
            .map_err(|_| damaged("a timestamp too far from its cluster"))?;
        let mut block = vec![0x81];
        block.extend(offset.to_be_bytes());
        block.push(if key { 0x80 } else { 0 });
        block.extend_from_slice(data);
        self.cluster.extend(element(SIMPLE_BLOCK, &block));
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush_cluster()?;
        self.file.flush()
    }

    fn flush_cluster(&mut self) -> io::Result<()> {
        if self.cluster_ms.take().is_some() {
            self.file.write_all(&element(CLUSTER, &self.cluster))?;
            self.cluster.clear();
        }
        Ok(())
    }
}

/// An element: id, eight-byte length, body.
fn element(id: u32, body: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let zeros = id.iter().take_while(|&&byte| byte == 0).count();
    let mut bytes = id[zeros..].to_vec();
    let length = body.len() as u64 | 1 << 56;
    bytes.extend(length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn number(id: u32, value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a segment as this program writes them: {what}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// The writer leaves the segment's length unknown; the reader is for finished files.
    fn close_segment(path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes
            .windows(4)
            .position(|window| window == SEGMENT.to_be_bytes())
            .unwrap()
            + 4;
        let length = (bytes.len() - at - 8) as u64 | 1 << 56;
        bytes[at..at + 8].copy_from_slice(&length.to_be_bytes());
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn packets_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("track.mkv");
        let track = Track {
            codec_id: "V_TEST".to_owned(),
            codec_private: vec![1, 2, 3],
            width: 64,
            height: 36,
        };
        let packets = [
            (0, true, 5),
            (120, false, 7),
            (40, false, 1),
            (30_000, false, 2),
            (31_000, true, 9),
        ];
        let mut writer = TrackWriter::create(&path, &track, (64, 36), Some(40_000_000)).unwrap();
        for (pts_ms, key, byte) in packets {
            writer.packet(pts_ms, key, &vec![byte; 300]).unwrap();
        }
        writer.finish().unwrap();
        close_segment(&path);
        let mut read = PacketFile::open(&path).unwrap();
        assert_eq!(read.track, track);
        for (number, (pts_ms, key, byte)) in packets.into_iter().enumerate() {
            assert_eq!(
                (read.packets[number].pts_ms, read.packets[number].key),
                (pts_ms, key)
            );
            assert_eq!(read.data(number).unwrap(), vec![byte; 300]);
        }
    }

    fn small_file(path: &Path) -> Vec<u8> {
        let track = Track {
            codec_id: "V_TEST".to_owned(),
            ..Track::default()
        };
        let mut writer = TrackWriter::create(path, &track, (1, 1), None).unwrap();
        writer.packet(0, true, &[1; 50]).unwrap();
        writer.finish().unwrap();
        close_segment(path);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("track.mkv");
        let whole = small_file(&path);
        for cut in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(PacketFile::open(&path).is_err(), "cut at {cut}");
        }
    }
    #[test]
    fn elements_within_elements_without_end_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("track.mkv");
        let nested = (0..100).fold(vec![], |inner, _| element(CLUSTER, &inner));
        std::fs::write(&path, [element(EBML, &[]), nested].concat()).unwrap();
        let error = PacketFile::open(&path).unwrap_err();
        assert!(error.to_string().contains("too deep"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 9]>(), 0..9_usize), 1..6)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("track.mkv");
            let mut bytes = small_file(&path);
            for (place, with, count) in changes {
                let start = place.index(bytes.len());
                let end = (start + count).min(bytes.len());
                bytes[start..end].copy_from_slice(&with[..end - start]);
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(mut read) = PacketFile::open(&path) {
                for number in 0..read.packets.len() {
                    let _ = read.data(number);
                }
            }
        }
    }
}
