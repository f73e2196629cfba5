//! Our trainer beside a PyTorch loop that has the same weights and sees the same batches: losses of ten steps, the
//! discriminator by itself, and steps a second taken in turns, so that a busy machine slows both.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use remaster_model::{
    DeviceKind, HostTensor, StateDict, Vgg19, device, encode_safetensors, read_state, set_threads,
};
use remaster_trainer::data::Batch;
use remaster_trainer::recipe::Recipe;
use remaster_trainer::step::{Networks, Objective, StepReport};
use serde_json::{Value, json};

/// What the peer needs, from PyPI: the libtorch that ours links.
const PACKAGES: [&str; 3] = ["torch==2.9.0", "numpy", "safetensors"];
/// Largest relative difference of a loss.
const TOLERANCE: f32 = 1e-3;
const STEPS: usize = 10;
/// Pairs of timed steps; their median counts.
const TIMED: usize = 5;
const DISCRIMINATOR_STEPS: usize = 60;

/// One shape to compare at.
struct Case {
    title: &'static str,
    num_feat: usize,
    num_block: usize,
    num_grow_ch: usize,
    batch_size: usize,
    lq_size_px: usize,
    gan: bool,
}

const SMALL: Case = Case {
    title: "nf 16, nb 2, gc 8, batch 2, lr 32",
    num_feat: 16,
    num_block: 2,
    num_grow_ch: 8,
    batch_size: 2,
    lq_size_px: 32,
    gan: false,
};
const SMALL_GAN: Case = Case { gan: true, ..SMALL };
const LARGE: Case = Case {
    title: "nf 64, nb 2, gc 32, batch 4, lr 64",
    num_feat: 64,
    num_block: 2,
    num_grow_ch: 32,
    batch_size: 4,
    lq_size_px: 64,
    gan: false,
};

/// Prints the figures.
pub(crate) fn run() -> anyhow::Result<String> {
    let python = python()?;
    let threads = std::thread::available_parallelism()?.get();
    set_threads(threads);
    let mut lines = vec!["trainer beside PyTorch 2.9 (RRDBNet, Adam)".to_owned()];
    // Minutes pass between them, so each is shown as it is found.
    let mut found = |line: String| {
        eprintln!("{line}");
        lines.push(line);
    };
    for (name, case) in [("L1", &SMALL), ("L1 + VGG + RaGAN", &SMALL_GAN)] {
        let mut both = Both::start(&python, case, threads)?;
        let worst = both.worst_difference(STEPS)?;
        ensure!(worst <= TOLERANCE, "{name}: a loss is {worst:.1e} off PyTorch's");
        found(format!(
            "  {name}, {}: {STEPS} steps' losses within {worst:.1e}",
            case.title
        ));
    }
    found(discriminator_alone(&python, threads)?);
    for (name, case) in [("L1", &LARGE), ("L1 + VGG + RaGAN", &SMALL_GAN)] {
        let mut both = Both::start(&python, case, threads)?;
        found(format!("  {name}, {}: {}", case.title, both.timed()?));
    }
    Ok(lines.join("\n"))
}

/// The discriminator against a generator that stands still, at ESRGAN's rate: ours and PyTorch's.
fn discriminator_alone(python: &Path, threads: usize) -> anyhow::Result<String> {
    let mut both = Both::start(python, &SMALL_GAN, threads)?;
    let answer = both.peer.ask(&json!({ "discriminator": DISCRIMINATOR_STEPS }))?;
    let theirs: Vec<f64> = serde_json::from_value(answer["sums"].clone())?;
    let mut ours = Vec::new();
    for number in 0..DISCRIMINATOR_STEPS {
        let report = both.ours.step(number % STEPS, true)?;
        ours.push(
            report
                .losses
                .iter()
                .map(|(_, value)| f64::from(*value))
                .sum::<f64>(),
        );
    }
    let last = DISCRIMINATOR_STEPS - 1;
    Ok(format!(
        "  discriminator alone at 1e-4: from {:.4} to {:.4} in {DISCRIMINATOR_STEPS} steps, PyTorch {:.4} to {:.4}",
        ours[0], ours[last], theirs[0], theirs[last]
    ))
}

struct Both {
    ours: Ours,
    peer: Peer,
    _folder: tempfile::TempDir,
}

