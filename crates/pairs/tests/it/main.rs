//! The crate as a worker uses it, on synthetic episodes whose truth is known: time, space, gates and choice.
#![allow(clippy::unwrap_used)]

mod gates;
mod slopes;

use gates::coloured;
use remaster_domain::{THUMB_HEIGHT_PX, THUMB_WIDTH_PX, Transform};
use remaster_pairs::{
    ChooseInput, EDGE_FRAMES, PAIRS_PER_SHARD, PathConfig, Plane, Refusal, Thumbs, align_path, choose_frames,
    hd_frame, is_safe, solve_transform, warp_hd_to_sd_lattice,
};

/// A number in -1..1 that depends on the seed alone.
fn noise(seed: u64) -> f64 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0xD1B5_4A32_D192_ED03);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// A film: shots of 60 frames, drawings held on twos, waves that move on.
struct Film {
    seed: u64,
}

impl Film {
    fn level(&self, frame: usize, x: f64, y: f64) -> f64 {
        let (shot, drawing) = ((frame / 60) as u64, (frame / 2) as f64);
        let mut sum = 0.0;
        for wave in 0..6u64 {
            let n = |what: u64| noise(self.seed * 1_000_003 + shot * 97 + wave * 11 + what);
            let speed = 0.35 * n(1);
            sum += (n(2) * 0.25 * x + n(3) * 0.35 * y + speed * drawing + 9.0 * n(4)).sin();
        }
        126.0 + 17.0 * sum
    }

    /// Thumbnails of some frames, with noise as from a coder; `None` is black.
    fn thumbs(&self, frames: &[Option<usize>], noise_levels: f64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (place, frame) in frames.iter().enumerate() {
            for i in 0..THUMB_WIDTH_PX * THUMB_HEIGHT_PX {
                let (x, y) = ((i % THUMB_WIDTH_PX) as f64, (i / THUMB_WIDTH_PX) as f64);
                let level = frame.map_or(16.0, |frame| self.level(frame, x, y));
                let grain = noise_levels * noise((place * 100_000 + i) as u64);
                bytes.push((level + grain).clamp(16.0, 235.0) as u8);
            }
        }
        bytes
    }
}

fn prepared(film: u64, frames: &[Option<usize>], noise_levels: f64) -> Thumbs {
    Thumbs::prepare(&Film { seed: film }.thumbs(frames, noise_levels)).unwrap()
}

fn span(range: std::ops::Range<usize>) -> Vec<Option<usize>> {
    range.map(Some).collect()
}

#[test]
fn a_constant_offset_is_found_exactly() {
    let hd = prepared(1, &span(0..420), 0.0);
    for lead in [0, 37, 115] {
        let sd = prepared(1, &span(lead..lead + 300), 3.0);
        let segments = align_path(&sd, &hd, &PathConfig::default()).unwrap();
        assert_eq!(segments.len(), 1);
        assert_eq!((segments[0].offset, segments[0].sd.len()), (lead as i64, 300));
        assert!(segments[0].zncc > 0.9 && segments[0].discriminating >= 3);
    }
}

#[test]
fn edits_are_found_and_no_safe_frame_is_paired_wrongly() {
    let hd = prepared(2, &span(0..500), 0.0);
    // A lead of black, a piece missing here, black put in there, and a scene that HD lacks.
    let mut sd = vec![None; 20];
    sd.extend(span(0..170));
    sd.extend(span(182..330));
    sd.extend([None; 30]);
    sd.extend(span(330..410));
    sd.extend(span(600..660));
    sd.extend(span(410..500));
    let thumbs = prepared(2, &sd, 4.0);
    let segments = align_path(&thumbs, &hd, &PathConfig::default()).unwrap();
    let mut safe = 0;
    for (i, truth) in sd
        .iter()
        .enumerate()
        .filter(|(i, _)| is_safe(&segments, *i as u32))
    {
        if let Some(truth) = truth {
            // Held on twos, a neighbour can be the same drawing: the picture must be right, not only the number.
            assert_eq!(
                hd_frame(&segments, i as u32).unwrap().1 as usize,
                *truth,
                "sd frame {i}"
            );
            safe += 1;
        }
    }
    assert!(safe > 330, "{safe} of 488 frames are safe: {segments:?}");
    assert!(
        segments
            .iter()
            .all(|s| !is_safe(&segments, s.sd.start + EDGE_FRAMES - 1))
    );
}

