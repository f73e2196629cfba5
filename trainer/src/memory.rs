//! Whether batch and crop fit into memory, found before the first step: real steps on one crop and on a few say what
//! a crop costs, and a straight line says the rest. Steps on the whole batch would be the very crash that this is to
//! prevent. Only what the system counts as resident is seen, so nothing is said of a GPU's own memory.

use burn::tensor::Device;
use remaster_model::Vgg19;
use tracing::info;

use crate::TrainError;
use crate::checkpoint::RunIdentity;
use crate::data::Batch;
use crate::recipe::{Recipe, Stage};
use crate::step::{Networks, Objective};

/// Crops of the larger trial.
const TRIAL_CROPS: usize = 3;
/// Left free: decoded pairs, batches made ahead, and what the allocator cannot give back.
const RESERVE_MIB: u64 = 768;
/// Sides that are proposed divide by this: good for every network here.
const SIDE_MULTIPLE_PX: u32 = 8;

/// What a number of crops took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Crops in the batch.
    pub crops: usize,
    /// Most memory held.
    pub peak_mib: u64,
}

/// What is wanted of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Crops in a batch.
    pub batch_size: usize,
    /// Side of an LR crop.
    pub lq_size_px: u32,
    /// What may be held.
    pub budget_mib: u64,
}

/// What a batch will take and what would fit, from two trials.
///
/// # Errors
/// [`TrainError::TooLarge`] with the batch that would fit or, where not one crop does, with the crop.
pub fn judge(small: Trial, large: Trial, wanted: Wanted) -> Result<(u64, usize), TrainError> {
    let more = (large.crops - small.crops).max(1) as u64;
    let crop_mib = (large.peak_mib.saturating_sub(small.peak_mib) as f64 / more as f64).max(1e-3);
    let base_mib = (small.peak_mib as f64 - crop_mib * small.crops as f64).max(0.0);
    let needed_mib = (base_mib + crop_mib * wanted.batch_size as f64).ceil() as u64;
    let free_mib = wanted.budget_mib.saturating_sub(RESERVE_MIB) as f64 - base_mib;
    let fitting = (free_mib / crop_mib).max(0.0) as usize;
    if fitting >= wanted.batch_size {
        return Ok((needed_mib, fitting));
    }
    let side = f64::from(wanted.lq_size_px) * (free_mib.max(0.0) / crop_mib).sqrt();
    let lq_size_px = side as u32 / SIDE_MULTIPLE_PX * SIDE_MULTIPLE_PX;
    let advice = match (fitting, lq_size_px) {
        (0, 0) => "not even the network fits: use a smaller one or more memory".to_owned(),
        (0, side) => format!("not one crop fits: set lq_size to {side} and batch_size to 1"),
        (crops, _) => format!(
            "set batch_size to {crops} (accum_iter = {} keeps the gradient's size)",
            wanted.batch_size.div_ceil(crops)
        ),
    };
    Err(TrainError::TooLarge {
        batch_size: wanted.batch_size,
        lq_size_px: wanted.lq_size_px,
        needed_mib: needed_mib + RESERVE_MIB,
        budget_mib: wanted.budget_mib,
        advice,
    })
}

/// Tries the hungriest stage on networks of its own and says what it found.
///
/// # Errors
/// [`TrainError::TooLarge`], or why a step failed.
pub fn check(
    identity: &RunIdentity,
    recipe: &Recipe,
    vgg: Option<&Vgg19>,
    wanted: Wanted,
    device: &Device,
) -> Result<(), TrainError> {
    let hungriest = recipe
        .stages
        .iter()
        .position(|stage| stage.gan_opt.is_some())
        .unwrap_or(0);
    let mut networks = Networks::new(&identity.arch, identity.scale, recipe, 0, device)?;
    if hungriest > 0 {
        networks = networks.into_stage(recipe, hungriest, 0, device)?;
    }
    // What the process held before is no part of it, where the system forgets it on request.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let mut trial = |crops: usize| -> Result<Option<Trial>, TrainError> {
        let stage = Stage {
            net_d_init_iters: 0,
            ..recipe.stages[hungriest].clone()
        };
        let objective = Objective {
            stage: &stage,
            stage_step: stage.total_iter,
            vgg,
            rate_share: 0.0,
        };
        networks.step(
            &[grey(crops, wanted.lq_size_px, identity.scale)],
            objective,
            device,
        )?;
        Ok(crate::meter::peak_rss_mib().map(|peak_mib| Trial { crops, peak_mib }))
    };
    let (small, large) = (trial(1)?, trial(TRIAL_CROPS)?);
    let (Some(small), Some(large)) = (small, large) else {
        info!("memory: this system does not say what is held, so nothing was checked");
        return Ok(());
    };
    let (needed_mib, fitting) = judge(small, large, wanted)?;
    info!(
        needed_mib,
        budget_mib = wanted.budget_mib,
        "memory: batch_size {} fits, up to {fitting} crops of {} px would",
        wanted.batch_size,
        wanted.lq_size_px
    );
    Ok(())
}

/// Memory that this process may hold: what is free and what it has, within its control group.
#[must_use]
pub fn machine_mib() -> Option<u64> {
    let field = |text: &str, name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
    };
    let available = field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let held = field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map(|bytes| bytes >> 20);
    Some((available + held).min(group.unwrap_or(u64::MAX)))
}

fn grey(crops: usize, lq_size_px: u32, scale: u32) -> Batch {
    let (lq_size_px, gt_size_px) = (lq_size_px as usize, (lq_size_px * scale) as usize);
    Batch {
        number: 0,
        count: crops,
        lq_size_px,
        gt_size_px,
        lr: vec![0.5; crops * 3 * lq_size_px * lq_size_px],
        hr: vec![0.5; crops * 3 * gt_size_px * gt_size_px],
        counts: vec![],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SMALL: Trial = Trial {
        crops: 1,
        peak_mib: 1_100,
    };
    const LARGE: Trial = Trial {
        crops: 3,
        peak_mib: 1_300,
    };

    fn judged(batch_size: usize, budget_mib: u64) -> Result<(u64, usize), String> {
        let wanted = Wanted {
            batch_size,
            lq_size_px: 64,
            budget_mib,
        };
        judge(SMALL, LARGE, wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_batch_that_fits_is_told_what_else_would() {
        // 1000 MiB at rest and 100 a crop.
        assert_eq!(judged(8, 1_000 + 1_000 + RESERVE_MIB).unwrap(), (1_800, 10));
    }

    #[test]
    fn a_batch_that_does_not_fit_names_the_one_that_would() {
        let error = judged(16, 1_000 + 500 + RESERVE_MIB).unwrap_err();
        assert!(error.contains("set batch_size to 5 (accum_iter = 4"), "{error}");
        let error = judged(16, 1_000 + 50 + RESERVE_MIB).unwrap_err();
        assert!(error.contains("set lq_size to 40 and batch_size to 1"), "{error}");
        assert!(judged(16, 900).unwrap_err().contains("not even the network fits"));
    }
}
