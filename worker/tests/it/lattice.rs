//! Pairs on HD's pixels, and the model that was trained on such: the same frames by the same gates, laid elsewhere.

use std::path::Path;

use remaster_domain::{DatasetManifest, Lattice, MaskRect, ModelArch, ModelCard, PairRecord, Rational};
use remaster_store::Store;

use super::{discs, extract, path, png_size, shard_files, text, tool, worker, write_model};

const SQUARE: Rational = Rational { num: 1, den: 1 };
/// Lines of HD at 720p halved: what the whole SD picture of the discs is brought onto.
const LR_LINES: u32 = 360;

fn manifest_of(out: &Path) -> DatasetManifest {
    serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap()
}

#[tokio::test]
async fn pairs_on_hd_pixels_are_those_on_sd_pixels_laid_elsewhere_whatever_the_number_of_threads() {
    let root = tempfile::tempdir().unwrap();
    let runs = [
        ("plain", "sd-native", "2"),
        ("one", "hd-native", "1"),
        ("three", "hd-native", "3"),
    ];
    let [plain, one, three] = runs.map(|(name, lattice, threads)| {
        let out = root.path().join(name);
        let more = ["--episode", "E2", "--lattice", lattice, "--threads", threads];
        let done = extract("ep2.sd.mkv", "ep2.hd.mkv", &out, &more);
        assert!(done.status.success(), "{}", text(&done.stderr));
        out
    });
    assert_eq!(shard_files(&one), shard_files(&three));
    let manifest = manifest_of(&one);
    assert_eq!(manifest.lattice, Lattice::HdNative);
    let keys = |manifest: &DatasetManifest| -> Vec<String> {
        manifest
            .shards
            .iter()
            .flat_map(|shard| shard.keys.clone())
            .collect()
    };
    assert_eq!(keys(&manifest), keys(&manifest_of(&plain)));
    let store = Store::open(&format!("file://{}", one.display())).unwrap();
    for shard in &manifest.shards {
        for entry in &store.shard_index(&shard.sha256).await.unwrap().entries {
            let pair = store.read_pair(&shard.sha256, entry).await.unwrap();
            let record: PairRecord = serde_json::from_slice(&pair.json).unwrap();
            assert_eq!((record.lattice, record.sar), (Lattice::HdNative, Some(SQUARE)));
            let place = record.hd_place.unwrap();
            let (lr, hr) = (png_size(&pair.lr_png), png_size(&pair.hr_png));
            assert_eq!(hr, (place.area.width, place.area.height));
            assert_eq!(lr, (hr.0 / 2, hr.1 / 2));
            // The dead row at the top of the disc is all that HD has more.
            assert!(hr.0 >= 1276 && hr.1 >= 714, "{hr:?}");
            assert!(place.lines.abs_diff(LR_LINES) <= 1, "{}", place.lines);
            let reached = |mask: &MaskRect| (mask.x, mask.y, mask.width) == (0, 0, lr.0);
            assert!(
                record.mask.iter().any(reached),
                "the filter brought some of it: {:?}",
                record.mask
            );
        }
    }
}

#[test]
fn a_model_of_hd_pixels_is_shown_them_and_makes_the_size_of_hd() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name);
    let (model, out, compared) = (file("model.safetensors"), file("out.mkv"), file("compared"));
    write_model(&model);
    let arch = ModelArch::Compact {
        num_feat: 4,
        num_conv: 1,
    };
    let card = ModelCard {
        lattice: Lattice::HdNative,
        sar: Some(SQUARE),
        input_lines: Some(LR_LINES),
        ..ModelCard::assumed(arch, 2)
    };
    std::fs::write(file("card.json"), serde_json::to_vec(&card).unwrap()).unwrap();
    let (sd, hd) = (discs().file("ep2.sd.mkv"), discs().file("ep2.hd.mkv"));
    let done = worker(&[
        "upscale",
        path(&sd),
        path(&out),
        "--model",
        path(&model),
        "--encoder",
        "x264",
        "--preset",
        "ultrafast",
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let size = [
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "stream=width,height,sample_aspect_ratio",
        "-of",
        "csv=p=0",
    ];
    let size = tool("ffprobe", &[&size[..], &[path(&out)]].concat());
    assert_eq!(size.trim(), "1280,720,1:1");

    // Measured against HD in HD's place: what was shown to the network at the wrong place or size would be far off.
    let named = format!("m={}", path(&model));
    let done = worker(&[
        "compare",
        "--sd",
        path(&sd),
        "--hd",
        path(&hd),
        "--model",
        &named,
        "--frames",
        "4",
        "--out",
        path(&compared),
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let report = std::fs::read(compared.join("comparison.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let psnr_db = |method: usize| report["methods"][method]["psnr_y_db"].as_f64().unwrap();
    assert!(
        psnr_db(1) > psnr_db(0) - 3.0,
        "{} against Lanczos {}",
        psnr_db(1),
        psnr_db(0)
    );
}
