//! The film, and discs simulated from it by the same script that the demo uses.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The film that `make setup` put into the cache.
///
/// # Errors
/// When it is not there.
pub fn film() -> anyhow::Result<PathBuf> {
    let film = cache().join("film/bbb.mp4");
    ensure!(
        film.is_file(),
        "the film is not at {}; run make setup",
        film.display()
    );
    Ok(film)
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"))
        .join("remaster")
}

/// Three episodes as a person would own them, in a folder of their own.
#[derive(Debug, Clone)]
pub struct Discs {
    /// Folder with `ep1.sd.mkv`, `ep1.hd.mkv`, ... and `season.toml`.
    pub dir: PathBuf,
}

impl Discs {
    /// Makes discs of so many seconds an episode, or takes those that an earlier test made with the same script.
    ///
    /// # Errors
    /// When the film is not there or ffmpeg fails.
    pub fn make(seconds: u32) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/make-discs.sh");
        let text = std::fs::read(&script).with_context(|| format!("cannot read {}", script.display()))?;
        let version = remaster_domain::ContentHash::of(&text);
        let dir = cache().join(format!("discs/{}-{seconds}", version.short()));
        if dir.join("season.toml").is_file() {
            return Ok(Self { dir });
        }
        std::fs::create_dir_all(cache().join("discs"))?;
        let aside = tempfile::tempdir_in(cache().join("discs"))?;
        let output = Command::new("bash")
            .arg(&script)
            .arg(film()?)
            .arg(aside.path())
            .args(["--seconds", &seconds.to_string()])
            .output()
            .context("cannot run make-discs.sh")?;
        ensure!(
            output.status.success(),
            "make-discs.sh failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // Another test may have made the same discs meanwhile; either copy will do.
        if std::fs::rename(aside.path(), &dir).is_err() {
            ensure!(
                dir.join("season.toml").is_file(),
                "cannot move the discs to {}",
                dir.display()
            );
        }
        Ok(Self { dir })
    }

    /// A file of the discs.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}
