//! Pairs from discs made of fields: they must be of the frames that the network is shown later, and of the right ones.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use remaster_domain::{
    Alignment, ContentHash, DatasetManifest, FieldAction, FieldFilter, FrameRange, PairRecord, SourceIndex,
};
use remaster_media::{ColourSpec, FrameReader, Restore, RgbFrame, index, yuv_to_rgb};
use remaster_store::Store;

use super::{path, text, tool, worker};

/// A DVD whose fields were pulled down to 30 frames a second: A, B, BC, CD, D.
const TELECINED: &str = "-vf setpts=N*1001/24000/TB,fps=24000/1001,scale=352:240,telecine=pattern=23 -r 30000/1001 -g 15 \
     -c:v mpeg2video -b:v 3M -maxrate 6M -bufsize 2M -flags +ildct+ilme -top 1 -bf 2";
/// A DVD of whole frames.
const WHOLE: &str = "-vf scale=352:240 -c:v mpeg2video -b:v 3M -maxrate 6M -bufsize 2M -bf 2";
/// So many zeros ffmpeg takes for nnedi3's weights: a plain interpolation, but not bwdif's.
const NO_WEIGHTS_BYTES: usize = 13_574_928;

/// Half a level of 255, and what floats leave of it.
const ROUNDING: f32 = 0.5 / 255.0 + 1e-6;

/// Eight seconds of film as a Blu-ray and as a DVD.
fn discs(root: &Path, sd: &str) -> [PathBuf; 2] {
    let film = remaster_testkit::film().unwrap();
    let start = ["-v", "error", "-ss", "267", "-t", "8", "-i", path(&film), "-an"];
    let files = ["hd.mkv", "sd.mkv"].map(|name| root.join(name));
    let hd = "-vf scale=640:360 -c:v libx264 -preset ultrafast -crf 12";
    for (file, encode) in files.iter().zip([hd, sd]) {
        let encode: Vec<&str> = encode.split_whitespace().collect();
        tool("ffmpeg", &[&start[..], &encode, &[path(file)]].concat());
    }
    files
}

/// Extracts from both discs and hands every pair over: its LR picture and its record.
async fn extracted([hd, sd]: &[PathBuf; 2], out: &Path, more: &[&str]) -> Vec<(Vec<u8>, PairRecord)> {
    let discs = ["extract", "--sd", path(sd), "--hd", path(hd), "--out", path(out)];
    let done = worker(&[&discs[..], more].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    let manifest: DatasetManifest = read_json(&out.join("manifest.json"));
    let store = Store::open(&format!("file://{}", out.display())).unwrap();
    let mut pairs = Vec::new();
    for shard in &manifest.shards {
        for entry in &store.shard_index(&shard.sha256).await.unwrap().entries {
            let pair = store.read_pair(&shard.sha256, entry).await.unwrap();
            pairs.push((pair.lr_png.to_vec(), serde_json::from_slice(&pair.json).unwrap()));
        }
    }
    pairs
}

fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// All frames of a disc as a network is shown them, and the index.
fn shown(sd: &Path, restore: &Restore) -> (Vec<RgbFrame>, SourceIndex) {
    let (index, _) = index(sd, &ContentHash::of(b""), &mut |_| ControlFlow::Continue(())).unwrap();
    let end = index.frames.len() as u32;
    let frames = FrameReader::filtered(sd, &index, FrameRange { start: 0, end }, restore.clone()).unwrap();
    let colour = ColourSpec::guess(&index.video);
    let frames = frames.map(|frame| yuv_to_rgb(&frame.unwrap(), colour)).collect();
    (frames, index)
}

#[tokio::test]
async fn pairs_of_telecined_film_are_of_the_frames_that_inference_shows() {
    let root = tempfile::tempdir().unwrap();
    let discs = discs(root.path(), TELECINED);
    let out = root.path().join("out");
    let pairs = extracted(&discs, &out, &["--max-pairs", "40"]).await;
    let alignment: Alignment = read_json(&out.join("alignment.json"));
    assert_eq!(alignment.fields, FieldFilter::Match);
    assert!(pairs.len() >= 24, "{} pairs", pairs.len());
    let (shown, index) = shown(&discs[1], &FieldFilter::Match.into());
    for (lr_png, record) in pairs {
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
        let worst = greatest_difference(&lr_png, &record, &shown[record.sd_index as usize]);
        assert!(worst <= ROUNDING, "frame {}: {worst}", record.sd_index);
    }
}

#[tokio::test]
async fn pairs_of_deinterlaced_frames_are_made_by_nnedi_where_its_weights_are_given() {
    let root = tempfile::tempdir().unwrap();
    let discs = discs(root.path(), WHOLE);
    let weights = root.path().join("nnedi3_weights.bin");
    std::fs::write(&weights, vec![0; NO_WEIGHTS_BYTES]).unwrap();
    let more = "--fields deinterlace --max-pairs 6 --nnedi-weights";
    let more: Vec<&str> = more.split(' ').chain([path(&weights)]).collect();
    let pairs = extracted(&discs, &root.path().join("out"), &more).await;
    assert!(!pairs.is_empty());
    let by_nnedi = Restore {
        filter: FieldFilter::Deinterlace,
        nnedi_weights: Some(weights.clone()),
    };
    let (by_nnedi, _) = shown(&discs[1], &by_nnedi);
    let (by_bwdif, _) = shown(&discs[1], &FieldFilter::Deinterlace.into());
    for (lr_png, record) in pairs {
        assert_eq!(record.field_action, FieldAction::Deinterlace);
        let apart =
            |shown: &[RgbFrame]| greatest_difference(&lr_png, &record, &shown[record.sd_index as usize]);
        let (nnedi, bwdif) = (apart(&by_nnedi), apart(&by_bwdif));
        assert!(nnedi <= ROUNDING && bwdif > ROUNDING, "{nnedi} {bwdif}");
    }
}

/// Between the LR picture of a pair and the frame that it is of, 0 to 1.
fn greatest_difference(png: &[u8], record: &PairRecord, frame: &RgbFrame) -> f32 {
    let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut levels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut levels).unwrap();
    let (place, pixels) = (record.shown(), (frame.width * frame.height) as usize);
    let mut worst = 0.0f32;
    for (number, level) in levels.iter().enumerate() {
        let (pixel, channel) = (number as u32 / 3, number % 3);
        let (x, y) = (place.x + pixel % place.width, place.y + pixel / place.width);
        let own = frame.data[channel * pixels + (y * frame.width + x) as usize].clamp(0.0, 1.0);
        worst = worst.max((own - f32::from(*level) / 255.0).abs());
    }
    worst
}
