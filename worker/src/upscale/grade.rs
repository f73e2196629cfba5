//! A colour table of the user's on whole pictures: read from a file or from the store, applied after the models.

use std::path::Path;
use std::sync::Arc;

use remaster_domain::{ContentHash, Cube};
use remaster_pairs::Rgb;
use remaster_store::{Key, Store};

use super::model::LoadedModel;
use crate::error::WorkError;

impl LoadedModel {
    /// The same models with the table in a file after them.
    pub(crate) fn graded_by(self, file: &Path) -> Result<Self, WorkError> {
        let (_, cube) = read_cube(file)?;
        Ok(Self {
            cube: Some(Arc::new(cube)),
            ..self
        })
    }
}

/// The table in a file, and the hash that it is known by.
pub(super) fn read_cube(file: &Path) -> Result<(ContentHash, Cube), WorkError> {
    let bytes = std::fs::read(file)
        .map_err(|error| WorkError::BadInput(format!("cube {}: {error}", file.display())))?;
    let cube = parse(&file.display().to_string(), &bytes)?;
    Ok((ContentHash::of(&bytes), cube))
}

/// The table that a season was handed in with.
pub(super) async fn fetch_cube(store: &Store, sha256: &ContentHash) -> Result<Cube, WorkError> {
    let bytes = store.get_verified(&Key::source(sha256), sha256).await?;
    parse(sha256.as_str(), &bytes)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Cube, WorkError> {
    Cube::parse(&String::from_utf8_lossy(bytes))
        .map_err(|error| WorkError::BadInput(format!("cube {name}: {error}")))
}

/// The picture in the colours of the table.
pub(super) fn graded(cube: &Cube, mut picture: Rgb) -> Rgb {
    let plane = picture.width * picture.height;
    let (red, rest) = picture.data.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        [*red, *green, *blue] = cube.apply([*red, *green, *blue]);
    }
    picture
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_pixel_is_moved_by_its_own_colour() {
        let text = "LUT_1D_SIZE 2\n1 0 0\n0 1 0.5\n";
        let picture = Rgb::new(2, 1, vec![0.0, 0.25, 0.5, 1.0, 1.0, 0.0]);
        let made = graded(&Cube::parse(text).unwrap(), picture);
        assert_eq!(made.data, [1.0, 0.75, 0.5, 1.0, 0.5, 0.0]);
    }

    #[test]
    fn a_file_that_is_no_table_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("grade.cube");
        std::fs::write(&file, b"\x89PNG").unwrap();
        let error = read_cube(&file).unwrap_err().to_string();
        assert!(
            error.contains("grade.cube") && error.contains("line 1"),
            "{error}"
        );
    }
}
