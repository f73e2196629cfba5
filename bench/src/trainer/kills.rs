//! A run that is killed at random steps, again and again, ends in the very bytes of one that was left alone: weights,
//! moments, averages and the models made of them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remaster_domain::{Checkpoint, ContentHash};
use remaster_testkit::binary;

use crate::train;

const KILLS: u32 = 20;
/// Steps of both stages.
const STEPS: u64 = 160;
/// A kill falls at most so many steps after the start: beyond one checkpoint, so that the run gets on.
const STEPS_BETWEEN_KILLS: std::ops::RangeInclusive<u64> = 1..=17;

/// Both kinds of stage and a seam between them, in steps of milliseconds.
const RECIPE: &str = r#"name = "kills"
[network_g]
type = "SRVGGNetCompact"
num_feat = 6
num_conv = 1
[network_d]
type = "UNetDiscriminatorSN"
num_feat = 2
[datasets.train]
lq_size = 16
batch_size = 2
[[stage]]
name = "l1"
total_iter = 80
optim_g = { type = "Adam", lr = 1e-3 }
scheduler = { type = "CosineAnnealing" }
pixel_opt = { type = "L1", loss_weight = 1.0 }
[[stage]]
name = "gan"
total_iter = 80
optim_g = { type = "AdamW", lr = 1e-4, weight_decay = 1e-3 }
pixel_opt = { type = "L1", loss_weight = 1e-2 }
gan_opt = { type = "ragan", loss_weight = 5e-3 }
[logger]
print_freq = 1
save_checkpoint_freq = 6
"#;

/// Prints the figures.
pub(super) fn run() -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let data = train::extracted(dir.path())?;
    let recipe = dir.path().join("kills.toml");
    std::fs::write(&recipe, RECIPE)?;
    let run = |out: &str| Run {
        recipe: recipe.clone(),
        data: data.clone(),
        out: dir.path().join(out),
    };
    let (straight, killed) = (run("straight"), run("killed"));
    ensure!(
        straight.until(u64::MAX)?.is_none(),
        "the run that was left alone was killed"
    );
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let mut at = Vec::new();
    while at.len() < KILLS as usize {
        let steps = random.random_range(STEPS_BETWEEN_KILLS);
        // Over the end and done: the rest of the kills goes to the same run begun anew.
        match killed.until(steps)? {
            Some(step) => at.push(step),
            None => {
                straight.same_end_as(&killed)?;
                std::fs::remove_dir_all(&killed.out)?;
            }
        }
    }
    killed.until(u64::MAX)?;
    straight.same_end_as(&killed)?;
    Ok(format!(
        "trainer kills: {KILLS} kill -9 at steps {at:?} of {STEPS}: weights, averages, moments and models bit-identical to an \
         undisturbed run's"
    ))
}

struct Run {
    recipe: PathBuf,
    data: PathBuf,
    out: PathBuf,
}

impl Run {
    /// Starts or goes on, and kills with SIGKILL once so many steps were logged; the step that it had reached, or none
    /// where it ended first.
    fn until(&self, steps: u64) -> anyhow::Result<Option<u64>> {
        let mut child = self.start()?;
        let log = BufReader::new(child.stderr.take().context("the trainer has no stderr")?);
        let (mut logged, mut last, mut tail) = (0, 0, String::new());
        for line in log.lines() {
            let line = line?;
            if let Some(step) = step_of(&line) {
                (logged, last) = (logged + 1, step);
            }
            if logged == steps {
                // `Child::kill` is SIGKILL.
                child.kill()?;
                child.wait()?;
                return Ok(Some(last));
            }
            tail = line;
        }
        ensure!(child.wait()?.success(), "training failed: {tail}");
        Ok(None)
    }

    fn start(&self) -> anyhow::Result<Child> {
        Command::new(binary("remaster-trainer")?)
            .arg("train")
            .arg(&self.recipe)
            .arg("--manifest")
            .arg(self.data.join("manifest.json"))
            .arg("--out")
            .arg(&self.out)
            .args(["--threads", "1"])
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start the trainer")
    }

    fn same_end_as(&self, other: &Self) -> anyhow::Result<()> {
        for file in ["l1.safetensors", "gan.safetensors"] {
            let same = std::fs::read(self.out.join(file))? == std::fs::read(other.out.join(file))?;
            ensure!(same, "{file} differs after the kills");
        }
        let same = last_tensors(&self.out)? == last_tensors(&other.out)?;
        ensure!(same, "the last checkpoints differ after the kills");
        Ok(())
    }
}

/// The step that a log line tells of, where it has losses.
fn step_of(line: &str) -> Option<u64> {
    let after = line.split_once("step=").filter(|_| line.contains("steps/s"))?.1;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Hash of all tensors of the newest checkpoint: networks, averages, moments.
fn last_tensors(out: &Path) -> anyhow::Result<ContentHash> {
    let list: Vec<Checkpoint> = serde_json::from_slice(&std::fs::read(out.join("latest.json"))?)?;
    let last = list.last().context("there is no checkpoint")?;
    let folder = out.join("checkpoints").join(last.sha256.as_str());
    Ok(ContentHash::of(&std::fs::read(folder.join("state.safetensors"))?))
}
