//! What a run's generator starts from instead of noise: a file on this machine, or a model in the store. One meaning for
//! `[train] pretrained` of a season, `--pretrained` and a recipe's `path.pretrain_network_g`: all weights of the very network
//! that is trained, no others.

use std::fmt;
use std::path::PathBuf;

use remaster_domain::{ContentHash, Lattice, ModelCard};
use remaster_model::{ImportedWeights, decode_weights, encode_safetensors, read_weights};
use remaster_store::{Key, Store};

use crate::TrainError;
use crate::checkpoint::RunIdentity;

/// Where the weights are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pretrained {
    /// A file of any kind that we read.
    File(PathBuf),
    /// A model in the store that has the pairs.
    Model(ContentHash),
}

impl fmt::Display for Pretrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Model(id) => write!(f, "model {id}"),
        }
    }
}

impl Pretrained {
    /// The weights, once it is sure that they are of the run's network.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] for weights of another network or scale, [`TrainError::Model`] for what is no such file,
    /// [`TrainError::Store`].
    pub(crate) async fn read(
        &self,
        store: &Store,
        identity: &RunIdentity,
    ) -> Result<ImportedWeights, TrainError> {
        let weights = match self {
            Self::File(path) => read_weights(path)?,
            Self::Model(id) => decode_weights(&store.get_verified(&Key::model_weights(id), id).await?)?,
        };
        if (&weights.arch, weights.scale) == (&identity.arch, identity.scale) {
            return Ok(weights);
        }
        Err(TrainError::Recipe(format!(
            "{self} is {:?} at {} times, but the run trains {:?} at {} times: set [network_g] to what it is, or take other weights",
            weights.arch, weights.scale, identity.arch, identity.scale
        )))
    }

    /// On whose pixels its pairs lay, where a card says so.
    pub(crate) async fn lattice(&self, store: &Store) -> Option<Lattice> {
        let card: ModelCard = match self {
            Self::File(path) => {
                serde_json::from_slice(&std::fs::read(path.with_file_name("card.json")).ok()?).ok()?
            }
            Self::Model(id) => store.get_json(&Key::model_card(id)).await.ok()?,
        };
        // A card that was only assumed at import names no dataset.
        card.dataset.map(|_| card.lattice)
    }
}

/// The model that weights are: the id that an import of them has.
pub(crate) fn model_id(weights: &ImportedWeights) -> ContentHash {
    ContentHash::of(&encode_safetensors(&weights.state))
}
