//! LPIPS and DISTS with the weights that the recipe names, if any: how far pictures look from HD. Nothing is fetched; a file
//! that is not what it should be is one error before the first step.

use std::path::PathBuf;

use burn::tensor::Device;
use remaster_model::{Dists, LIKENESS_SIDE_MIN_PX, Lpips, ModelError, RgbBatch, StateDict, read_tensors};

use super::Scores;
use crate::TrainError;
use crate::recipe::Paths;

/// The measures whose weights are there.
#[derive(Debug, Default)]
pub struct Likeness {
    lpips: Option<Lpips>,
    dists: Option<Dists>,
}

impl Likeness {
    /// Reads `path.lpips_weights` and `path.dists_weights`.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] names the key, what is wrong with its files, and the files that are meant.
    pub fn load(path: &Paths, device: &Device) -> Result<Self, TrainError> {
        let lpips = load("lpips_weights", &path.lpips_weights, LPIPS_FILES, |state| {
            Lpips::from_state(state, device)
        })?;
        let dists = load("dists_weights", &path.dists_weights, DISTS_FILES, |state| {
            Dists::from_state(state, device)
        })?;
        Ok(Self { lpips, dists })
    }

    pub(super) fn is_wanted_of(&self, width_px: usize, height_px: usize) -> bool {
        let is_any = self.lpips.is_some() || self.dists.is_some();
        is_any && width_px.min(height_px) >= LIKENESS_SIDE_MIN_PX
    }

    /// Adds to the scores of each picture of a batch how far it looks from the last, which is HD.
    pub(super) fn add_to(&self, scores: &mut [Scores], pictures: RgbBatch) -> Result<(), TrainError> {
        if let Some(lpips) = &self.lpips {
            let distances = lpips.distances_from_last(pictures.clone())?;
            let each = scores.iter_mut().zip(distances);
            each.for_each(|(scores, distance)| scores.lpips = Some(distance));
        }
        if let Some(dists) = &self.dists {
            let distances = dists.distances_from_last(pictures)?;
            let each = scores.iter_mut().zip(distances);
            each.for_each(|(scores, distance)| scores.dists = Some(distance));
        }
        Ok(())
    }
}

const LPIPS_FILES: &str = "name torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth and the head of the same network \
                           (alex.pth or vgg.pth of lpips 0.1.4)";
const DISTS_FILES: &str =
    "name torchvision's vgg16-397923af.pth and the weights.pt of DISTS, which holds alpha and beta";

fn load<T>(
    key: &str,
    files: &[PathBuf],
    meant: &str,
    make: impl FnOnce(&StateDict) -> Result<T, ModelError>,
) -> Result<Option<T>, TrainError> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut state = StateDict::new();
    for file in files {
        let read = read_tensors(file);
        state.extend(read.map_err(|error| TrainError::Recipe(format!("path.{key}: {error}")))?);
    }
    let made = make(&state);
    made.map(Some)
        .map_err(|error| TrainError::Recipe(format!("path.{key}: {error}; {meant}")))
}