impl Both {
    fn start(python: &Path, case: &Case, threads: usize) -> anyhow::Result<Self> {
        let ours = Ours::new(case)?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("start.safetensors");
        std::fs::write(&file, encode_safetensors(&ours.state()))?;
        let settings = json!({
            "num_block": case.num_block, "lr": 1e-4, "threads": threads, "batches": STEPS,
            "pixel_weight": if case.gan { 1e-2 } else { 1.0 },
        });
        let peer = Peer::start(python, &file, &settings)?;
        Ok(Self {
            ours,
            peer,
            _folder: folder,
        })
    }

    fn worst_difference(&mut self, steps: usize) -> anyhow::Result<f32> {
        let mut worst = 0f32;
        for number in 0..steps {
            let ours = self.ours.step(number, false)?.losses;
            let theirs = self.peer.ask(&json!({ "step": number }))?["losses"].clone();
            ensure!(
                Some(ours.len()) == theirs.as_object().map(|o| o.len()),
                "other losses: {theirs}"
            );
            for (name, value) in ours {
                let other = theirs[name]
                    .as_f64()
                    .with_context(|| format!("no {name} in {theirs}"))? as f32;
                worst = worst.max((value - other).abs() / other.abs().max(1e-12));
            }
        }
        Ok(worst)
    }

