//! Words of the upscale stage: frame ranges, encoder settings, segments and the model to use.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Container, ContentHash, FieldChoice, PixelShape};

/// A half-open range of frames of one source in PTS order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameRange {
    /// First frame.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

impl FrameRange {
    /// Frames in the range.
    #[must_use]
    pub fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no frame in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether a frame lies in it.
    #[must_use]
    pub fn contains(self, frame: u32) -> bool {
        (self.start..self.end).contains(&frame)
    }
}

/// Video encoder of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoder {
    /// H.265 Main 10 by libx265.
    X265,
    /// H.264 High 10 by libx264.
    X264,
    /// AV1 10 bit by SVT-AV1.
    SvtAv1,
    /// Lossless FFV1, 10 bit.
    Ffv1,
    /// ProRes 422, 10 bit: for cutting programs.
    Prores,
    /// H.265 Main 10 by an NVIDIA card.
    HevcNvenc,
    /// H.265 Main 10 by an Intel processor.
    HevcQsv,
}

impl Encoder {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::X265,
        Self::X264,
        Self::SvtAv1,
        Self::Ffv1,
        Self::Prores,
        Self::HevcNvenc,
        Self::HevcQsv,
    ];

    /// The name in season files, on the command line and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X265 => "x265",
            Self::X264 => "x264",
            Self::SvtAv1 => "svt-av1",
            Self::Ffv1 => "ffv1",
            Self::Prores => "prores",
            Self::HevcNvenc => "hevc-nvenc",
            Self::HevcQsv => "hevc-qsv",
        }
    }

    /// Whether MP4 holds what it makes.
    #[must_use]
    pub const fn fits_mp4(self) -> bool {
        !matches!(self, Self::Ffv1 | Self::Prores)
    }
}

impl FromStr for Encoder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |encoder: &Self| encoder.name() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("expected one of {names}")
        })
    }
}

/// How segments are made. Part of the work key: other settings are other work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpscaleSettings {
    /// Encoder.
    pub encoder: Encoder,
    /// Constant quality, 0 (best) to 51; ffv1 and prores have none.
    pub crf: u32,
    /// Encoder preset by its own name; `medium` is the middle of every encoder.
    pub preset: String,
    /// Longest segment in frames: a lost worker costs no more than this.
    pub segment_frames_max: u32,
    /// What is not made again where the picture stands still.
    pub reuse: Reuse,
    /// Hold the colours of large areas to those of the source.
    pub colour_lock: bool,
    /// Move the colours to those of the HD discs, where the model's card knows how.
    pub hd_colours: bool,
    /// What is done with fields.
    pub fields: FieldChoice,
    /// Shape of the output's pixels.
    pub pixels: PixelShape,
    /// Lines of the output; what the model makes where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Kind of file.
    pub container: Container,
    /// Models that run before the one that the job pins, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models_before: Vec<ContentHash>,
    /// Models that run on what the pinned one made, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models_after: Vec<ContentHash>,
    /// What the output must fit into; it keeps its shape. Instead of `height`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<OutputSize>,
    /// A `.cube` file applied after the models: the object `sources/<sha256>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cube: Option<ContentHash>,
    /// Weights of nnedi3, which then invents the missing lines where every frame is deinterlaced: the object
    /// `sources/<sha256>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nnedi_weights: Option<ContentHash>,
    /// Numbers that the networks count in.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

impl Default for UpscaleSettings {
    fn default() -> Self {
        Self {
            encoder: Encoder::X265,
            crf: 16,
            preset: "medium".to_owned(),
            segment_frames_max: 240,
            reuse: Reuse::Auto,
            colour_lock: false,
            hd_colours: false,
            fields: FieldChoice::Auto,
            pixels: PixelShape::Square,
            height: None,
            container: Container::Mkv,
            models_before: Vec::new(),
            models_after: Vec::new(),
            size: None,
            cube: None,
            nnedi_weights: None,
            precision: Precision::F32,
        }
    }
}

/// A width and a height in pixels, both even; written as `"1920x1080"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OutputSize {
    /// Columns.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

impl OutputSize {
    /// No television is smaller.
    const SIDE_MIN: u32 = 144;
    /// No encoder here takes more.
    const SIDE_MAX: u32 = 8192;
}

impl FromStr for OutputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| {
            let range = Self::SIDE_MIN..=Self::SIDE_MAX;
            let even = |side: &u32| range.contains(side) && side.is_multiple_of(2);
            text.parse().ok().filter(even)
        };
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self {
                    width: side(width)?,
                    height: side(height)?,
                })
            })
            .ok_or_else(|| {
                let (min, max) = (Self::SIDE_MIN, Self::SIDE_MAX);
                format!("expected WIDTHxHEIGHT, both even and {min} to {max}, as in 1920x1080")
            })
    }
}

