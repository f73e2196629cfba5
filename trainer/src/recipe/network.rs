//! `[network_g]` and `[network_d]`: by a size that people know, by numbers, or by a size of which some numbers are
//! changed.

use std::ops::RangeInclusive;

use remaster_domain::ModelArch;
use remaster_model::{DiscriminatorConfig, UnetDiscriminatorConfig, VggDiscriminatorConfig};
use serde::Deserialize;

use super::limits::within;

const GROWTH_CHANNELS: u32 = 32;
/// Sixteen times what is published.
const FEATURES: RangeInclusive<u64> = 1..=1_024;
/// Blocks or convolutions: ten times what is published.
const DEPTH: RangeInclusive<u64> = 1..=256;
const UNSHUFFLES: [u32; 3] = [1, 2, 4];

/// `[network_g]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct NetworkG(ModelArch);

impl NetworkG {
    /// As the model card names it.
    #[must_use]
    pub fn arch(&self) -> ModelArch {
        self.0.clone()
    }

    /// What is wrong with it in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let check = |key: &str, value: u32, range| {
            within(key, value.into(), range).map_err(|text| format!("network_g: {text}"))
        };
        match self.0 {
            ModelArch::RrdbNet {
                num_feat,
                num_block,
                num_grow_ch,
                unshuffle,
            } => {
                check("num_feat", num_feat, FEATURES)?;
                check("num_block", num_block, DEPTH)?;
                check("num_grow_ch", num_grow_ch, FEATURES)?;
                if UNSHUFFLES.contains(&unshuffle) {
                    Ok(())
                } else {
                    Err(format!("network_g: unshuffle is {unshuffle}, expected 1, 2 or 4"))
                }
            }
            ModelArch::Compact { num_feat, num_conv } => {
                check("num_feat", num_feat, FEATURES)?;
                check("num_conv", num_conv, 0..=*DEPTH.end())
            }
        }
    }

    pub(super) fn unshuffle(&self) -> u32 {
        match self.0 {
            ModelArch::RrdbNet { unshuffle, .. } => unshuffle,
            ModelArch::Compact { .. } => 1,
        }
    }
}

/// The table as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    size: Option<Size>,
    #[serde(rename = "type")]
    kind: Option<Kind>,
    num_feat: Option<u32>,
    num_block: Option<u32>,
    num_grow_ch: Option<u32>,
    num_conv: Option<u32>,
    unshuffle: Option<u32>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[serde(rename = "RRDBNet")]
    RrdbNet,
    #[serde(rename = "SRVGGNetCompact")]
    Compact,
}

/// Sizes by the names of what was published in them.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum Size {
    #[serde(rename = "esrgan")]
    Esrgan,
    #[serde(rename = "esrgan-lite")]
    EsrganLite,
    #[serde(rename = "anime-6b")]
    Anime6b,
    #[serde(rename = "compact")]
    Compact,
}

const SIZES: &str = "esrgan, esrgan-lite, anime-6b or compact";

impl Size {
    /// Kind, features, blocks or convolutions.
    fn numbers(self) -> (Kind, u32, u32) {
        match self {
            Self::Esrgan => (Kind::RrdbNet, 64, 23),
            Self::EsrganLite => (Kind::RrdbNet, 32, 12),
            Self::Anime6b => (Kind::RrdbNet, 64, 6),
            Self::Compact => (Kind::Compact, 64, 16),
        }
    }
}

