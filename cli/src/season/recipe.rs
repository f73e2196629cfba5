//! The recipe that a season names: a ready one by name, or a file whose text travels with the job.

use std::path::Path;

use remaster_service::CliError;

/// Ready recipes, which the trainer knows by name. A test holds this list and the trainer's folder together.
const READY: [&str; 6] = [
    "compact",
    "demo",
    "demo-esrgan-lite",
    "esrgan",
    "esrgan-lite",
    "real-esrgan-finetune",
];

/// The name of a ready recipe, or the text of a recipe file.
pub(crate) fn resolve(folder: &Path, recipe: &str) -> Result<String, CliError> {
    if READY.contains(&recipe) {
        return Ok(recipe.to_owned());
    }
    let path = folder.join(recipe);
    let refused = |message: String| {
        CliError::usage(format!("`train.recipe`: {message}")).with_hint(format!(
            "name a TOML file beside the season file, or one of {}",
            READY.join(", ")
        ))
    };
    if !path.is_file() {
        return Err(refused(format!(
            "`{recipe}` is neither a ready recipe nor a file"
        )));
    }
    let text =
        std::fs::read_to_string(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    toml::from_str::<toml::Table>(&text)
        .map_err(|error| refused(format!("{}: {}", path.display(), error.message())))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_ready_recipes_are_those_of_the_trainer() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/recipes");
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                entry
                    .unwrap()
                    .path()
                    .file_stem()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        assert_eq!(names, READY);
    }

    #[test]
    fn a_file_travels_as_text_and_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine.toml"), "name = \"mine\"\n").unwrap();
        std::fs::write(folder.path().join("bad.toml"), "name = ").unwrap();
        assert_eq!(resolve(folder.path(), "mine.toml").unwrap(), "name = \"mine\"\n");
        assert_eq!(resolve(folder.path(), "esrgan").unwrap(), "esrgan");
        assert!(
            resolve(folder.path(), "esrgam")
                .unwrap_err()
                .message
                .contains("neither a ready recipe nor a file")
        );
        assert!(
            resolve(folder.path(), "bad.toml")
                .unwrap_err()
                .message
                .contains("bad.toml")
        );
    }
}
