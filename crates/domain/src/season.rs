//! A season: what a user submits. [`SeasonFile`] is season.toml as written, [`Season`] what is left once it is checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ContentHash, EpisodeId, Lattice, ModelRef, SeasonId, SourceRef, TaskKind, UpscaleSettings, check_needs,
};

/// The season format this reads.
const SEASON_VERSION: u32 = 1;
/// Most pairs taken from one episode where the file says nothing.
const PAIRS_PER_EPISODE: u32 = 600;
/// More would not fit the 64 KiB of an `align` result.
const PAIRS_PER_EPISODE_MAX: u32 = 1200;
/// Lines of an output: less is no television, more no encoder takes.
const HEIGHT_LINES: std::ops::RangeInclusive<u32> = 144..=4320;

/// What is wrong with a season file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeasonError {
    /// Another format version.
    #[error("season version {0} is not known: this reads version {SEASON_VERSION}")]
    Version(u32),
    /// No episode at all.
    #[error("the season has no [[episode]]")]
    NoEpisodes,
    /// Two episodes with one id.
    #[error("episode id `{0}` is used twice")]
    DuplicateEpisode(EpisodeId),
    /// An episode with neither source.
    #[error("episode `{0}` has neither `sd` nor `hd`")]
    NoSource(EpisodeId),
    /// A scale that no network here has.
    #[error("scale {0} is not supported: use 2 or 4")]
    Scale(u32),
    /// A number outside its range.
    #[error("`{key}` is {value}, expected {expected}")]
    Range {
        /// The key in the file.
        key: &'static str,
        /// What it says.
        value: u32,
        /// What it may say.
        expected: &'static str,
    },
    /// A value that does not parse.
    #[error("`{key}`: {reason}")]
    Value {
        /// The key in the file.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// season.toml as written; paths are relative to the file. Unknown keys are refused by the parser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeasonFile {
    /// Format version.
    pub version: u32,
    /// `[season]`.
    pub season: SeasonHead,
    /// `[extract]`.
    #[serde(default)]
    pub extract: ExtractTable,
    /// `[train]`.
    #[serde(default)]
    pub train: TrainTable,
    /// `[upscale]`.
    #[serde(default)]
    pub upscale: UpscaleTable,
    /// `[needs]`: what the machines must have that take a kind of task, as `upscale = "gpu.vram_mib>=8000"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<TaskKind, String>,
    /// `[[episode]]`.
    #[serde(default, rename = "episode")]
    pub episodes: Vec<EpisodeTable>,
}

/// `[season]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeasonHead {
    /// Name.
    pub name: SeasonId,
    /// Output pixels per input pixel.
    #[serde(default = "two")]
    pub scale: u32,
}

fn two() -> u32 {
    2
}

/// `[extract]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExtractTable {
    /// On whose pixels the pairs lie.
    pub lattice: Lattice,
    /// Most pairs from one episode.
    pub pairs_max: u32,
}

impl Default for ExtractTable {
    fn default() -> Self {
        Self {
            lattice: Lattice::SdNative,
            pairs_max: PAIRS_PER_EPISODE,
        }
    }
}

/// `[train]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainTable {
    /// A ready recipe's name or a TOML file.
    pub recipe: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Model that training starts from, as an id; whoever reads a season file replaces the path of a file by the id it gets.
    pub pretrained: Option<String>,
}

impl Default for TrainTable {
    fn default() -> Self {
        Self {
            recipe: "esrgan".to_owned(),
            seed: 0,
            pretrained: None,
        }
    }
}

/// `[upscale]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpscaleTable {
    /// `channel:<name>` or a model id; whoever reads a season file replaces the path of a file by the id it gets.
    pub model: String,
    /// Encoder.
    pub encoder: crate::Encoder,
    /// Constant rate factor.
    pub crf: u32,
    /// Encoder preset.
    pub preset: String,
    /// Longest segment in frames.
    pub segment_frames_max: u32,
    /// `"auto"`, `"off"` or a number of levels: what is not made again where the picture stands still.
    pub reuse: crate::Reuse,
    /// Hold the colours of large areas to those of the source.
    pub colour_lock: bool,
    /// Move the colours to those of the HD discs, where the model's card knows how.
    pub hd_colours: bool,
    /// `"auto"`, `"progressive"` or `"deinterlace"`: what is done with fields.
    pub fields: crate::FieldChoice,
    /// `"square"` or `"source"`: shape of the output's pixels.
    pub pixels: crate::PixelShape,
    /// Lines of the output; what the model makes where nothing is said.
    pub height: Option<u32>,
    /// `"mkv"` or `"mp4"`.
    pub container: crate::Container,
    /// Models that run before `model`: ids; whoever reads a season file replaces paths of files by the ids they get.
    pub before: Vec<String>,
    /// Models that run after it, as in `before`.
    pub after: Vec<String>,
    /// `"1920x1080"`: what the output must fit into, its shape kept. Instead of `height`.
    pub size: Option<crate::OutputSize>,
    /// A `.cube` file that is applied after the models, or `"card"`: the way to HD colours that the model's card knows.
    pub cube: Option<String>,
    /// nnedi3's weights, which then invents the missing lines where every frame is deinterlaced.
    pub nnedi_weights: Option<String>,
    /// `"f32"`, `"f16"` or `"bf16"`: numbers that the networks count in.
    pub precision: crate::Precision,
}