impl TryFrom<Table> for NetworkG {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let of_size = table.size.map(Size::numbers);
        let kind = match (table.kind, of_size) {
            (Some(kind), Some((other, ..))) if kind != other => {
                return Err(format!(
                    "network_g is a {}, but its size is a {}'s",
                    name(kind),
                    name(other)
                ));
            }
            (Some(kind), _) | (None, Some((kind, ..))) => kind,
            (None, None) => return Err(format!("network_g needs a type, or a size: {SIZES}")),
        };
        let needed = |own: Option<u32>, of_size: Option<u32>, key: &str| {
            own.or(of_size)
                .ok_or_else(|| format!("network_g needs {key}, or a size: {SIZES}"))
        };
        let foreign = |key: &str, value: Option<u32>| match value {
            Some(_) => Err(format!("network_g: a {} has no {key}", name(kind))),
            None => Ok(()),
        };
        let num_feat = needed(
            table.num_feat,
            of_size.map(|(_, features, _)| features),
            "num_feat",
        )?;
        let depth = of_size.map(|(_, _, depth)| depth);
        Ok(Self(match kind {
            Kind::RrdbNet => {
                foreign("num_conv", table.num_conv)?;
                ModelArch::RrdbNet {
                    num_feat,
                    num_block: needed(table.num_block, depth, "num_block")?,
                    num_grow_ch: table.num_grow_ch.unwrap_or(GROWTH_CHANNELS),
                    unshuffle: table.unshuffle.unwrap_or(1),
                }
            }
            Kind::Compact => {
                foreign("num_block", table.num_block)?;
                foreign("num_grow_ch", table.num_grow_ch)?;
                foreign("unshuffle", table.unshuffle)?;
                ModelArch::Compact {
                    num_feat,
                    num_conv: needed(table.num_conv, depth, "num_conv")?,
                }
            }
        }))
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::RrdbNet => "RRDBNet",
        Kind::Compact => "SRVGGNetCompact",
    }
}

/// `[network_d]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum NetworkD {
    /// Real-ESRGAN's discriminator: a logit for every pixel, crops of any size that divides by 8.
    #[serde(rename = "UNetDiscriminatorSN")]
    UnetSn {
        /// Features of its first layer.
        num_feat: u32,
    },
    /// ESRGAN's: a logit for every picture.
    #[serde(rename = "VGGStyleDiscriminator", alias = "VGGStyleDiscriminator128")]
    VggStyle {
        /// Features of its first layer.
        num_feat: u32,
        /// Side of the HR crops that it takes: 128 or 256.
        #[serde(default = "default_input_size")]
        input_size: u32,
    },
}

/// The U-Net halves its input three times.
const UNET_MULTIPLE_PX: u32 = 8;

impl NetworkD {
    /// As the networks name it.
    #[must_use]
    pub fn config(&self) -> DiscriminatorConfig {
        match *self {
            Self::UnetSn { num_feat } => DiscriminatorConfig::Unet(UnetDiscriminatorConfig {
                num_feat: num_feat as usize,
            }),
            Self::VggStyle { num_feat, input_size } => DiscriminatorConfig::Vgg(VggDiscriminatorConfig {
                num_feat: num_feat as usize,
                input_size_px: input_size as usize,
            }),
        }
    }

    /// What is wrong with it in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let (Self::UnetSn { num_feat } | Self::VggStyle { num_feat, .. }) = self;
        within("num_feat", u64::from(*num_feat), FEATURES).map_err(|text| format!("network_d: {text}"))?;
        match self {
            Self::VggStyle { input_size, .. }
                if !VggDiscriminatorConfig::SIZES_PX.contains(&(*input_size as usize)) =>
            {
                Err(format!(
                    "network_d: input_size is {input_size}, expected 128 or 256"
                ))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with HR crops of that side, in words.
    pub(super) fn check_crop(&self, gt_size: u32) -> Result<(), String> {
        match self {
            Self::UnetSn { .. } if !gt_size.is_multiple_of(UNET_MULTIPLE_PX) => Err(format!(
                "HR crops of {gt_size} px do not divide by 8, which the discriminator needs"
            )),
            Self::VggStyle { input_size, .. } if gt_size != *input_size => Err(format!(
                "HR crops of {gt_size} px do not fit a VGGStyleDiscriminator of input_size {input_size}: set gt_size to it, or take \
                 a UNetDiscriminatorSN"
            )),
            _ => Ok(()),
        }
    }
}

fn default_input_size() -> u32 {
    128
}
