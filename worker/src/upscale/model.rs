//! Models ready to run: fetched from the store by id, or read from a file that a user names.
//!
//! A model's id is the hash of its weights, so what was fetched is proven to be what was asked for.

use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use remaster_domain::{ContentHash, Cube, ModelCard, UpscaleSettings};
use remaster_model::{
    DeviceKind, Generator, ImportedWeights, ModelError, Rounded, device, fill_model, load_model, read_weights,
};
use remaster_store::{Key, Store};

use super::grade::fetch_cube;
use crate::error::WorkError;
use crate::monitor::Monitor;

/// Networks kept in memory: a job has one or a chain of two, and as many while two jobs overlap.
const MODELS_KEPT_MAX: usize = 4;

/// A network filled with its weights, and what else is done to a picture before and after it.
#[derive(Debug, Clone)]
pub(crate) struct LoadedModel {
    pub(crate) generator: Generator,
    pub(crate) card: ModelCard,
    /// The generator in the precision that was asked for, where that is another one.
    pub(super) rounded: Option<Rounded>,
    /// Models that run first, in order.
    pub(super) before: Vec<Arc<LoadedModel>>,
    /// Models that run on what this one made, in order.
    pub(super) after: Vec<Arc<LoadedModel>>,
    /// A colour table for what the last of them made.
    pub(super) cube: Option<Arc<Cube>>,
}

/// `cpu`, `cuda` or `cuda:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceChoice(DeviceKind);

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let cuda = |number: &str| number.parse().ok().map(DeviceKind::LibtorchCuda);
        let kind = match text.split_once(':') {
            None if text == "cpu" => Some(DeviceKind::default()),
            None if text == "cuda" => Some(DeviceKind::LibtorchCuda(0)),
            Some(("cuda", number)) => cuda(number),
            _ => None,
        };
        kind.map(Self)
            .ok_or_else(|| "expected cpu, cuda or cuda:N".to_owned())
    }
}

impl DeviceChoice {
    /// Makes sure that it is there.
    pub(crate) fn open(self) -> Result<(), ModelError> {
        device(self.0).map(drop)
    }

    /// Whether it is a card.
    pub(super) const fn is_cuda(self) -> bool {
        matches!(self.0, DeviceKind::LibtorchCuda(_))
    }
}

/// The models used lately.
#[derive(Debug, Default)]
pub(crate) struct Models {
    device: DeviceChoice,
    loaded: Mutex<Vec<(ContentHash, Arc<LoadedModel>)>>,
}

impl Models {
    /// Models that run on `device`.
    pub(crate) fn on(device: DeviceChoice) -> Self {
        Self {
            device,
            loaded: Mutex::default(),
        }
    }

    /// The model of that id.
    pub(crate) async fn get(
        &self,
        store: &Store,
        id: &ContentHash,
        monitor: &Monitor,
    ) -> Result<Arc<LoadedModel>, WorkError> {
        if let Some(model) = self.remembered(id) {
            return Ok(model);
        }
        let card: ModelCard = store.get_json(&Key::model_card(id)).await?;
        let weights = store.get_verified(&Key::model_weights(id), id).await?;
        let device = self.device;
        let model = Arc::new(monitor.blocking(move || load(&weights, card, device)).await?);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.len() == MODELS_KEPT_MAX {
            loaded.remove(0);
        }
        loaded.push((id.clone(), Arc::clone(&model)));
        Ok(model)
    }

    /// All that the settings ask for besides the model itself.
    pub(crate) async fn chain(
        &self,
        store: &Store,
        id: &ContentHash,
        settings: &UpscaleSettings,
        monitor: &Monitor,
    ) -> Result<LoadedModel, WorkError> {
        let mut around = [Vec::new(), Vec::new()];
        for (models, ids) in around
            .iter_mut()
            .zip([&settings.models_before, &settings.models_after])
        {
            for id in ids {
                models.push(self.get(store, id, monitor).await?);
            }
        }
        let [before, after] = around;
        let mut model = self.get(store, id, monitor).await?.in_chain(before, after)?;
        if let Some(sha256) = &settings.cube {
            model.cube = Some(Arc::new(fetch_cube(store, sha256).await?));
        }
        Ok(model.at(settings.precision))
    }

    fn remembered(&self, id: &ContentHash) -> Option<Arc<LoadedModel>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, model)| Arc::clone(model))
    }
}

impl LoadedModel {
    /// A network by itself.
    pub(super) const fn new(generator: Generator, card: ModelCard) -> Self {
        Self {
            generator,
            card,
            rounded: None,
            before: Vec::new(),
            after: Vec::new(),
            cube: None,
        }
    }

    /// Reads a weights file of any kind that `remaster-model` knows, or the folder that holds `model.safetensors`;
    /// `card.json` beside it is used where it is there, and defaults are logged where it is not.
    pub(crate) fn open(path: &Path, device: DeviceChoice) -> Result<Self, WorkError> {
        let file = if path.is_dir() {
            path.join("model.safetensors")
        } else {
            path.to_owned()
        };
        let bad = |reason: String| WorkError::BadInput(format!("model {}: {reason}", file.display()));
        let weights = read_weights(&file).map_err(|error| match error {
            ModelError::File { path, reason } if path == file => bad(reason),
            other => bad(other.to_string()),
        })?;
        let card_file = file.with_file_name("card.json");
        let card: ModelCard = match std::fs::read(&card_file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| bad(format!("card {} cannot be read: {error}", card_file.display())))?,
            Err(_) => assumed_card(&weights, &file),
        };
        let device = remaster_model::device(device.0)?;
        let generator = fill_model(&weights.state, &card.arch, card.scale, &device)
            .map_err(|error| bad(error.to_string()))?;
        Ok(Self::new(generator, card))
    }
}

fn load(weights: &[u8], card: ModelCard, choice: DeviceChoice) -> Result<LoadedModel, WorkError> {
    let device = device(choice.0)?;
    let generator = load_model(weights, &card, &device)?;
    Ok(LoadedModel::new(generator, card))
}

/// What a file of weights alone lets one assume.
fn assumed_card(weights: &ImportedWeights, file: &Path) -> ModelCard {
    tracing::warn!(
        model = %file.display(),
        format = ?weights.format,
        arch = ?weights.arch,
        scale = weights.scale,
        "no card.json beside the model: taken for one trained on BT.601 RGB that keeps its input's colours"
    );
    ModelCard::assumed(weights.arch.clone(), weights.scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::default()));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice(DeviceKind::LibtorchCuda(3))));
        assert!("gpu".parse::<DeviceChoice>().is_err() && "cuda:x".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn a_file_that_is_no_model_is_named() {
        let error = LoadedModel::open(Path::new("/nowhere/m.safetensors"), DeviceChoice::default());
        assert!(matches!(error, Err(WorkError::BadInput(text)) if text.contains("/nowhere/m.safetensors")));
    }
}
