//! A checkpoint's averages as models: `model.safetensors` that any ESRGAN tool opens, with a card that says
//! everything inference must do again in the same way. The id is the hash of the weights, so publishing twice is
//! publishing once.

use remaster_domain::{
    ColourTransform, ContentHash, InputColour, Lattice, ModelCard, OutputObject, PublishResult,
    PublishedModel, RunId,
};
use remaster_model::encode_safetensors;
use remaster_store::{Key, Store};

use crate::TrainError;
use crate::checkpoint::{self, ended_weights};
use crate::data::dataset::{Dataset, read_record};

/// Records read for the median colour: it is one transform an episode, so this sees every episode of a season.
const RECORDS_MAX: usize = 64;
/// Below this a colour matrix cannot be turned round.
const DETERMINANT_MIN: f64 = 1e-6;
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
    /// From SD colours back to HD colours; see [`colour_cube`].
    pub colour_cube: Option<ColourTransform>,
}

/// Writes one model for every ended stage, each naming the one before as its parent.
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
            sar: None,
            input_colour: InputColour {
                matrix: "bt601".to_owned(),
                range: "tv".to_owned(),
            },
            chroma_filter: "bilinear-left".to_owned(),
            colour_target: "sd".to_owned(),
            colour_cube: publication.colour_cube,
            run: Some(publication.run.clone()),
            dataset: Some(publication.dataset.clone()),
            recipe: Some(publication.recipe.clone()),
            metrics: state.record.stages[..=position].to_vec(),
            parent: published.last().map(|model| model.id.clone()),
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

/// The median over the dataset of the transforms from SD colours back to HD colours: episodes without HD have none
/// of their own. `None` where no record can be read or turned round.
///
/// # Errors
/// [`TrainError::Store`] when the store is away.
pub async fn colour_cube(store: &Store, dataset: &Dataset) -> Result<Option<ColourTransform>, TrainError> {
    let stride = dataset.pairs.len().div_ceil(RECORDS_MAX).max(1);
    let mut inverses = Vec::new();
    for pair in dataset.pairs.iter().step_by(stride) {
        match read_record(store, pair).await {
            Ok(record) => inverses.extend(invert(&record.colour)),
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(median(&inverses))
}

/// `y = A x + b` becomes `x = A' y - A' b` with A' by cofactors.
fn invert(colour: &ColourTransform) -> Option<ColourTransform> {
    let m = &colour.0;
    let cofactor = |row: usize, column: usize| {
        let (r, c) = (
            [(row + 1) % 3, (row + 2) % 3],
            [(column + 1) % 3, (column + 2) % 3],
        );
        m[r[0]][c[0]] * m[r[1]][c[1]] - m[r[0]][c[1]] * m[r[1]][c[0]]
    };
    let determinant: f64 = (0..3).map(|column| m[0][column] * cofactor(0, column)).sum();
    if !determinant.is_finite() || determinant.abs() < DETERMINANT_MIN {
        return None;
    }
    let mut inverse = [[0.0; 4]; 3];
    for (row, line) in inverse.iter_mut().enumerate() {
        let turned: [f64; 3] = std::array::from_fn(|column| cofactor(column, row) / determinant);
        line[..3].copy_from_slice(&turned);
        let offset: f64 = turned.iter().zip(m).map(|(factor, of)| factor * of[3]).sum();
        // Not `-offset`, which writes an unchanged colour as -0.0.
        line[3] = 0.0 - offset;
    }
    Some(ColourTransform(inverse))
}

/// Element by element: transforms of one season differ little, and one bad fit must not pull the rest.
fn median(transforms: &[ColourTransform]) -> Option<ColourTransform> {
    if transforms.is_empty() {
        return None;
    }
    let mut result = [[0.0; 4]; 3];
    for (row, line) in result.iter_mut().enumerate() {
        for (column, value) in line.iter_mut().enumerate() {
            let mut values: Vec<f64> = transforms
                .iter()
                .map(|transform| transform.0[row][column])
                .collect();
            values.sort_by(f64::total_cmp);
            let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
            *value = f64::midpoint(low, high);
        }
    }
    Some(ColourTransform(result))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GRADE: ColourTransform = ColourTransform([
        [0.9, 0.05, 0.01, 0.02],
        [0.03, 1.1, -0.02, -0.01],
        [0.0, 0.04, 0.95, 0.03],
    ]);

    fn apply(transform: &ColourTransform, x: [f64; 3]) -> [f64; 3] {
        transform
            .0
            .map(|line| line[0] * x[0] + line[1] * x[1] + line[2] * x[2] + line[3])
    }

    #[test]
    fn an_inverse_brings_colours_back() {
        let colour = [0.2, 0.5, 0.8];
        let back = apply(&invert(&GRADE).unwrap(), apply(&GRADE, colour));
        for (found, wanted) in back.iter().zip(colour) {
            assert!((found - wanted).abs() < 1e-12);
        }
        assert_eq!(invert(&ColourTransform([[0.0; 4]; 3])), None);
    }

    #[test]
    fn one_bad_fit_does_not_move_the_median() {
        let bad = ColourTransform([[9.0; 4]; 3]);
        assert_eq!(median(&[GRADE, bad, GRADE]), Some(GRADE));
        assert_eq!(median(&[]), None);
    }
}
