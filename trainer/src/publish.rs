//! A checkpoint's averages as models: `model.safetensors` that any ESRGAN tool opens, with a card that says
//! everything inference must do again in the same way. The id is the hash of the weights, so publishing twice is
//! publishing once.

use remaster_domain::{
    ColourTransform, ContentHash, InputColour, Lattice, ModelCard, OutputObject, PublishResult,
    PublishedModel, Rational, RunId,
};
use remaster_model::encode_safetensors;
use remaster_store::{Key, Store};

use crate::TrainError;
use crate::checkpoint::{self, ended_weights};
use crate::data::dataset::{Dataset, readable_records};

/// Records read for the median colour: it is one transform an episode, so this sees every episode of a season.
const RECORDS_MAX: usize = 64;
const LICENCE_NOTE: &str = "trained by its owner on discs of their own; the rights in those pictures stay with their \
                            holders, so check them before passing this model on";

/// What to publish.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Run that made the checkpoint.
    pub run: RunId,
    /// The checkpoint.
    pub checkpoint: ContentHash,
    /// sha256 of the dataset manifest.
    pub dataset: ContentHash,
    /// Recipe as TOML text.
    pub recipe: String,
    /// Lattice of the pairs.
    pub lattice: Lattice,
    /// What the pairs say of themselves.
    pub seen: SeenInPairs,
}

/// What a card takes from the records of the pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SeenInPairs {
    /// The median over the dataset of the transforms from SD colours back to HD colours: episodes without HD have none
    /// of their own. `None` where no record can be read or turned round.
    pub colour_cube: Option<ColourTransform>,
    /// Pixel aspect of the LR pictures; `None` where the records do not agree.
    pub sar: Option<Rational>,
    /// Lines that whole SD frames were resampled to, the median; `None` where their pixels were left alone.
    pub input_lines: Option<u32>,
}

/// Writes one model for every ended stage, each naming the one before as its parent, the first what the run started from.
///
/// # Errors
/// [`TrainError::Checkpoint`] when no stage has ended, [`TrainError::Store`].
pub async fn publish(
    checkpoints: &Store,
    models: &Store,
    publication: Publication,
) -> Result<(PublishResult, Vec<OutputObject>), TrainError> {
    let (state, tensors) = checkpoint::read(checkpoints, &publication.checkpoint).await?;
    if state.identity.run != publication.run || state.identity.dataset != publication.dataset {
        return Err(TrainError::Checkpoint(format!(
            "{} is of another run",
            publication.checkpoint.short()
        )));
    }
    if state.record.stages.is_empty() {
        return Err(TrainError::Checkpoint("has no ended stage to publish".to_owned()));
    }
    let (mut published, mut objects): (Vec<PublishedModel>, Vec<OutputObject>) = Default::default();
    for (position, stage) in state.record.stages.iter().enumerate() {
        let bytes = encode_safetensors(&ended_weights(&tensors, &stage.stage));
        let id = ContentHash::of(&bytes);
        let card = ModelCard {
            version: 1,
            arch: state.identity.arch.clone(),
            scale: state.identity.scale,
            lattice: publication.lattice,
            sar: publication.seen.sar,
            input_lines: publication.seen.input_lines,
            input_colour: InputColour {
                matrix: "bt601".to_owned(),
                range: "tv".to_owned(),
            },
            chroma_filter: "bilinear-left".to_owned(),
            colour_target: "sd".to_owned(),
            colour_cube: publication.seen.colour_cube,
            run: Some(publication.run.clone()),
            dataset: Some(publication.dataset.clone()),
            recipe: Some(publication.recipe.clone()),
            metrics: state.record.stages[..=position].to_vec(),
            parent: published
                .last()
                .map(|model| model.id.clone())
                .or_else(|| state.record.parent.clone()),
            licence_note: LICENCE_NOTE.to_owned(),
        };
        let card = serde_json::to_vec_pretty(&card).expect("a card is plain data with string keys");
        objects.push(models.put_bytes(&Key::model_weights(&id), bytes.into()).await?);
        objects.push(models.put_bytes(&Key::model_card(&id), card.into()).await?);
        published.push(PublishedModel {
            stage: stage.stage.clone(),
            id,
        });
    }
    Ok((PublishResult { models: published }, objects))
}

/// Reads some records of the dataset for what the card says of them; synthetic pairs have not met a DVD.
///
/// # Errors
/// [`TrainError::Store`] when the store is away.
pub async fn seen_in_pairs(store: &Store, dataset: &Dataset) -> Result<SeenInPairs, TrainError> {
    let real: Vec<_> = dataset.pairs.iter().filter(|pair| !pair.synthetic).collect();
    let stride = real.len().div_ceil(RECORDS_MAX).max(1);
    let (mut inverses, mut aspects, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let looked_at = real.into_iter().step_by(stride).cloned().collect();
    for record in readable_records(store, looked_at).await?.into_iter().flatten() {
        inverses.extend(record.colour.inverse());
        aspects.push(record.sar);
        lines.extend(record.hd_place.map(|place| place.lines));
    }
    let sar = aspects
        .first()
        .copied()
        .flatten()
        .filter(|_| aspects.windows(2).all(|two| two[0] == two[1]));
    Ok(SeenInPairs {
        colour_cube: ColourTransform::median(&inverses),
        sar,
        input_lines: middle(lines),
    })
}

fn middle(mut lines: Vec<u32>) -> Option<u32> {
    lines.sort_unstable();
    lines.get(lines.len() / 2).copied()
}
