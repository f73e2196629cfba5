//! Numbers that no run is meant to have. A key with some digits too many is one error in words, not a queue that cannot be made,
//! a sum that overflows or a network that no machine holds.

use std::ops::RangeInclusive;

use super::Recipe;

/// Crops, batches and crops of a pair: a thousand times what people use.
const CROPS: RangeInclusive<u64> = 1..=65_536;
/// Batches made ahead are held in memory.
const PREFETCH: RangeInclusive<u64> = 1..=1_024;
/// Sides of crops in pixels: no disc's picture is larger at 8 times.
const SIDE_PX: RangeInclusive<u64> = 1..=16_384;
/// Steps of a stage: years of them.
const STEPS: RangeInclusive<u64> = 1..=1_000_000_000;
/// Scales that networks have.
pub(super) const SCALE: RangeInclusive<u64> = 1..=8;

impl Recipe {
    /// What is too small or too large, in words.
    pub(super) fn check_limits(&self) -> Result<(), String> {
        let train = &self.datasets.train;
        within("batch_size", train.batch_size as u64, CROPS)?;
        within("crops_per_pair", train.crops_per_pair as u64, CROPS)?;
        within("accum_iter", train.accum_iter as u64, CROPS)?;
        within("prefetch", train.prefetch as u64, PREFETCH)?;
        for (key, side) in [("gt_size", train.gt_size), ("lq_size", train.lq_size)] {
            side.map_or(Ok(()), |side| within(key, side.into(), SIDE_PX))?;
        }
        self.scale
            .map_or(Ok(()), |scale| within("scale", scale.into(), SCALE))?;
        for stage in &self.stages {
            within("total_iter", stage.total_iter, STEPS)
                .map_err(|text| format!("stage `{}`: {text}", stage.name))?;
        }
        Ok(())
    }
}

/// Checks one number of a recipe.
pub(super) fn within(key: &str, value: u64, range: RangeInclusive<u64>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(format!("{key} is {value}, expected {least} to {most}"))
}
