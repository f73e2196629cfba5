//! The ways back to the Blu-rays' colours as .cube files in the store: each episode's own, and the season's for what has no
//! Blu-ray. A fit that cannot be turned round has none.

use remaster_domain::{ColourTransform, ContentHash, CurateEpisode, OutputObject, SeasonId};
use remaster_pairs::inverse_cube;
use remaster_store::{Key, Store};

use crate::error::WorkError;

/// Writes an episode's.
pub(super) async fn episode_cube(
    store: &Store,
    season: &SeasonId,
    episode: &CurateEpisode,
) -> Result<Option<(ContentHash, OutputObject)>, WorkError> {
    let alignment = &episode.alignment;
    let title = format!("{season} {}", episode.episode);
    put(
        store,
        season,
        inverse_cube(&title, &alignment.colour, alignment.curves.as_ref()),
    )
    .await
}

/// Writes the season's: of the median of the episodes' matrices, as in the model's card. Curves are an episode's own.
pub(super) async fn season_cube(
    store: &Store,
    season: &SeasonId,
    episodes: &[CurateEpisode],
) -> Result<Option<(ContentHash, OutputObject)>, WorkError> {
    let bought = episodes.iter().filter(|episode| !episode.span.synthetic);
    let colours: Vec<_> = bought.map(|episode| episode.alignment.colour).collect();
    let median = ColourTransform::median(&colours);
    let cube = median.and_then(|colour| inverse_cube(season.as_str(), &colour, None));
    put(store, season, cube).await
}

async fn put(
    store: &Store,
    season: &SeasonId,
    cube: Option<String>,
) -> Result<Option<(ContentHash, OutputObject)>, WorkError> {
    let Some(text) = cube else {
        return Ok(None);
    };
    let hash = ContentHash::of(text.as_bytes());
    let object = store
        .put_bytes(&Key::dataset_cube(season, &hash), text.into())
        .await?;
    Ok(Some((hash, object)))
}