impl UpscaleTable {
    /// The value of `cube` that means the model card's own.
    pub const CARD_CUBE: &'static str = "card";
}

impl Default for UpscaleTable {
    fn default() -> Self {
        let settings = UpscaleSettings::default();
        Self {
            model: "channel:latest".to_owned(),
            encoder: settings.encoder,
            crf: settings.crf,
            preset: settings.preset,
            segment_frames_max: settings.segment_frames_max,
            reuse: settings.reuse,
            colour_lock: settings.colour_lock,
            hd_colours: settings.hd_colours,
            fields: settings.fields,
            pixels: settings.pixels,
            height: settings.height,
            container: settings.container,
            before: Vec::new(),
            after: Vec::new(),
            size: settings.size,
            cube: None,
            nnedi_weights: None,
            precision: settings.precision,
        }
    }
}

/// `[[episode]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeTable {
    /// Id.
    pub id: EpisodeId,
    /// Path of the SD copy.
    pub sd: Option<String>,
    /// Path of the HD copy.
    pub hd: Option<String>,
}

/// An episode whose files were found and hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Id.
    pub id: EpisodeId,
    /// The DVD.
    pub sd: Option<SourceRef>,
    /// The Blu-ray.
    pub hd: Option<SourceRef>,
}

/// A checked season.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Season {
    /// Name.
    pub name: SeasonId,
    /// Output pixels per input pixel.
    pub scale: u32,
    /// On whose pixels the pairs lie.
    pub lattice: Lattice,
    /// Most pairs from one episode.
    pub pairs_max: u32,
    /// Recipe as TOML text, or the name of a ready one.
    pub recipe: String,
    /// Seed of training.
    pub seed: u64,
    /// Model that training starts from; from noise where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<ContentHash>,
    /// Model to upscale with; a whole season job uses the one it trains.
    pub model: ModelRef,
    /// Encoder settings.
    pub settings: UpscaleSettings,
    /// What is asked of the workers that take a kind of task, see [`crate::needs_are_met`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<TaskKind, String>,
    /// Episodes in the order of the file.
    pub episodes: Vec<Episode>,
}

impl SeasonFile {
    /// Checks everything that needs no file: versions, ranges, ids.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), SeasonError> {
        if self.version != SEASON_VERSION {
            return Err(SeasonError::Version(self.version));
        }
        if !matches!(self.season.scale, 2 | 4) {
            return Err(SeasonError::Scale(self.season.scale));
        }
        check_range(
            "extract.pairs_max",
            self.extract.pairs_max,
            1..=PAIRS_PER_EPISODE_MAX,
            "1 to 1200",
        )?;
        check_range("upscale.crf", self.upscale.crf, 0..=51, "0 to 51")?;
        check_range(
            "upscale.segment_frames_max",
            self.upscale.segment_frames_max,
            24..=2400,
            "24 to 2400",
        )?;
        if let Some(height) = self.upscale.height {
            check_range("upscale.height", height, HEIGHT_LINES, "144 to 4320")?;
        }
        if self.upscale.height.is_some() && self.upscale.size.is_some() {
            return Err(SeasonError::Value {
                key: "upscale.size",
                reason: "`height` is there too: keep one of the two".to_owned(),
            });
        }
        parse_ids("train.pretrained", self.train.pretrained.as_slice())?;
        parse_ids("upscale.before", &self.upscale.before)?;
        parse_ids("upscale.after", &self.upscale.after)?;
        let encoder = self.upscale.encoder;
        if self.upscale.container == crate::Container::Mp4 && !encoder.fits_mp4() {
            return Err(SeasonError::Value {
                key: "upscale.container",
                reason: format!("mp4 does not hold {}: use mkv", encoder.name()),
            });
        }
        parse_model(&self.upscale.model)?;
        for needs in self.needs.values() {
            check_needs(needs).map_err(|reason| SeasonError::Value { key: "needs", reason })?;
        }
        if self.episodes.is_empty() {
            return Err(SeasonError::NoEpisodes);
        }
        let mut seen = BTreeSet::new();
        for episode in &self.episodes {
            if !seen.insert(&episode.id) {
                return Err(SeasonError::DuplicateEpisode(episode.id.clone()));
            }
            if episode.sd.is_none() && episode.hd.is_none() {
                return Err(SeasonError::NoSource(episode.id.clone()));
            }
        }
        Ok(())
    }

    /// The season once its episodes' files are hashed and its recipe is read.
    ///
    /// # Errors
    /// As [`SeasonFile::check`].
    pub fn with_episodes(self, episodes: Vec<Episode>, recipe: String) -> Result<Season, SeasonError> {
        self.check()?;
        Ok(Season {
            name: self.season.name,
            scale: self.season.scale,
            lattice: self.extract.lattice,
            pairs_max: self.extract.pairs_max,
            recipe,
            seed: self.train.seed,
            pretrained: parse_ids("train.pretrained", self.train.pretrained.as_slice())?.pop(),
            model: parse_model(&self.upscale.model)?,
            settings: UpscaleSettings {
                encoder: self.upscale.encoder,
                crf: self.upscale.crf,
                preset: self.upscale.preset,
                segment_frames_max: self.upscale.segment_frames_max,
                reuse: self.upscale.reuse,
                colour_lock: self.upscale.colour_lock,
                hd_colours: self.upscale.hd_colours
                    || self.upscale.cube.as_deref() == Some(UpscaleTable::CARD_CUBE),
                fields: self.upscale.fields,
                pixels: self.upscale.pixels,
                height: self.upscale.height,
                container: self.upscale.container,
                models_before: parse_ids("upscale.before", &self.upscale.before)?,
                models_after: parse_ids("upscale.after", &self.upscale.after)?,
                size: self.upscale.size,
                // Files have no hash before they are read: whoever reads them puts it in.
                cube: None,
                nnedi_weights: None,
                precision: self.upscale.precision,
            },
            needs: self.needs,
            episodes,
        })
    }
}

