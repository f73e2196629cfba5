//! The gates: what they let through, what they turn away and by which name, what is masked and what is put in order.

use remaster_domain::{ActiveArea, MaskRect, Transform};
use remaster_pairs::{
    Candidate, Gate, GateLimits, Plane, Reweave, Rgb, Verdict, field_shares, judge_pair,
    warp_hd_to_sd_lattice, warp_luma_to_sd_lattice,
};

use super::{drawn, noise};

/// A colour picture that moves sideways by `shift`.
pub(super) fn coloured(seed: u64, shift: f64) -> Rgb {
    let planes = (0..3).map(|c| drawn(seed + c, 320, 180, |x, y| (x - shift, y)));
    Rgb::new(320, 180, planes.flat_map(|p| p.data).map(|v| v / 255.0).collect())
}

const HALF: Transform = Transform {
    sx: 2.0,
    sy: 2.0,
    tx: 0.0,
    ty: 0.0,
};
const ALL: ActiveArea = ActiveArea {
    x: 0,
    y: 0,
    width: 160,
    height: 90,
};

fn on_lattice(shift: f64, scale: u32) -> Rgb {
    warp_hd_to_sd_lattice(&coloured(30, shift), &HALF, ALL, scale)
}

fn luma(shift: f64) -> Plane {
    warp_luma_to_sd_lattice(&coloured(30, shift).luma(), &HALF, ALL)
}

fn noisy(mut picture: Rgb) -> Rgb {
    for (i, value) in picture.data.iter_mut().enumerate() {
        *value += 0.008 * noise(i as u64) as f32;
    }
    picture
}

/// Judges `lr` against the HD frame that has moved by `hr_shift`, with neighbours `step` before and after.
fn judged(lr: &Rgb, hr_shift: f64, step: f64) -> Verdict {
    let hd = [hr_shift - step, hr_shift, hr_shift + step].map(luma);
    let pair = Candidate {
        lr,
        hr: &on_lattice(hr_shift, 2),
        hd_luma: [&hd[0], &hd[1], &hd[2]],
        first_line: 0,
    };
    judge_pair(&pair, &GateLimits::default())
}

fn verdict(lr_shift: f64, hr_shift: f64, step: f64) -> Verdict {
    judged(&noisy(on_lattice(lr_shift, 1)), hr_shift, step)
}

#[test]
fn the_right_frame_passes_and_one_frame_off_never_does() {
    for step in [0.5, 1.0, 4.0, 15.0] {
        assert!(
            matches!(verdict(0.0, 0.0, step), Verdict::Accepted(..)),
            "step {step}"
        );
        let off = verdict(0.0, step, step);
        assert!(matches!(off, Verdict::Rejected(..)), "step {step}: {off:?}");
    }
    assert!(
        matches!(verdict(0.0, 0.0, 0.0), Verdict::Accepted(..)),
        "a hold fits both ways"
    );
}

/// Lines of one picture between those of another.
fn woven(even: &Rgb, odd: &Rgb) -> Rgb {
    let pick = |i: usize| {
        if (i / even.width % even.height).is_multiple_of(2) {
            even.data[i]
        } else {
            odd.data[i]
        }
    };
    Rgb::new(even.width, even.height, (0..even.data.len()).map(pick).collect())
}

#[test]
fn fields_of_two_frames_are_seen_and_the_missing_one_is_named() {
    let [before, own, after] = [-2.0, 0.0, 2.0].map(luma);
    let shares =
        |lr: &Rgb, first_line| field_shares(&lr.luma(), [&before, &own, &after], first_line, |_, _| false);
    let at = |shift: f64| noisy(on_lattice(shift, 1));
    assert_eq!(shares(&at(0.0), 0).reweave(), None);
    assert!(shares(&at(0.0), 0).difference() < 0.1 && shares(&at(0.0), 0).blend() < 0.05);
    let late = woven(&at(0.0), &at(2.0));
    let expected = Reweave {
        odd: true,
        from_next: false,
    };
    assert_eq!(shares(&late, 0).reweave(), Some(expected));
    assert_eq!(
        shares(&late, 1).reweave(),
        Some(Reweave {
            odd: false,
            ..expected
        })
    );
    let early = woven(&at(-2.0), &at(0.0));
    assert_eq!(
        shares(&early, 0).reweave(),
        Some(Reweave {
            odd: false,
            from_next: true
        })
    );
    let between = woven(&at(0.0), &at(1.0));
    assert_eq!(shares(&between, 0).reweave(), None);
    assert!(matches!(
        judged(&between, 0.0, 2.0),
        Verdict::Rejected(Gate::Fields, _)
    ));
    let again = woven(&at(0.0), &at(0.0));
    assert!(matches!(judged(&again, 0.0, 2.0), Verdict::Accepted(..)));
}

