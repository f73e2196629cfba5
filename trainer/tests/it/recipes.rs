//! What a recipe can say: every loss and switch at once, a start from weights, a mixture of stages.

use remaster_model::{encode_safetensors, read_tensors};
use remaster_store::Key;
use remaster_trainer::TrainError;
use remaster_trainer::checkpoint::{LossPoint, ended_weights, read};
use remaster_trainer::kept::Kept;

use super::{Season, TINY_COMPACT, plan, recipe, run};

fn everything() -> String {
    let stage = r#"
        warmup_iter = 3
        grad_clip = 0.5
        net_d_init_iters = 1
        losses = [
            { type = "MSSSIMLoss", loss_weight = 0.5 },
            { type = "LDLLoss", loss_weight = 1.0, start_iter = 1 },
            { type = "FFTLoss", loss_weight = 0.1, ramp_iter = 2 },
            { type = "ColorLoss", loss_weight = 1.0 },
        ]"#;
    recipe(TINY_COMPACT, 3, 4)
        .replace("crops_per_pair = 3", "crops_per_pair = 3\naccum_iter = 2")
        .replacen(
            "type = \"Adam\", lr = 5e-3",
            "type = \"AdamW\", lr = 5e-3, weight_decay = 0.01",
            1,
        )
        .replace("gan_opt =", &format!("{stage}\ngan_opt ="))
        + "\n[[interpolation]]\nname = \"half\"\nfrom = \"l1\"\nto = \"gan\"\nalpha = 0.5\n"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_loss_and_switch_at_once_trains_and_resumes_bit_by_bit() {
    let season = Season::new(24).await;
    let text = everything();
    let (straight, _) = run(&season, &text, None, None).await;
    let straight = straight.unwrap();
    let (state, tensors) = read(&season.store, &straight.result.checkpoint).await.unwrap();
    let last = &state.record.history.last().unwrap().losses;
    for name in [
        "l_g_pix",
        "l_g_gan",
        "l_g_msssim",
        "l_g_ldl",
        "l_g_fft",
        "l_g_color",
        "l_d_real",
        "l_d_fake",
    ] {
        assert!(
            last.get(name).is_some_and(|value| value.is_finite()),
            "{name} in {last:?}"
        );
    }
    let (stopped, watcher) = run(&season, &text, None, Some(4)).await;
    assert!(matches!(stopped, Err(TrainError::Stopped)));
    let (resumed, _) = run(&season, &text, Some(watcher.last()), None).await;
    let (_, other) = read(&season.store, &resumed.unwrap().result.checkpoint)
        .await
        .unwrap();
    assert!(tensors == other, "other weights after a resume");

    let names: Vec<_> = state
        .record
        .stages
        .iter()
        .map(|stage| stage.stage.as_str())
        .collect();
    assert_eq!(names, ["l1", "gan", "half"]);
    let [l1, gan, half] = ["l1", "gan", "half"].map(|name| ended_weights(&tensors, name));
    for (key, half) in &half {
        for (at, value) in half.values.iter().enumerate() {
            assert!((value - (l1[key].values[at] + gan[key].values[at]) / 2.0).abs() < 1e-6);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_starts_from_given_weights_and_refuses_those_of_another_network() {
    let season = Season::new(8).await;
    let text = recipe(TINY_COMPACT, 1, 0);
    let (first, _) = run(&season, &text, None, None).await;
    let (_, tensors) = read(&season.store, &first.unwrap().result.checkpoint)
        .await
        .unwrap();
    let weights = ended_weights(&tensors, "l1");
    let file = season.folder.path().join("start.safetensors");
    std::fs::write(&file, encode_safetensors(&weights)).unwrap();

    let still = text.replace("lr = 5e-3", "lr = 0.0");
    let with = |path: &std::path::Path, text: &str| {
        let paths = format!(
            "[path]\npretrain_network_g = {:?}\n[network_g]",
            path.display().to_string()
        );
        text.replacen("[network_g]", &paths, 1)
    };
    let (started, _) = run(&season, &with(&file, &still), None, None).await;
    let started = started.unwrap();
    let (_, tensors) = read(&season.store, &started.result.checkpoint).await.unwrap();
    let ended = ended_weights(&tensors, "l1");
    // The average of equal weights rounds in the last bit.
    let near = |(key, tensor): (&String, &remaster_model::HostTensor)| {
        let both = tensor.values.iter().zip(&weights[key].values);
        both.into_iter().all(|(a, b)| (a - b).abs() < 1e-6)
    };
    assert!(ended.iter().all(near));
    assert!(started.record.notes[0].starts_with("started from"));

    let wider = with(&file, &text.replace("num_feat = 6", "num_feat = 8"));
    let (refused, _) = run(&season, &wider, None, None).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("set [network_g] to what it is"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_on_several_layers_of_features_is_learnt_from() {
    let season = Season::new(16).await;
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/model/tests/fixtures");
    let tensors = read_tensors(std::path::Path::new(&format!(
        "{fixtures}/vgg19-narrow.safetensors"
    )))
    .unwrap();
    let named = tensors
        .into_iter()
        .map(|(key, value)| (key.replacen("net.", "", 1), value));
    let file = season.folder.path().join("vgg19.safetensors");
    std::fs::write(&file, encode_safetensors(&named.collect())).unwrap();
    let layers = "perceptual_opt = { loss_weight = 1.0, layer_weights = { conv1_2 = 0.1, relu2_2 = 0.1, conv3_4 = 1.0, conv5_4 = 1.0 } }";
    let text = recipe(TINY_COMPACT, 80, 0)
        .replace("loss_weight = 1.0 }", &format!("loss_weight = 1e-6 }}\n{layers}"));
    let mut plan = plan(&season, &text, None).await.unwrap();
    plan.perceptual_weights = Some(file);
    let record = super::train_plan(plan).await.0.unwrap().record;
    let mean = |points: &[LossPoint]| {
        points.iter().map(|point| point.losses["l_g_percep"]).sum::<f32>() / points.len() as f32
    };
    let (early, late) = (mean(&record.history[..10]), mean(&record.history[70..]));
    assert!(late < early * 0.8, "from {early} to {late}");
    assert!(record.notes.is_empty(), "{:?}", record.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_cannot_hold_is_refused_before_the_first_step() {
    let season = Season::new(8).await;
    let text = recipe(TINY_COMPACT, 1, 1);
    let mut tight = plan(&season, &text, None).await.unwrap();
    tight.memory_mib = Some(1);
    let error = super::train_plan(tight).await.0.unwrap_err();
    assert!(
        matches!(error, TrainError::TooLarge { .. }) && !error.is_retryable(),
        "{error}"
    );
    let mut roomy = plan(&season, &text, None).await.unwrap();
    roomy.memory_mib = Some(1 << 20);
    super::train_plan(roomy).await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_checkpoint_is_not_taken() {
    let season = Season::new(8).await;
    let text = recipe(TINY_COMPACT, 3, 0);
    let (stopped, watcher) = run(&season, &text, None, Some(2)).await;
    assert!(stopped.is_err());
    let key = Key::checkpoint_tensors(&watcher.last().sha256);
    let path = season.folder.path().join(key.as_str());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (outcome, _) = run(&season, &text, Some(watcher.last()), None).await;
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, TrainError::Store(_)) && !error.is_retryable(),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_run_keeps_its_last_checkpoints_and_passes_over_a_damaged_one() {
    let season = Season::new(8).await;
    let text = recipe(TINY_COMPACT, 4, 0).replace("save_checkpoint_freq = 1000", "save_checkpoint_freq = 1");
    let (_, watcher) = run(&season, &text, None, None).await;
    let all = watcher.recorded.lock().unwrap().clone();
    let kept = Kept::of(season.folder.path(), 2);
    assert_eq!(kept.newest_whole(&season.store).await.unwrap(), None);
    for checkpoint in &all {
        kept.add(checkpoint).unwrap();
    }
    let folder = |at: usize| {
        let key = Key::checkpoint_tensors(&all[at].sha256);
        season.folder.path().join(key.as_str())
    };
    assert!(!folder(0).exists() && folder(all.len() - 2).exists());
    let newest = kept.newest_whole(&season.store).await.unwrap();
    assert_eq!(newest.as_ref(), all.last());
    std::fs::write(folder(all.len() - 1), b"half").unwrap();
    let before = kept.newest_whole(&season.store).await.unwrap();
    assert_eq!(before.as_ref(), all.get(all.len() - 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_leaves_curves_grids_a_page_and_its_best_weights_and_stops_when_it_gets_no_better() {
    let season = Season::new(24).await;
    let still = recipe(TINY_COMPACT, 12, 0).replace("lr = 5e-3", "lr = 0.0");
    let text = format!("{still}\n[val]\nval_freq = 2\nearly_stop = 2\n");
    let mut plan = plan(&season, &text, None).await.unwrap();
    let folder = season.folder.path().join("look");
    plan.look = Some(folder.clone());
    let finished = super::train_plan(plan).await.0.unwrap();
    // Judged at 2, 4 and 6: two in a row brought nothing.
    assert_eq!(finished.result.steps, 6);
    let names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for start in [
        "events.out.tfevents",
        "grid-00000002-l1",
        "best-psnr_y",
        "best-ssim_y",
        "report.html",
    ] {
        assert!(
            names.iter().any(|name| name.starts_with(start)),
            "no {start} in {names:?}"
        );
    }
    assert!(!names.iter().any(|name| name.ends_with(".part")));
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("l_g_pix") && page.contains("grid-00000006-l1.png"));
    let scores = finished.record.validations.last().unwrap().scores;
    assert!(scores.psnr > 1.0 && scores.ssim.is_finite());
    assert!(scores.flicker.is_some_and(|flicker| flicker > 0.0) && finished.record.notes.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_frames_that_follow_each_other_there_is_no_flicker_figure_and_the_run_says_so() {
    let season = Season::of_every(3, 24).await;
    let (finished, _) = run(&season, &recipe(TINY_COMPACT, 2, 0), None, None).await;
    let record = finished.unwrap().record;
    assert_eq!(record.validations.last().unwrap().scores.flicker, None);
    assert!(
        record.notes[0].starts_with("no flicker figure"),
        "{:?}",
        record.notes
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likeness_is_judged_where_its_weights_are_and_others_are_refused_before_the_first_step() {
    let season = Season::new(24).await;
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/model/tests/fixtures");
    let with = |lpips: &str, dists: &str| {
        let paths = format!(
            "[path]\nlpips_weights = [\"{fixtures}/{lpips}\"]\ndists_weights = [\"{fixtures}/{dists}\"]\n[network_g]"
        );
        recipe(TINY_COMPACT, 2, 0).replacen("[network_g]", &paths, 1)
    };
    let good = ("lpips-alex.safetensors", "dists.safetensors");
    let (finished, _) = run(&season, &with(good.0, good.1), None, None).await;
    let scores = finished.unwrap().record.validations.last().unwrap().scores;
    for distance in [scores.lpips, scores.dists] {
        assert!(distance.is_some_and(|distance| distance > 0.0), "{scores:?}");
    }

    let wrong = "vgg19-narrow.safetensors";
    for (recipe, key, meant) in [
        (with(wrong, good.1), "path.lpips_weights", "alexnet-owt"),
        (with(good.0, wrong), "path.dists_weights", "weights.pt of DISTS"),
    ] {
        let (refused, watcher) = run(&season, &recipe, None, None).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(meant), "{error}");
        assert!(watcher.recorded.lock().unwrap().is_empty());
    }
}
