//! What a person types beside a season that is done: commands against real processes.

use std::path::Path;

use remaster_domain::ContentHash;
use remaster_testkit::Cluster;
use serde_json::Value;

/// What a command prints for scripts; it must end well.
pub(crate) fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let done = cluster
        .cli(&[&["--output-format", "json"], arguments].concat())
        .unwrap();
    assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
    serde_json::from_str(&done.stdout).unwrap()
}

pub(crate) fn tell_what_was_made(cluster: &Cluster, job: &str) {
    let watched = cluster.cli(&["watch", job]).unwrap();
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    let models = cluster
        .cli(&["models", "list", "--output-format", "json"])
        .unwrap();
    assert!(
        models.stdout.contains("\"l1\"") && models.stdout.contains("\"gan\""),
        "{}",
        models.stdout
    );
    let verified = cluster.cli(&["dataset", "verify", "demo"]).unwrap();
    assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    let entries = json(cluster, &["status", job, "--task", "train"]);
    assert!(!entries.as_array().unwrap().is_empty(), "{entries}");
    let page = cluster.dir().join("report.html");
    let report = cluster
        .cli(&["report", job, "-o", &page.to_string_lossy()])
        .unwrap();
    assert_eq!(report.code, 0, "{}", report.stderr);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(
        html.contains("<svg") && html.contains("l_g_pix"),
        "the report draws the loss"
    );
}

pub(crate) fn submit_and_watch_a_stage_alone(cluster: &Cluster, season: &Path) {
    let season = season.to_string_lossy();
    for (stage, last) in [
        ("extract", "curate"),
        ("train", "publish"),
        ("upscale", "assemble"),
    ] {
        let submitted = cluster
            .cli(&["submit", &season, "--stage", stage, "--watch"])
            .unwrap();
        assert_eq!(submitted.code, 0, "{stage}: {}", submitted.stderr);
        let job = cluster.job(submitted.stdout.trim()).unwrap().unwrap();
        let ends: Vec<_> = job.tasks.iter().filter(|task| task.kind == last).collect();
        assert!(!ends.is_empty(), "{stage} ends with {last}: {:?}", job.tasks);
        assert!(ends.iter().all(|task| task.state == "committed"), "{ends:?}");
    }
}

pub(crate) fn move_a_channel_to_a_model_and_back(cluster: &Cluster) {
    let models = json(cluster, &["models", "list"]);
    let ids: Vec<_> = models
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    let mut before = Value::Null;
    for id in [ids[0], ids[1], ids[0]] {
        let moved = json(
            cluster,
            &["models", "publish", id, "--season", "demo", "--channel", "best"],
        );
        assert_eq!(moved["previous_model_id"], before);
        let shown = json(cluster, &["models", "list"]);
        let holders: Vec<_> = shown
            .as_array()
            .unwrap()
            .iter()
            .filter(|model| model["channels"].to_string().contains("best"))
            .collect();
        assert_eq!(holders.len(), 1, "{shown}");
        assert_eq!(holders[0]["id"], id);
        before = id.into();
    }
}

pub(crate) fn write_a_model_and_take_it_in_again(cluster: &Cluster) {
    let models = json(cluster, &["models", "list"]);
    let id = models[0]["id"].as_str().unwrap();
    let (weights, graph) = (
        cluster.dir().join("out.safetensors"),
        cluster.dir().join("out.onnx"),
    );
    for file in [&weights, &graph] {
        json(cluster, &["models", "export", id, "-o", &file.to_string_lossy()]);
    }
    let bytes = std::fs::read(&weights).unwrap();
    assert_eq!(
        ContentHash::of(&bytes).to_string(),
        id,
        "what comes out is what was published"
    );
    assert!(std::fs::metadata(&graph).unwrap().len() > 1000);
    let again = json(cluster, &["models", "import", &weights.to_string_lossy()]);
    assert_eq!(again["model_id"], id, "the same weights are the same model");
    assert_eq!(
        json(cluster, &["models", "list"]).as_array().unwrap().len(),
        models.as_array().unwrap().len()
    );
}

pub(crate) fn find_no_garbage_after_a_good_season(cluster: &Cluster) {
    let seen = json(cluster, &["gc", "--dry-run"]);
    assert_eq!(
        (seen["dry_run"].as_bool(), seen["bytes"].as_u64()),
        (Some(true), Some(0)),
        "{seen}"
    );
}