impl TryFrom<String> for OutputSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<OutputSize> for String {
    fn from(size: OutputSize) -> Self {
        format!("{}x{}", size.width, size.height)
    }
}

/// Numbers that networks count in. Pictures are single precision before and after.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Half precision, of a narrow range: fast on any CUDA card of the last ten years.
    F16,
    /// Half precision with the range of single: for CUDA cards from 2020 on.
    Bf16,
}

impl Precision {
    /// Whether it is single precision.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// The name in season files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::F32, Self::F16, Self::Bf16];
        all.into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| "expected f32, f16 or bf16".to_owned())
    }
}

/// Which parts of a picture count as standing still, so that the network's last answer for them is used again.
/// Written as `"auto"`, `"off"` or a number of levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ReuseText", into = "ReuseText")]
pub enum Reuse {
    /// Those that differ by no more than the noise of the source, as measured.
    #[default]
    Auto,
    /// None: every frame is made whole.
    Off,
    /// Those that differ by at most so many levels of 255; 0 is exact.
    Within(u8),
}

impl Reuse {
    /// A larger threshold would reuse what moves.
    pub const LEVELS_MAX: u8 = 32;
}

impl FromStr for Reuse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let levels = || text.parse().ok().filter(|levels| *levels <= Self::LEVELS_MAX);
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            _ => levels()
                .map(Self::Within)
                .ok_or_else(|| format!("expected auto, off or 0 to {} levels", Self::LEVELS_MAX)),
        }
    }
}

/// [`Reuse`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ReuseText {
    Levels(i64),
    Word(String),
}

impl TryFrom<ReuseText> for Reuse {
    type Error = String;

    fn try_from(text: ReuseText) -> Result<Self, String> {
        match text {
            ReuseText::Levels(levels) => levels.to_string().parse(),
            ReuseText::Word(word) => word.parse(),
        }
    }
}

impl From<Reuse> for ReuseText {
    fn from(reuse: Reuse) -> Self {
        match reuse {
            Reuse::Auto => Self::Word("auto".to_owned()),
            Reuse::Off => Self::Word("off".to_owned()),
            Reuse::Within(levels) => Self::Levels(levels.into()),
        }
    }
}

/// Which model a season asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelRef {
    /// The season's name for a model; resolved once, when the job reaches the upscale stage.
    Channel(String),
    /// A published model.
    Id(ContentHash),
}

/// A finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Source frames it shows.
    pub range: FrameRange,
    /// Object `segments/<sha256>.mkv`.
    pub sha256: ContentHash,
    /// Size of the object.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reuse_is_a_word_or_a_number_of_levels() {
        for (reuse, text) in [
            (Reuse::Auto, "\"auto\""),
            (Reuse::Off, "\"off\""),
            (Reuse::Within(4), "4"),
        ] {
            assert_eq!(serde_json::to_string(&reuse).unwrap(), text);
            assert_eq!(serde_json::from_str::<Reuse>(text).unwrap(), reuse);
        }
        for bad in ["\"on\"", "33", "-1", "300"] {
            let error = serde_json::from_str::<Reuse>(bad).unwrap_err().to_string();
            assert!(error.contains("0 to 32"), "{error}");
        }
    }

    #[test]
    fn a_size_is_two_even_sides() {
        let size = OutputSize {
            width: 1920,
            height: 1080,
        };
        assert_eq!(serde_json::to_string(&size).unwrap(), "\"1920x1080\"");
        assert_eq!("1920x1080".parse(), Ok(size));
        for bad in ["1920", "1920x1081", "1920x", "20x20", "1920x1080x2", "99999x1080"] {
            assert!(
                bad.parse::<OutputSize>().unwrap_err().contains("as in 1920x1080"),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_not_asked_for_does_not_change_the_work() {
        let text = serde_json::to_string(&UpscaleSettings::default()).unwrap();
        for later in [
            "models_before",
            "models_after",
            "size",
            "cube",
            "nnedi_weights",
            "precision",
        ] {
            assert!(!text.contains(later), "{text}");
        }
    }

    #[test]
    fn settings_of_before_reuse_are_read() {
        let text = r#"{"encoder":"x264","crf":18,"preset":"fast","segment_frames_max":48}"#;
        let settings: UpscaleSettings = serde_json::from_str(text).unwrap();
        assert_eq!((settings.crf, settings.reuse), (18, Reuse::Auto));
    }
}