#[test]
fn another_episode_is_refused_at_any_slope() {
    let config = PathConfig::default();
    let hd = prepared(3, &span(0..400), 0.0);
    let other = align_path(&prepared(4, &span(0..400), 2.0), &hd, &config);
    assert!(matches!(other, Err(Refusal::AnotherEpisode { .. })), "{other:?}");
}

#[test]
fn nothing_that_proves_the_frame_gives_no_pairs() {
    let config = PathConfig::default();
    let still = vec![Some(7); 200];
    let refusal = align_path(&prepared(5, &still, 1.0), &prepared(5, &still, 0.0), &config);
    assert_eq!(refusal, Err(Refusal::NoEvidence));
    let black = vec![None; 200];
    let refusal = align_path(&prepared(5, &black, 1.0), &prepared(5, &black, 0.0), &config);
    assert!(refusal.is_err());
    let short = align_path(&prepared(5, &still[..9], 0.0), &prepared(5, &still, 0.0), &config);
    assert!(matches!(short, Err(Refusal::TooShort { sd: 9, hd: 200, .. })));
}

/// A detailed HD luma picture as a formula, so that any lattice can be drawn exactly.
fn drawn(seed: u64, width: usize, height: usize, at: impl Fn(f64, f64) -> (f64, f64)) -> Plane {
    let waves: Vec<[f64; 3]> = (0..14)
        .map(|w| {
            let n = |what: u64| noise(seed * 7919 + w * 13 + what);
            [0.35 * n(1), 0.35 * n(2), 9.0 * n(3)]
        })
        .collect();
    let mut data = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = at(x as f64 + 0.5, y as f64 + 0.5);
            let sum: f64 = waves.iter().map(|w| (w[0] * u + w[1] * v + w[2]).sin()).sum();
            data.push((120.0 + 14.0 * sum) as f32);
        }
    }
    Plane::new(width, height, data)
}

/// SD and HD of several frames under a transform, with a grade, noise and dead rows on SD.
fn scene(transform: &Transform, dead_rows: usize) -> Vec<(Plane, Plane)> {
    let t = *transform;
    let frame = |seed: u64| {
        let hd = drawn(seed, 320, 180, |x, y| (x, y));
        let mut sd = drawn(seed, 144, 96, |x, y| (t.sx * x + t.tx, t.sy * y + t.ty));
        for (i, value) in sd.data.iter_mut().enumerate() {
            let lit = if i / 144 < dead_rows { 0.0 } else { 1.0 };
            *value = lit * (0.93 * *value + 6.0 + 2.0 * noise(seed * 1_000_000 + i as u64) as f32);
        }
        (sd, hd)
    };
    (0..6).map(frame).collect()
}

fn corner_error(a: &Transform, b: &Transform) -> f64 {
    let at = |t: &Transform, x: f64, y: f64| (t.sx * x + t.tx, t.sy * y + t.ty);
    let corners = [(0.0, 0.0), (144.0, 0.0), (0.0, 96.0), (144.0, 96.0)];
    let distance = |&(x, y): &(f64, f64)| {
        let (p, q) = (at(a, x, y), at(b, x, y));
        (p.0 - q.0).hypot(p.1 - q.1)
    };
    corners.iter().map(distance).fold(0.0, f64::max)
}

#[test]
fn geometry_is_recovered_to_a_twentieth_of_a_pixel() {
    let (sx, sy) = (320.0 / 144.0, 180.0 / 96.0);
    let cases = [
        (
            Transform {
                sx,
                sy,
                tx: 0.0,
                ty: 0.0,
            },
            0,
        ),
        (
            Transform {
                sx: sx * 1.01,
                sy: sy * 0.99,
                tx: 1.3,
                ty: -0.7,
            },
            0,
        ),
        (
            Transform {
                sx: sx * 720.0 / 704.0,
                sy,
                tx: -3.6,
                ty: 2.25,
            },
            0,
        ),
        (
            Transform {
                sx,
                sy: sy * 96.0 / 94.0,
                tx: 0.4,
                ty: -3.8,
            },
            2,
        ),
    ];
    for (truth, dead_rows) in cases {
        let found = solve_transform(&scene(&truth, dead_rows), None).unwrap();
        let error = corner_error(&truth, &found.transform);
        assert!(error <= 0.05, "{error} px for {truth:?}: {found:?}");
        assert!(
            found.corner_spread_px < 0.2 && found.active.y >= dead_rows as u32,
            "{found:?}"
        );
        let again = solve_transform(&scene(&truth, dead_rows), Some(found.transform)).unwrap();
        assert!(corner_error(&truth, &again.transform) <= 0.05);
    }
}