#[test]
fn a_blend_a_shift_and_blur_are_turned_away_by_their_names() {
    let (own, after) = (on_lattice(0.0, 1), on_lattice(6.0, 1));
    let mix = own
        .data
        .iter()
        .zip(&after.data)
        .map(|(a, b)| 0.85 * a + 0.15 * b)
        .collect();
    let blend = judged(&noisy(Rgb::new(160, 90, mix)), 0.0, 6.0);
    assert!(matches!(blend, Verdict::Rejected(Gate::Blend, _)), "{blend:?}");
    // Half an LR pixel, and nothing moves that could explain it.
    let shifted = judged(&noisy(on_lattice(1.0, 1)), 0.0, 0.0);
    assert!(
        matches!(shifted, Verdict::Rejected(Gate::Registration, s) if (s.shift_px - 0.5).abs() < 0.15),
        "{shifted:?}"
    );
    let mut blurred = own.clone();
    for channel in 0..3 {
        let plane = Plane::new(160, 90, own.channel(channel).to_vec()).blur(2.5);
        blurred.data[channel * 14_400..(channel + 1) * 14_400].copy_from_slice(&plane.data);
    }
    let blurred = judged(&noisy(blurred), 0.0, 0.0);
    assert!(
        matches!(blurred, Verdict::Rejected(Gate::Sharpness | Gate::SameFrame, _)),
        "{blurred:?}"
    );
}

#[test]
fn a_logo_is_masked_and_a_wrong_frame_is_not() {
    let mut lr = noisy(on_lattice(0.0, 1));
    for channel in 0..3 {
        for line in 10..24 {
            let start = (channel * 90 + line) * 160 + 120;
            for (x, value) in lr.data[start..start + 24].iter_mut().enumerate() {
                *value = if (x / 4 + line / 4).is_multiple_of(2) {
                    0.95
                } else {
                    0.05
                };
            }
        }
    }
    let Verdict::Accepted(scores, mask) = judged(&lr, 0.0, 4.0) else {
        panic!("{:?}", judged(&lr, 0.0, 4.0));
    };
    let covered = |m: &MaskRect| m.x <= 120 && m.y <= 10 && m.x + m.width >= 144 && m.y + m.height >= 24;
    assert!(
        mask.iter().any(covered) && scores.masked_share < 0.15,
        "{mask:?} {scores:?}"
    );
    assert!(matches!(verdict(0.0, 0.0, 4.0), Verdict::Accepted(_, mask) if mask.is_empty()));
    assert!(matches!(verdict(15.0, 0.0, 15.0), Verdict::Rejected(_, s) if s.masked_share < 0.05));
}

#[test]
fn dark_pictures_and_other_colours_are_turned_away() {
    let judge = |lr: &Rgb, hr: &Rgb| {
        let hd = hr.luma();
        let pair = Candidate {
            lr,
            hr,
            hd_luma: [&hd, &hd, &hd],
            first_line: 0,
        };
        judge_pair(&pair, &GateLimits::default())
    };
    let flat = Rgb::new(160, 96, vec![0.02; 3 * 160 * 96]);
    assert!(matches!(judge(&flat, &flat), Verdict::Rejected(Gate::Content, _)));
    // Soft enough that some blocks are flat: those carry the colours.
    let soft = drawn(3, 160, 96, |x, y| (x / 3.0, y / 3.0));
    let picture = |red: f32| {
        let planes = [
            soft.data.iter().map(|v| v / 255.0 + red).collect::<Vec<_>>(),
            grey(&soft),
            grey(&soft),
        ];
        Rgb::new(160, 96, planes.concat())
    };
    let same = judge(&picture(0.0), &picture(0.0));
    assert!(matches!(same, Verdict::Accepted(..)), "{same:?}");
    let red = judge(&picture(0.05), &picture(0.0));
    assert!(matches!(red, Verdict::Rejected(Gate::Colour, _)), "{red:?}");
}

fn grey(plane: &Plane) -> Vec<f32> {
    plane.data.iter().map(|v| v / 255.0).collect()
}
