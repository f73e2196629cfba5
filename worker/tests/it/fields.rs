//! Pairs from discs made of fields: they must be of the frames that the network is shown later, and of the right ones.

use std::ops::ControlFlow;

use remaster_domain::{
    Alignment, ContentHash, DatasetManifest, FieldAction, FieldFilter, FrameRange, PairRecord,
};
use remaster_media::{ColourSpec, FrameReader, index, yuv_to_rgb};
use remaster_store::Store;

use super::{path, text, tool, worker};

/// Eight seconds of film as a Blu-ray, and as a DVD whose fields were pulled down to 30 frames a second: A, B, BC, CD, D.
fn telecined(root: &std::path::Path) -> [std::path::PathBuf; 2] {
    let film = remaster_testkit::film().unwrap();
    let start = ["-v", "error", "-ss", "267", "-t", "8", "-i", path(&film), "-an"];
    let files = ["hd.mkv", "sd.mkv"].map(|name| root.join(name));
    let hd = "-vf scale=640:360 -c:v libx264 -preset ultrafast -crf 12";
    let sd = "-vf setpts=N*1001/24000/TB,fps=24000/1001,scale=352:240,telecine=pattern=23 -r 30000/1001 -g 15 \
              -c:v mpeg2video -b:v 3M -maxrate 6M -bufsize 2M -flags +ildct+ilme -top 1 -bf 2";
    for (file, encode) in files.iter().zip([hd, sd]) {
        let encode: Vec<&str> = encode.split_whitespace().collect();
        tool("ffmpeg", &[&start[..], &encode, &[path(file)]].concat());
    }
    files
}

#[tokio::test]
async fn pairs_of_telecined_film_are_of_the_frames_that_inference_shows() {
    let root = tempfile::tempdir().unwrap();
    let [hd, sd] = telecined(root.path());
    let out = root.path().join("out");
    let arguments = [
        "extract",
        "--sd",
        path(&sd),
        "--hd",
        path(&hd),
        "--out",
        path(&out),
    ];
    let done = worker(&[&arguments[..], &["--max-pairs", "40"]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let read = |name: &str| std::fs::read(out.join(name)).unwrap();
    let alignment: Alignment = serde_json::from_slice(&read("alignment.json")).unwrap();
    assert_eq!(alignment.fields, FieldFilter::Match);
    let (index, _) = index(&sd, &ContentHash::of(b""), &mut |_| ControlFlow::Continue(())).unwrap();
    let end = index.frames.len() as u32;
    let shown = FrameReader::filtered(&sd, &index, FrameRange { start: 0, end }, FieldFilter::Match).unwrap();
    let shown: Vec<_> = shown.map(Result::unwrap).collect();
    let manifest: DatasetManifest = serde_json::from_slice(&read("manifest.json")).unwrap();
    assert!(manifest.pair_count() >= 24, "{} pairs", manifest.pair_count());
    let store = Store::open(&format!("file://{}", out.display())).unwrap();
    let colour = ColourSpec::guess(&index.video);
    for shard in &manifest.shards {
        for entry in &store.shard_index(&shard.sha256).await.unwrap().entries {
            let pair = store.read_pair(&shard.sha256, entry).await.unwrap();
            let record: PairRecord = serde_json::from_slice(&pair.json).unwrap();
            assert_eq!(record.field_action, FieldAction::Match);
            assert!(
                !index.fields.dropped.contains(&record.sd_index),
                "a repeat was taken"
            );
            let cycle = record.sd_index / 5 * 4;
            let film: &[u32] = [&[0][..], &[1], &[1, 2], &[2, 3], &[3]][record.sd_index as usize % 5];
            assert!(
                film.iter().any(|frame| cycle + frame == record.hd_index),
                "{} {}",
                record.sd_index,
                record.hd_index
            );
            let frame = yuv_to_rgb(&shown[record.sd_index as usize], colour);
            let worst = greatest_difference(&pair.lr_png, &record, &frame);
            assert!(worst <= 0.5 / 255.0 + 1e-6, "frame {}: {worst}", record.sd_index);
        }
    }
}

/// Between the LR picture of a pair and the frame that it is of, 0 to 1.
fn greatest_difference(png: &[u8], record: &PairRecord, frame: &remaster_media::RgbFrame) -> f32 {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut levels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut levels).unwrap();
    let (active, pixels) = (record.active, (frame.width * frame.height) as usize);
    let mut worst = 0.0f32;
    for (number, level) in levels.iter().enumerate() {
        let (pixel, channel) = (number as u32 / 3, number % 3);
        let (x, y) = (active.x + pixel % active.width, active.y + pixel / active.width);
        let own = frame.data[channel * pixels + (y * frame.width + x) as usize].clamp(0.0, 1.0);
        worst = worst.max((own - f32::from(*level) / 255.0).abs());
    }
    worst
}
