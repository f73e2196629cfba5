//! What a season file asks for around its model: models before and after it, a colour table after all of them, weights of a
//! deinterlacer. Files have no id before they are brought into the store, so they are set aside here and brought when the
//! season is handed in.

use std::path::{Path, PathBuf};

use remaster_domain::{ContentHash, Cube, SeasonError, UpscaleTable, check_nnedi_weights};

/// A model of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamedModel {
    /// Already in the store.
    Id(ContentHash),
    /// Weights beside the season file.
    File(PathBuf),
}

/// All that is done to a picture besides the model itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Around {
    /// Models that run first, in order.
    pub(crate) before: Vec<NamedModel>,
    /// Models that run on what the model made, in order.
    pub(crate) after: Vec<NamedModel>,
    /// A `.cube` file that was read and found good.
    pub(crate) cube: Option<PathBuf>,
    /// nnedi3's weights, of the right size.
    pub(crate) nnedi_weights: Option<PathBuf>,
}

impl Around {
    /// Takes out of the table what names files; whatever is neither a file nor an id stays there to be complained of.
    pub(super) fn take(season: &Path, table: &mut UpscaleTable) -> Result<Self, SeasonError> {
        let refused = |key| move |reason| SeasonError::Value { key, reason };
        let is_file = |name: &mut String| name != UpscaleTable::CARD_CUBE;
        let cube = table.cube.take_if(is_file);
        let weights = table.nnedi_weights.take();
        Ok(Self {
            before: take_models(season, &mut table.before),
            after: take_models(season, &mut table.after),
            cube: cube
                .map(|name| checked_cube(season, &name))
                .transpose()
                .map_err(refused("upscale.cube"))?,
            nnedi_weights: weights
                .map(|name| checked_weights(season, &name))
                .transpose()
                .map_err(refused("upscale.nnedi_weights"))?,
        })
    }
}

fn take_models(season: &Path, names: &mut Vec<String>) -> Vec<NamedModel> {
    let file_of = |name: &str| Some(season.with_file_name(name)).filter(|file| file.is_file());
    let named = |name: &String| {
        file_of(name)
            .map(NamedModel::File)
            .or_else(|| name.parse().ok().map(NamedModel::Id))
    };
    if let Some(models) = names.iter().map(named).collect() {
        names.clear();
        return models;
    }
    names.retain(|name| file_of(name).is_none());
    Vec::new()
}

/// The file, once it is sure that it is a table: a worker would find out after the minutes that an index takes.
fn checked_cube(season: &Path, name: &str) -> Result<PathBuf, String> {
    let file = season.with_file_name(name);
    let bytes = std::fs::read(&file)
        .map_err(|error| format!("`{name}` is neither `card` nor a file beside the season file: {error}"))?;
    Cube::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| format!("{name}: {error}"))?;
    Ok(file)
}

fn checked_weights(season: &Path, name: &str) -> Result<PathBuf, String> {
    let file = season.with_file_name(name);
    let bytes = std::fs::metadata(&file)
        .map_err(|error| format!("`{name}` is no file beside the season file: {error}"))?
        .len();
    check_nnedi_weights(bytes).map_err(|reason| format!("{name}: {reason}"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use remaster_domain::NNEDI_WEIGHTS_BYTES;

    use super::*;

    #[test]
    fn files_and_ids_are_taken_and_what_is_neither_stays() {
        let folder = tempfile::tempdir().unwrap();
        let season = folder.path().join("season.toml");
        std::fs::write(folder.path().join("1x.pth"), b"x").unwrap();
        std::fs::write(folder.path().join("grade.cube"), "LUT_1D_SIZE 2\n0 0 0\n1 1 1\n").unwrap();
        let id = ContentHash::of(b"a model");
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut table = UpscaleTable {
            before: names(&["1x.pth", id.as_str()]),
            after: names(&["1x.pth", "2x.pth"]),
            cube: Some("grade.cube".to_owned()),
            ..UpscaleTable::default()
        };
        let around = Around::take(&season, &mut table).unwrap();
        let file = NamedModel::File(folder.path().join("1x.pth"));
        assert_eq!(around.before, [file, NamedModel::Id(id)]);
        assert_eq!((table.before.len(), &table.after), (0, &names(&["2x.pth"])));
        assert_eq!(around.cube, Some(folder.path().join("grade.cube")));

        table.cube = Some("1x.pth".to_owned());
        assert!(
            Around::take(&season, &mut table)
                .unwrap_err()
                .to_string()
                .contains("1x.pth: line 1")
        );
        table.cube = Some("none.cube".to_owned());
        assert!(
            Around::take(&season, &mut table)
                .unwrap_err()
                .to_string()
                .contains("neither `card` nor a file")
        );
        table.cube = Some("card".to_owned());
        Around::take(&season, &mut table).unwrap();
        assert_eq!(table.cube.as_deref(), Some("card"));
    }

    #[test]
    fn weights_of_another_size_are_no_weights_of_nnedi() {
        let folder = tempfile::tempdir().unwrap();
        let season = folder.path().join("season.toml");
        let weights = folder.path().join("nnedi3_weights.bin");
        let take = || {
            let mut table = UpscaleTable {
                nnedi_weights: Some("nnedi3_weights.bin".to_owned()),
                ..UpscaleTable::default()
            };
            Around::take(&season, &mut table).map_err(|error| error.to_string())
        };
        assert!(take().unwrap_err().contains("is no file beside the season file"));
        let file = std::fs::File::create(&weights).unwrap();
        assert!(take().unwrap_err().contains("it has 0 bytes"));
        file.set_len(NNEDI_WEIGHTS_BYTES).unwrap();
        assert_eq!(take().unwrap().nnedi_weights, Some(weights));
    }
}
