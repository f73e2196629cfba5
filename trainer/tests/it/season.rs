//! A small season in a `file://` store: moving gradients with edges, LR by averaging, several shots, made by the
//! same writer that extraction uses.

use std::path::Path;

use bytes::Bytes;
use remaster_domain::{
    ActiveArea, ColourTransform, ContentHash, DatasetManifest, FieldAction, Lattice, PairRecord, PairScores,
    PictType, Rational, ShardRef, Slope, Transform,
};
use remaster_store::{Key, PairFiles, ShardWriter, Store};

/// Side of an LR picture.
pub(crate) const LR_SIDE_PX: u32 = 24;
const PAIRS_PER_SHOT: u32 = 4;

/// A store with one dataset.
pub(crate) struct Season {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) manifest: DatasetManifest,
    pub(crate) hash: ContentHash,
    pub(crate) key: String,
}

impl Season {
    /// `pairs` pairs at 2x in two shards, every frame of the discs.
    pub(crate) async fn new(pairs: u32) -> Self {
        Self::of_every(1, pairs).await
    }

    /// Every so many frames of the discs only.
    pub(crate) async fn of_every(gap: u32, pairs: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let mut manifest = DatasetManifest {
            version: 1,
            season: "test".parse().unwrap(),
            lattice: Lattice::SdNative,
            scale: 2,
            shards: vec![],
            episodes: vec![],
            colour_cube: None,
        };
        for range in [0..pairs / 2, pairs / 2..pairs] {
            manifest
                .shards
                .push(write_shard(&store, folder.path(), range, gap).await);
        }
        let season = manifest.season.clone();
        let (hash, object) = store
            .put_json(&manifest, |hash| Key::dataset_object(&season, hash))
            .await
            .unwrap();
        Self {
            folder,
            store,
            manifest,
            hash,
            key: object.key,
        }
    }

    /// The same and a shard of an episode `e2` whose pairs are all synthetic.
    pub(crate) async fn with_synthetic(self, pairs: u32) -> Self {
        let records = (0..pairs).map(|frame| PairRecord {
            episode: "e2".parse().unwrap(),
            synthetic: true,
            ..record(frame, 1)
        });
        let shard = write_records(&self.store, self.folder.path(), records.collect()).await;
        self.changed(|manifest| manifest.shards.push(shard)).await
    }

    /// The same and a shard in which one of two pairs is synthetic.
    pub(crate) async fn with_a_mixed_shard(self) -> Self {
        let records = [100, 101].map(|frame| PairRecord {
            synthetic: frame == 101,
            ..record(frame, 1)
        });
        let shard = write_records(&self.store, self.folder.path(), records.into()).await;
        self.changed(|manifest| manifest.shards.push(shard)).await
    }

    /// The same shards under another manifest.
    pub(crate) async fn changed(mut self, change: impl FnOnce(&mut DatasetManifest)) -> Self {
        change(&mut self.manifest);
        let season = self.manifest.season.clone();
        let put = self
            .store
            .put_json(&self.manifest, |hash| Key::dataset_object(&season, hash));
        let (hash, object) = put.await.unwrap();
        Self {
            hash,
            key: object.key,
            ..self
        }
    }

    /// Flips one byte in the middle of a pair's HR picture.
    pub(crate) async fn damage(&self, shard: usize, pair: usize) {
        let sha256 = &self.manifest.shards[shard].sha256;
        let index = self.store.shard_index(sha256).await.unwrap();
        let member = &index.entries[pair].hr;
        let path = self.folder.path().join(Key::shard(sha256).as_str());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[(member.offset + member.length / 2) as usize] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
    }
}

async fn write_shard(store: &Store, folder: &Path, frames: std::ops::Range<u32>, gap: u32) -> ShardRef {
    write_records(store, folder, frames.map(|frame| record(frame, gap)).collect()).await
}

