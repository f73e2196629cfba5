//! Discs that count frames differently: whatever was cut, and wherever, no safe frame has a wrong partner.

use proptest::prelude::*;
use remaster_domain::{PathSegment, Slope};
use remaster_pairs::{PathConfig, Refusal, Thumbs, align_path, hd_frame, is_safe};

use super::{Film, prepared, span};

/// Slopes with the film frame that SD frame `i` shows, of HD frames counted from the same start.
const SLOPES: [Slope; 6] = [
    Slope { hd: 1, sd: 1 },
    Slope { hd: 24, sd: 25 },
    Slope { hd: 960, sd: 1001 },
    Slope { hd: 4, sd: 5 },
    Slope { hd: 1, sd: 2 },
    Slope { hd: 2, sd: 1 },
];

/// Both copies as film frames, HD with gaps: `edits` are (frames of HD before the edit, frames that SD then lacks).
fn copies(slope: Slope, place: i64, edits: &[(usize, usize)]) -> (Vec<usize>, Vec<usize>) {
    let hd_frames = 700;
    let hd: Vec<usize> = (0..hd_frames).collect();
    let mut kept = Vec::new();
    let mut from = 0;
    for &(frames, missing) in edits {
        kept.extend(from..(from + frames).min(hd_frames));
        from += frames + missing;
    }
    kept.extend(from.min(hd_frames)..hd_frames);
    // The cadence runs over what was cut together, as it does on a disc that was cut first.
    let shown = (0..).map(|i| usize::try_from(slope.partner(place, i).0).unwrap_or(0));
    let sd = shown.map_while(|k| kept.get(k).copied()).collect();
    (sd, hd)
}

/// Safe frames, and those of them whose partner is another film frame than their own.
fn tally(segments: &[PathSegment], sd: &[usize], hd: &[usize]) -> (usize, Vec<(usize, usize, usize)>) {
    let safe: Vec<u32> = (0..sd.len() as u32).filter(|&i| is_safe(segments, i)).collect();
    let wrong = safe.iter().filter_map(|&i| {
        let (own, partner) = (sd[i as usize], hd[hd_frame(segments, i).unwrap().1 as usize]);
        // Drawings are held on twos: the other frame of a drawing is the same picture.
        (own / 2 != partner / 2).then_some((i as usize, own, partner))
    });
    (safe.len(), wrong.collect())
}

fn aligned(sd: &[usize], hd: &[usize]) -> Result<Vec<PathSegment>, Refusal> {
    let thumbs = |frames: &[usize], noise: f64| {
        let frames: Vec<Option<usize>> = frames.iter().copied().map(Some).collect();
        prepared(11, &frames, noise)
    };
    align_path(&thumbs(sd, 2.0), &thumbs(hd, 0.0), &PathConfig::default())
}

#[test]
fn every_slope_is_found_with_its_place_in_the_cadence() {
    for slope in SLOPES {
        let (sd, hd) = copies(slope, 0, &[]);
        let segments = aligned(&sd, &hd).unwrap();
        let (safe, wrong) = tally(&segments, &sd, &hd);
        assert_eq!(wrong, [], "{slope:?}: {segments:?}");
        assert!(
            segments.iter().all(|s| s.slope == slope),
            "{slope:?}: {segments:?}"
        );
        assert!(
            safe * 10 > sd.len() * 7,
            "{slope:?}: {safe} of {} are safe",
            sd.len()
        );
    }
}

#[test]
fn of_pulldown_the_frames_of_one_moment_are_paired() {
    let film = Film { seed: 12 };
    let film_frames = 480;
    let hd = prepared(12, &span(0..film_frames), 0.0);
    let one = |frame: usize| film.thumbs(&[Some(frame)], 0.0);
    // Two of five frames show a field of each of two film frames, which a thumbnail averages.
    let mixed = |a: usize, b: usize| -> Vec<u8> {
        let pairs = one(a).into_iter().zip(one(b));
        pairs.map(|(x, y)| u8::midpoint(x, y)).collect()
    };
    let mut thumbs = Vec::new();
    let mut moments = Vec::new();
    for a in (0..film_frames - 4).step_by(4) {
        thumbs.extend(
            [
                one(a),
                one(a + 1),
                mixed(a + 1, a + 2),
                mixed(a + 2, a + 3),
                one(a + 3),
            ]
            .concat(),
        );
        moments.extend([
            [a, a],
            [a + 1, a + 1],
            [a + 1, a + 2],
            [a + 2, a + 3],
            [a + 3, a + 3],
        ]);
    }
    let segments = align_path(&Thumbs::prepare(&thumbs).unwrap(), &hd, &PathConfig::default()).unwrap();
    assert!(
        segments.iter().all(|s| s.slope == Slope { hd: 4, sd: 5 }),
        "{segments:?}"
    );
    let mut safe = 0;
    for i in (0..moments.len() as u32).filter(|&i| is_safe(&segments, i)) {
        let partner = hd_frame(&segments, i).unwrap().1 as usize;
        let [first, second] = moments[i as usize];
        assert!(
            partner / 2 == first / 2 || partner / 2 == second / 2,
            "sd {i} shows {first} and {second}, not {partner}"
        );
        safe += 1;
    }
    // Held on twos in step with the cadence, two of its five places can be told.
    assert!(safe * 3 > moments.len(), "{safe} of {} are safe", moments.len());
}

#[test]
fn hd_frames_that_all_come_twice_are_paired_once_each() {
    let sd: Vec<usize> = (5..300).collect();
    let hd: Vec<usize> = (0..600).map(|i| i / 2).collect();
    let segments = aligned(&sd, &hd).unwrap();
    let (safe, wrong) = tally(&segments, &sd, &hd);
    assert_eq!(wrong, []);
    assert!(safe > 250, "{safe}: {segments:?}");
}

#[test]
fn a_disc_converted_between_standards_is_refused_by_name() {
    let film = Film { seed: 13 };
    // Every frame a drawing of its own: blends of a held drawing are that drawing.
    let drawings: Vec<Option<usize>> = (0..400).map(|i| Some(2 * i)).collect();
    let hd = prepared(13, &drawings, 0.0);
    let moment = |i: usize| i as f64 * 24.0 / 25.0 + 0.3;
    let blend = |i: usize| -> Vec<u8> {
        let (first, share) = (moment(i) as usize, moment(i).fract());
        let pair = film.thumbs(&[Some(2 * first), Some(2 * first + 2)], 0.0);
        let (a, b) = pair.split_at(pair.len() / 2);
        // No frame is left whole.
        let share = share.clamp(0.3, 0.7);
        let mix = |(a, b): (&u8, &u8)| (f64::from(*a) * (1.0 - share) + f64::from(*b) * share).round() as u8;
        a.iter().zip(b).map(mix).collect()
    };
    let sd: Vec<u8> = (0..400).flat_map(blend).collect();
    let refusal = align_path(&Thumbs::prepare(&sd).unwrap(), &hd, &PathConfig::default());
    assert!(
        matches!(refusal, Err(Refusal::StandardsConverted { .. })),
        "{refusal:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn no_edit_list_makes_a_wrong_pair(
        which in 0..SLOPES.len(),
        place in 0i64..25,
        edits in prop::collection::vec((60usize..240, 1usize..70), 0..4),
    ) {
        let (sd, hd) = copies(SLOPES[which], place, &edits);
        // To find nothing is allowed, to find something wrong is not.
        if let Ok(segments) = aligned(&sd, &hd) {
            let (_, wrong) = tally(&segments, &sd, &hd);
            prop_assert_eq!(wrong, vec![], "{:?}", segments);
        }
    }
}