#[test]
fn pictures_that_do_not_belong_together_are_not_registered() {
    let t = Transform {
        sx: 320.0 / 144.0,
        sy: 1.875,
        tx: 0.0,
        ty: 0.0,
    };
    let mut frames = scene(&t, 0);
    let first = frames[0].1.clone();
    for i in 1..6 {
        frames[i - 1].1 = frames[i].1.clone();
    }
    frames[5].1 = first;
    assert!(matches!(
        solve_transform(&frames, None),
        Err(Refusal::Geometry { .. })
    ));
    assert!(matches!(
        solve_transform(&frames[..1], None),
        Err(Refusal::Geometry { .. })
    ));
    let flat = vec![
        (
            Plane::new(144, 96, vec![90.0; 144 * 96]),
            Plane::new(320, 180, vec![90.0; 57_600])
        );
        3
    ];
    assert!(matches!(
        solve_transform(&flat, None),
        Err(Refusal::Geometry { .. })
    ));
}

#[test]
fn results_are_the_same_bytes_for_any_number_of_threads() {
    let t = Transform {
        sx: 2.2,
        sy: 1.9,
        tx: 0.7,
        ty: -0.6,
    };
    let frames = scene(&t, 0);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let hd = prepared(6, &span(0..200), 0.0);
            let path = align_path(&prepared(6, &span(9..150), 3.0), &hd, &PathConfig::default()).unwrap();
            let found = solve_transform(&frames, None).unwrap();
            let picture = coloured(1, 0.0);
            let warped = warp_hd_to_sd_lattice(&picture, &found.transform, found.active, 2);
            (path, found, warped)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn the_choice_is_spread_bounded_safe_and_always_the_same() {
    let sd = prepared(8, &span(0..420), 1.0);
    let segments = align_path(&sd, &prepared(8, &span(0..420), 0.0), &PathConfig::default()).unwrap();
    let cuts: Vec<u32> = (1..7).map(|shot| shot * 60).collect();
    // Every seventh frame never goes out.
    let shown: Vec<u32> = (0..420).filter(|frame| frame % 7 != 0).collect();
    let choose = |pairs_max: usize| {
        choose_frames(&ChooseInput {
            segments: &segments,
            sd: &sd,
            shown: &shown,
            sd_cuts: &cuts,
            pairs_max,
        })
    };
    let all = choose(600);
    assert_eq!(all, choose(600));
    let frames: Vec<_> = all.iter().flat_map(|s| s.frames.clone()).collect();
    assert!(
        (60..=396).contains(&frames.len()),
        "{} frames of 420, held on twos",
        frames.len()
    );
    assert!(frames.windows(2).all(|w| w[0].sd < w[1].sd));
    assert!(
        frames
            .iter()
            .all(|f| is_safe(&segments, f.sd) && f.hd == f.sd && f.shot == f.sd / 60)
    );
    assert!(
        all.iter()
            .enumerate()
            .all(|(n, s)| s.number as usize == n && s.frames.len() <= PAIRS_PER_SHARD)
    );
    let few: Vec<_> = choose(7).into_iter().flat_map(|s| s.frames).collect();
    let shots: Vec<u32> = few.iter().map(|f| f.shot).collect();
    assert_eq!(
        shots,
        [0, 1, 2, 3, 4, 5, 6],
        "one of each shot before a second of any"
    );
    assert!(choose(0).is_empty());
    let some: Vec<_> = choose(48).into_iter().flat_map(|s| s.frames).collect();
    let followed = some
        .windows(2)
        .filter(|two| two[1].sd == two[0].sd + 1 && two[1].shot == two[0].shot)
        .count();
    assert_eq!(some.len(), 48);
    assert!(
        (2..=6).contains(&followed),
        "{followed} of 48 have the next frame beside them"
    );
}

#[test]
fn half_of_a_two_parter_is_another_cut() {
    let sd = prepared(9, &span(0..400), 1.0);
    let half = align_path(&sd, &prepared(9, &span(0..170), 0.0), &PathConfig::default());
    assert!(
        matches!(half, Err(Refusal::OtherCut { covered }) if covered < 0.5),
        "{half:?}"
    );
}