/// Pairs of one episode, each showing its `sd_pts`.
async fn write_records(store: &Store, folder: &Path, records: Vec<PairRecord>) -> ShardRef {
    let mut writer = ShardWriter::create(folder).unwrap();
    let mut keys = Vec::new();
    let episode = records[0].episode.clone();
    for record in records {
        let frame = u32::try_from(record.sd_pts).unwrap();
        let key = format!("{episode}-{frame:06}");
        let hr = picture(frame, LR_SIDE_PX * 2);
        writer
            .push(&PairFiles {
                key: key.clone(),
                lr_png: png(&halve(&hr, LR_SIDE_PX * 2), LR_SIDE_PX),
                hr_png: png(&hr, LR_SIDE_PX * 2),
                json: serde_json::to_vec(&record).unwrap().into(),
            })
            .unwrap();
        keys.push(key);
    }
    let shard = writer.finish().unwrap();
    store.put_shard(&shard).await.unwrap();
    ShardRef {
        episode,
        sha256: shard.index.shard.clone(),
        bytes: shard.index.bytes,
        keys,
    }
}

fn picture(frame: u32, side: u32) -> Vec<u8> {
    let shot = frame / PAIRS_PER_SHOT;
    let value = |x: u32, y: u32, channel: u32| {
        let edge = if (x + frame + y / 2).is_multiple_of(11 + shot) {
            90.0
        } else {
            0.0
        };
        let slope = f64::from(x * (channel + 1) + y * 2 + shot * 17) * 0.4;
        (40.0 + slope % 110.0 + edge) as u8
    };
    (0..side)
        .flat_map(|y| (0..side).flat_map(move |x| (0..3).map(move |c| value(x, y, c))))
        .collect()
}

fn halve(rgb: &[u8], side: u32) -> Vec<u8> {
    let at = |x: u32, y: u32, c: u32| u32::from(rgb[((y * side + x) * 3 + c) as usize]);
    let mean = |x: u32, y: u32, c: u32| {
        ((at(x, y, c) + at(x + 1, y, c) + at(x, y + 1, c) + at(x + 1, y + 1, c)) / 4) as u8
    };
    (0..side / 2)
        .flat_map(|y| (0..side / 2).flat_map(move |x| (0..3).map(move |c| mean(2 * x, 2 * y, c))))
        .collect()
}

fn png(rgb: &[u8], side: u32) -> Bytes {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(rgb).unwrap();
    bytes.into()
}

fn record(frame: u32, gap: u32) -> PairRecord {
    let time_base = Rational { num: 1, den: 25 };
    PairRecord {
        version: 1,
        episode: "e1".parse().unwrap(),
        shot: frame / PAIRS_PER_SHOT,
        sd_index: frame * gap,
        hd_index: frame * gap,
        sd_pts: i64::from(frame),
        hd_pts: i64::from(frame),
        sd_time_base: time_base,
        hd_time_base: time_base,
        segment: 0,
        slope: Slope::ONE,
        lattice: Lattice::SdNative,
        scale: 2,
        sar: Some(Rational { num: 64, den: 45 }),
        active: ActiveArea {
            x: 0,
            y: 0,
            width: LR_SIDE_PX,
            height: LR_SIDE_PX,
        },
        lr_area: None,
        hd_place: None,
        mask: vec![],
        transform: Transform {
            sx: 2.0,
            sy: 2.0,
            tx: 0.0,
            ty: 0.0,
        },
        colour: ColourTransform::IDENTITY,
        curves: None,
        field_action: FieldAction::Weave,
        scores: PairScores {
            zncc: 1.0,
            block_zncc_p5: 1.0,
            neighbour_block_zncc_p5: 0.5,
            luma_sd: 20.0,
            ..PairScores::default()
        },
        pict_type: PictType::P,
        sd_hash: ContentHash::of(b"sd"),
        hd_hash: ContentHash::of(b"hd"),
        synthetic: false,
    }
}
