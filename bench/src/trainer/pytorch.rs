//! The PyTorch process, spoken to by lines of JSON, and the Python that it needs.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// What the peer needs, from PyPI: the libtorch that ours links.
const PACKAGES: [&str; 3] = ["torch==2.9.0", "numpy", "safetensors"];

/// The PyTorch process; ends when its stdin is closed.
pub(super) struct Peer {
    child: Child,
    wishes: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    pub(super) fn start(python: &Path, file: &Path, settings: &Value) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/train_peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(file)
            .arg(settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start the PyTorch peer")?;
        let wishes = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the peer has no stdout")?);
        Ok(Self {
            child,
            wishes,
            answers,
        })
    }

    /// Sends a wish and waits for its answer.
    pub(super) fn ask(&mut self, wish: &Value) -> anyhow::Result<Value> {
        let wishes = self.wishes.as_mut().context("the peer has ended")?;
        writeln!(wishes, "{wish}")?;
        wishes.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the peer answered `{line}`"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.wishes.take());
        let _ = self.child.wait();
    }
}

/// A Python with what the peer needs, made under the cache on the first call.
pub(super) fn python() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = cache.or(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = folder.join("remaster/bench-python");
    let python = folder.join("bin/python");
    let is_ready = || {
        let import = Command::new(&python)
            .args(["-c", "import torch, numpy, safetensors"])
            .status();
        import.is_ok_and(|status| status.success())
    };
    if !is_ready() {
        let made = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .status()?;
        ensure!(
            made.success(),
            "could not make a Python environment: install python3-venv"
        );
        let got = Command::new(&python)
            .args(["-m", "pip", "install", "-q"])
            .args(PACKAGES)
            .status()?;
        ensure!(
            got.success() && is_ready(),
            "could not install {}",
            PACKAGES.join(" ")
        );
    }
    Ok(python)
}
