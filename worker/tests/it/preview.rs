//! `preview`: two episodes of which one is none, a page with pictures in it, an estimate and an exit code that tell of both.

use serde_json::{Value, json};

use super::{discs, path, text, worker, write_model};

#[test]
fn a_season_is_shown_and_estimated_and_a_bad_episode_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    let (model, job, page, bad) = (
        file("model.safetensors"),
        file("job.json"),
        file("p.html"),
        file("bad.mkv"),
    );
    write_model(&model);
    std::fs::write(&bad, b"no film at all, only words\n").unwrap();
    let settings = json!({"encoder": "x264", "preset": "ultrafast", "size": "640x480"});
    let episodes = json!([{"id": "E1", "sd": discs().file("ep3.sd.mkv")}, {"id": "E2", "sd": bad}]);
    let asked = json!({"version": 1, "season": "s", "model": model, "model_name": "doubled", "frames": 1,
        "settings": settings, "episodes": episodes, "after": [model], "cube": file("gone.cube")});
    let preview = |asked: &Value| {
        std::fs::write(&job, asked.to_string()).unwrap();
        worker(&["preview", "--job", path(&job), "--output", path(&page)])
    };
    let refused = preview(&asked);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("gone.cube"),
        "{}",
        text(&refused.stderr)
    );

    std::fs::write(file("grade.cube"), "LUT_1D_SIZE 2\n1 1 1\n0 0 0\n").unwrap();
    let mut asked = asked;
    asked["cube"] = json!(file("grade.cube"));
    let done = preview(&asked);
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("E2: ") && stderr.contains("error: 1 of 2 episodes"),
        "{stderr}"
    );

    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let estimate = &report["episodes"][0]["estimate"];
    let number = |value: &Value| value.as_f64().unwrap();
    // The disc has 96 frames of 25 a second, 480x384 at 16:9, and the networks double them twice.
    assert!((number(&estimate["frames"]) - 96.0).abs() <= 3.0, "{estimate}");
    assert_eq!(
        (&estimate["width"], &estimate["height"]),
        (&json!(640), &json!(360))
    );
    assert!(
        number(&estimate["seconds"]) > 0.0 && number(&estimate["bytes"]) > 10_000.0,
        "{estimate}"
    );
    assert!(
        report["episodes"][1]["error"]
            .as_str()
            .unwrap()
            .contains("bad.mkv")
    );
    assert_eq!(report["total"]["frames"], estimate["frames"]);

    let html = std::fs::read_to_string(&page).unwrap();
    assert_eq!(html.matches("data:image/jpeg;base64,").count(), 4);
    assert!(html.contains("cannot be upscaled: ") && html.contains("doubled, the same place"));
    assert!(!html.contains("http://") && !html.contains("https://"));
}
