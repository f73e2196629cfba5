//! The share of its time in which the trainer had no batch, as its own log says: with the pairs on this disk, and on an
//! S3 server that takes 50 ms to answer anything. No pair is met twice, as in the first days on a season, so that
//! nothing kept in memory or on disk hides what reading costs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use remaster_domain::{ContentHash, DatasetManifest};
use remaster_store::{Key, Store};
use remaster_testkit::{S3Server, binary};

use super::latency::Relay;
use crate::train;

const LATENCY: Duration = Duration::from_millis(50);
/// How often the manifest names the pairs of a short film: one that is named again is read again.
const TIMES_NAMED: usize = 20;
/// Share of the time that may be spent waiting, in percent.
const WAITING_PERCENT_MAX: f64 = 2.0;

/// A network with a batch, and steps, of which the second half is measured: in a run of days a start weighs nothing.
struct Shape {
    title: &'static str,
    network: &'static str,
    batch_size: usize,
    lq_size_px: usize,
    steps: u64,
}

const SHAPES: [Shape; 3] = [
    Shape {
        title: "Compact 24/6, batch 8, lr 48",
        network: "type = \"SRVGGNetCompact\"\nnum_feat = 24\nnum_conv = 6",
        batch_size: 8,
        lq_size_px: 48,
        steps: 400,
    },
    Shape {
        title: "RRDBNet 64/2, batch 4, lr 64",
        network: "type = \"RRDBNet\"\nnum_feat = 64\nnum_block = 2",
        batch_size: 4,
        lq_size_px: 64,
        steps: 10,
    },
    Shape {
        title: "RRDBNet 64/4, batch 2, lr 96",
        network: "type = \"RRDBNet\"\nnum_feat = 64\nnum_block = 4",
        batch_size: 2,
        lq_size_px: 96,
        steps: 6,
    },
];

/// Prints the figures.
pub(super) fn run() -> anyhow::Result<String> {
    let dir = tempfile::tempdir()?;
    let data = train::extracted(dir.path())?;
    let server = S3Server::start(&dir.path().join("s3"))?;
    let shards = name_often(&data)?;
    tokio::runtime::Runtime::new()?.block_on(upload(&server, &data, &shards))?;
    let (_relay, far) = far_settings(&server)?;
    let (mut rows, mut most) = (0, 0.0_f64);
    for shape in &SHAPES {
        for (place, store, settings) in [
            ("disk", format!("file://{}", data.display()), vec![]),
            ("S3 at 50 ms", server.url("data"), far.clone()),
        ] {
            let line = trained(dir.path(), &data, shape, &store, settings)?;
            let line = format!("trainer waiting: {}, {place}: {line}", shape.title);
            // Minutes pass between them, so each is shown as it is found.
            eprintln!("{line}");
            (rows, most) = (rows + 1, most.max(percent_of(&line)?));
        }
    }
    ensure!(
        most <= WAITING_PERCENT_MAX,
        "{most} % of the time spent waiting for data, of which {WAITING_PERCENT_MAX} % may be"
    );
    Ok(format!("trainer waiting: {most} % at most in {rows} rows"))
}

/// What the trainer's log line says of waiting.
fn percent_of(line: &str) -> anyhow::Result<f64> {
    let before = line.split(" % waiting").next().unwrap_or_default();
    let percent = before.rsplit(' ').next().unwrap_or_default();
    percent
        .parse()
        .with_context(|| format!("no percentage in: {line}"))
}

/// Makes the manifest as long as a season's; answers which shards there are.
fn name_often(data: &Path) -> anyhow::Result<Vec<ContentHash>> {
    let file = data.join("manifest.json");
    let mut manifest: DatasetManifest = serde_json::from_slice(&std::fs::read(&file)?)?;
    let shards = manifest.shards.iter().map(|shard| shard.sha256.clone());
    let shards = shards.collect();
    manifest.shards = vec![manifest.shards; TIMES_NAMED].concat();
    std::fs::write(&file, serde_json::to_vec(&manifest)?)?;
    Ok(shards)
}

/// Through the server, which then knows the checksums of what it has: of a file that is merely there it would read all
/// for every part of it that is asked for, beside the trainer on the same cores.
async fn upload(server: &S3Server, data: &Path, shards: &[ContentHash]) -> anyhow::Result<()> {
    let store = Store::open_with(&server.url("data"), &server.settings())?;
    for shard in shards {
        for key in [Key::shard(shard), Key::shard_index(shard)] {
            store.put_file(&key, &data.join(key.as_str())).await?;
        }
    }
    Ok(())
}

/// The server's settings with a slow relay before it.
fn far_settings(server: &S3Server) -> anyhow::Result<(Relay, Vec<(String, String)>)> {
    let mut settings = server.settings();
    let endpoint = settings.iter_mut().find(|(name, _)| name == "AWS_ENDPOINT");
    let (_, url) = endpoint.context("the server does not say where it is")?;
    let address = url.trim_start_matches("http://").parse()?;
    let relay = Relay::start(address, LATENCY)?;
    *url = format!("http://{}", relay.address);
    Ok((relay, settings))
}

/// The line that the run logs of the second half of its steps.
fn trained(
    dir: &Path,
    data: &Path,
    shape: &Shape,
    store: &str,
    settings: Vec<(String, String)>,
) -> anyhow::Result<String> {
    let recipe = dir.join("waiting.toml");
    std::fs::write(&recipe, recipe_of(shape))?;
    let out = tempfile::tempdir_in(dir)?;
    let trained = Command::new(binary("remaster-trainer")?)
        .arg("train")
        .arg(&recipe)
        .arg("--manifest")
        .arg(data.join("manifest.json"))
        .args(["--cache-gib", "0", "--store", store, "--out"])
        .arg(out.path())
        .envs(settings)
        .output()?;
    let log = String::from_utf8_lossy(&trained.stderr);
    ensure!(trained.status.success(), "training failed: {log}");
    let mut lines = log.lines().filter(|line| line.contains("waiting for data"));
    let line = lines
        .next_back()
        .with_context(|| format!("no figure in: {log}"))?;
    Ok(line.split_once(" l1 ").map_or(line, |(_, line)| line).to_owned())
}

fn recipe_of(shape: &Shape) -> String {
    format!(
        r#"name = "waiting"
[network_g]
{}
[datasets.train]
batch_size = {}
lq_size = {}
[[stage]]
name = "l1"
total_iter = {}
optim_g = {{ type = "Adam", lr = 1e-4 }}
pixel_opt = {{ type = "L1", loss_weight = 1.0 }}
[logger]
print_freq = {}
"#,
        shape.network,
        shape.batch_size,
        shape.lq_size_px,
        shape.steps,
        shape.steps / 2
    )
}
