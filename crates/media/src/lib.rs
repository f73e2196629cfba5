//! Everything that touches video files, and the only crate that runs ffmpeg and ffprobe.
//!
//! extract -> store -> train -> publish -> upscale: this crate reads frames for `extract` and `upscale` and writes the
//! latter's segments and final file. It promises that frame `n` of an index is the same picture wherever and however
//! it is read, that equal frames and settings give equal segment bytes, and that a file appears under its final name
//! only after it has been verified. One function turns YUV into RGB, one turns it back.
//!
//! All calls block; async callers use a blocking thread. Nothing here knows of stores, tasks or networks.

mod assemble;
mod child;
mod children;
mod cuts;
mod encode;
mod error;
mod fields;
mod frame;
mod index;
mod jpeg;
mod landing;
mod matroska;
mod mux;
mod press;
mod probe;
mod proof;
mod reader;
mod repeats;
mod restore;
mod scattered;
mod selection;
mod showinfo;
mod stretch;
mod thumbnail;
mod together;
mod tools;
mod verify;
mod yuv;

pub use assemble::{Assembled, Assembly, assemble, check_streams};
pub use children::Children;
pub use cuts::find_cuts;
pub use encode::{SegmentEncoder, SegmentFormat, try_encoder};
pub use error::MediaError;
pub use frame::{Chroma, YuvFrame};
pub use index::index;
pub use jpeg::jpeg_of;
pub use matroska::PacketFile;
pub use press::{Pressing, press};
pub use probe::{Probe, StreamInfo, StreamKind, probe};
pub use proof::FrameThumbs;
pub use reader::FrameReader;
pub use restore::Restore;
pub use scattered::{ScatteredFrames, read_frames};
pub use showinfo::FrameLine;
pub use stretch::{copy_stretch, other_streams_bytes_per_s};
pub use thumbnail::{THUMB_BYTES, thumbnail};
pub use tools::check_tools;
pub use yuv::{ColourSpec, Matrix, Range, RgbFrame, Siting, rgb_to_yuv420p10, yuv_to_rgb};