    fn timed(&mut self) -> anyhow::Result<String> {
        let (mut ratios, mut ours, mut theirs) = (vec![], vec![], vec![]);
        let mut peak_mib = 0;
        for number in 0..=TIMED {
            let start = Instant::now();
            self.ours.step(number, false)?;
            let seconds = start.elapsed().as_secs_f64();
            let answer = self.peer.ask(&json!({ "step": number }))?;
            let other = answer["seconds"].as_f64().context("no seconds")?;
            peak_mib = answer["peak_mib"].as_u64().context("no peak")?;
            // The first step of both allocates.
            if number > 0 {
                ratios.push(other / seconds);
                ours.push(1.0 / seconds);
                theirs.push(1.0 / other);
            }
        }
        let own_mib = remaster_trainer::meter::peak_rss_mib().unwrap_or(0);
        Ok(format!(
            "{:.2} steps/s, PyTorch {:.2}, paired median {:.2} x ({TIMED} pairs); peak {own_mib} MiB, PyTorch {peak_mib}",
            median(ours),
            median(theirs),
            median(ratios)
        ))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Ours {
    networks: Networks,
    recipe: Recipe,
    vgg: Option<(StateDict, Vgg19)>,
    batches: Vec<Batch>,
    device: burn::tensor::Device,
    stage_step: u64,
}

impl Ours {
    fn new(case: &Case) -> anyhow::Result<Self> {
        let device = device(DeviceKind::default())?;
        let recipe = Recipe::resolve(&recipe(case))?;
        let networks = Networks::new(&recipe.network_g.arch(), 2, &recipe, 3, &device)?;
        let vgg = if case.gan {
            let state = random_vgg();
            let vgg = Vgg19::from_state(&state, &device.clone().autodiff())?;
            Some((state, vgg))
        } else {
            None
        };
        let batches = (0..STEPS).map(|number| batch(number, case)).collect();
        Ok(Self {
            networks,
            recipe,
            vgg,
            batches,
            device,
            stage_step: 0,
        })
    }

    fn step(&mut self, number: usize, discriminator_alone: bool) -> anyhow::Result<StepReport> {
        let mut stage = self.recipe.stages[0].clone();
        stage.net_d_init_iters = if discriminator_alone { u64::MAX } else { 0 };
        let objective = Objective {
            stage: &stage,
            stage_step: self.stage_step,
            vgg: self.vgg.as_ref().map(|(_, vgg)| vgg),
            rate_share: 1.0,
        };
        self.stage_step += 1;
        let batches = std::slice::from_ref(&self.batches[number]);
        Ok(self.networks.step(batches, objective, &self.device)?)
    }

    fn state(&self) -> StateDict {
        let mut all = StateDict::new();
        let mut add = |prefix: String, state: StateDict| {
            all.extend(
                state
                    .into_iter()
                    .map(|(key, tensor)| (format!("{prefix}{key}"), tensor)),
            );
        };
        add("generator/".to_owned(), read_state(&self.networks.generator));
        if let Some(discriminator) = &self.networks.discriminator {
            add("discriminator/".to_owned(), read_state(discriminator));
        }
        if let Some((state, _)) = &self.vgg {
            add("vgg/".to_owned(), state.clone());
        }
        for batch in &self.batches {
            let tensor = |values: &[f32], side: usize| HostTensor {
                shape: vec![batch.count, 3, side, side],
                values: values.to_vec(),
            };
            let both = StateDict::from([
                ("lr".to_owned(), tensor(&batch.lr, batch.lq_size_px)),
                ("hr".to_owned(), tensor(&batch.hr, batch.gt_size_px)),
            ]);
            add(format!("batch/{}/", batch.number), both);
        }
        all
    }
}

fn recipe(case: &Case) -> String {
    let gan = r#"perceptual_opt = { loss_weight = 1.0 }
gan_opt = { type = "ragan", loss_weight = 5e-3 }"#;
    format!(
        r#"name = "peer"
[network_g]
type = "RRDBNet"
num_feat = {}
num_block = {}
num_grow_ch = {}
[network_d]
type = "UNetDiscriminatorSN"
num_feat = 16
[datasets.train]
lq_size = {}
batch_size = {}
[[stage]]
name = "peer"
total_iter = 1000
optim_g = {{ type = "Adam", lr = 1e-4, betas = [0.9, 0.99] }}
pixel_opt = {{ type = "L1", loss_weight = {} }}
{}
"#,
        case.num_feat,
        case.num_block,
        case.num_grow_ch,
        case.lq_size_px,
        case.batch_size,
        if case.gan { "1e-2" } else { "1.0" },
        if case.gan { gan } else { "" }
    )
}

/// Waves with edges, and their averages as LR.
fn batch(number: usize, case: &Case) -> Batch {
    let (lq, gt) = (case.lq_size_px, case.lq_size_px * 2);
    let value = |picture: usize, channel: usize, y: usize, x: usize| {
        let phase = (number * 7 + picture * 3 + channel) as f32;
        let wave = (x as f32 * 0.31 + phase).sin() * (y as f32 * 0.17 + phase * 0.5).cos();
        let edge = if (x * 3 + y * 2 + number).is_multiple_of(13) {
            0.3
        } else {
            0.0
        };
        (0.4 + 0.3 * wave + edge).clamp(0.0, 1.0)
    };
    let (mut lr, mut hr) = (vec![], vec![]);
    for picture in 0..case.batch_size {
        for channel in 0..3 {
            let at = |y: usize, x: usize| value(picture, channel, y, x);
            hr.extend((0..gt * gt).map(|i| at(i / gt, i % gt)));
            lr.extend((0..lq * lq).map(|i| {
                let (y, x) = (i / lq * 2, i % lq * 2);
                (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 4.0
            }));
        }
    }
    Batch {
        number: number as u64,
        count: case.batch_size,
        lq_size_px: lq,
        gt_size_px: gt,
        lr,
        hr,
    }
}

/// VGG19's layers at an eighth of their width, with weights that keep the size of what goes through.
fn random_vgg() -> StateDict {
    let layers = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34];
    let widths = [8, 8, 16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 64, 64, 64, 64];
    let (mut state, mut from, mut noise) = (StateDict::new(), 3, 0x2545_f491_4f6c_dd1d_u64);
    let mut draw = move || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        (noise >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    for (number, to) in layers.into_iter().zip(widths) {
        let bound = (6.0 / (from * 9) as f32).sqrt();
        let values = (0..to * from * 9).map(|_| draw() * bound).collect();
        state.insert(
            format!("features.{number}.weight"),
            HostTensor {
                shape: vec![to, from, 3, 3],
                values,
            },
        );
        let values = (0..to).map(|_| draw() * 0.1).collect();
        state.insert(
            format!("features.{number}.bias"),
            HostTensor {
                shape: vec![to],
                values,
            },
        );
        from = to;
    }
    state
}

/// The PyTorch process; ends when its stdin is closed.
struct Peer {
    child: Child,
    wishes: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, file: &Path, settings: &Value) -> anyhow::Result<Self> {
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

    fn ask(&mut self, wish: &Value) -> anyhow::Result<Value> {
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
fn python() -> anyhow::Result<PathBuf> {
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