fn check_range(
    key: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
    expected: &'static str,
) -> Result<(), SeasonError> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(SeasonError::Range { key, value, expected })
    }
}

/// Models by id, none of which is a channel: what a channel names changes with every training.
fn parse_ids(key: &'static str, texts: &[String]) -> Result<Vec<ContentHash>, SeasonError> {
    let parse = |text: &String| {
        text.parse().map_err(|_| SeasonError::Value {
            key,
            reason: format!(
                "`{text}` is neither a model id of 64 hex digits nor a file beside the season file"
            ),
        })
    };
    texts.iter().map(parse).collect()
}

fn parse_model(text: &str) -> Result<ModelRef, SeasonError> {
    if let Some(channel) = text.strip_prefix("channel:") {
        return Ok(ModelRef::Channel(channel.to_owned()));
    }
    text.parse::<ContentHash>()
        .map(ModelRef::Id)
        .map_err(|_| SeasonError::Value {
            key: "upscale.model",
            reason: format!(
                "`{text}` is neither `channel:<name>`, nor a model id of 64 hex digits, nor a file beside the season file"
            ),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> SeasonFile {
        SeasonFile {
            version: 1,
            season: SeasonHead {
                name: "season-6".parse().expect("a valid name"),
                scale: 2,
            },
            extract: ExtractTable::default(),
            train: TrainTable::default(),
            upscale: UpscaleTable::default(),
            needs: BTreeMap::new(),
            episodes: vec![EpisodeTable {
                id: "S06E16".parse().expect("a valid id"),
                sd: Some("a.mkv".to_owned()),
                hd: None,
            }],
        }
    }

    #[test]
    fn a_plain_season_passes() {
        assert_eq!(file().check(), Ok(()));
    }

    #[test]
    fn needs_that_nobody_could_meet_are_refused() {
        let mut season = file();
        season
            .needs
            .insert(TaskKind::Upscale, "gpu.vram_mib>=8000".to_owned());
        assert_eq!(season.check(), Ok(()));
        season.needs.insert(TaskKind::Upscale, "a big card".to_owned());
        let refused = season.check().map_err(|error| error.to_string());
        assert!(refused.is_err_and(|text| text.contains("`needs`: `a big card`")));
    }

    #[test]
    fn a_duplicate_id_is_named() {
        let mut season = file();
        season.episodes.push(season.episodes[0].clone());
        assert_eq!(
            season.check(),
            Err(SeasonError::DuplicateEpisode(
                "S06E16".parse().expect("a valid id")
            ))
        );
    }

    #[test]
    fn an_episode_without_files_is_named() {
        let mut season = file();
        season.episodes[0].sd = None;
        assert!(matches!(season.check(), Err(SeasonError::NoSource(_))));
    }

    #[test]
    fn a_model_is_a_channel_or_an_id() {
        let mut season = file();
        season.upscale.model = "best".to_owned();
        assert!(matches!(
            season.check(),
            Err(SeasonError::Value {
                key: "upscale.model",
                ..
            })
        ));
    }
}
