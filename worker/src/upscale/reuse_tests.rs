//! Reuse on a network whose every output is known: pixels doubled and averaged with those two columns and lines away.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use super::*;

const SIDE_PX: usize = 160;

/// Remembers the size of all it was shown.
#[derive(Default)]
struct Averaging {
    shown: RefCell<Vec<(usize, usize)>>,
    area_max_px: Option<usize>,
    near_px: Option<usize>,
}

impl Network for Averaging {
    fn scale(&self) -> usize {
        2
    }

    fn reach(&self) -> Reach {
        Reach {
            px: 2,
            near_px: self.near_px.unwrap_or(2),
            multiple_px: 1,
            area_max_px: self.area_max_px.unwrap_or(usize::MAX),
        }
    }

    fn make(&self, picture: Rgb) -> Result<Rgb, WorkError> {
        let (width, height) = (picture.width, picture.height);
        self.shown.borrow_mut().push((width, height));
        let at = |channel: usize, x: i64, y: i64| {
            let inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
            // A network sees zeros beyond the edge.
            if inside {
                picture.channel(channel)[y as usize * width + x as usize]
            } else {
                0.0
            }
        };
        let mut data = Vec::with_capacity(12 * width * height);
        for (channel, y, x) in (0..3).flat_map(|channel| {
            (0..2 * height as i64)
                .flat_map(move |y| (0..2 * width as i64).map(move |x| (channel, y / 2, x / 2)))
        }) {
            data.push((at(channel, x, y) + at(channel, x - 2, y) + at(channel, x, y + 2)) / 3.0);
        }
        Ok(Rgb::new(2 * width, 2 * height, data))
    }
}

/// A textured picture with a square of another brightness at `x`, and a little of `noise` everywhere.
fn picture(x: usize, noise: f32) -> Rgb {
    let value = |i: usize| {
        let (column, row) = (i % SIDE_PX, i / SIDE_PX % SIDE_PX);
        let in_square = (x..x + 10).contains(&column) && (40..50).contains(&row);
        ((column * 31 + row * 17) % 64) as f32 / 128.0
            + if in_square { 0.4 } else { 0.0 }
            + if (i * 13 + x).is_multiple_of(5) {
                noise
            } else {
                0.0
            }
    };
    Rgb::new(SIDE_PX, SIDE_PX, (0..3 * SIDE_PX * SIDE_PX).map(value).collect())
}

fn canvas(network: &Averaging, threshold: Option<f32>) -> Canvas {
    Canvas::new(SIDE_PX, SIDE_PX, network.reach(), threshold)
}

#[test]
fn at_threshold_0_every_frame_is_what_making_it_whole_gives() {
    let network = Averaging::default();
    let mut canvas = canvas(&network, Some(0.0));
    for (number, x) in [20, 20, 23, 23, 90, 91, 140, 0].into_iter().enumerate() {
        let picture = picture(x, 0.0);
        let expected = Averaging::default().make(picture.clone()).unwrap();
        assert!(
            *canvas.update(&picture, false, &network).unwrap() == expected,
            "frame {number}"
        );
    }
    let share = canvas.inferred().share();
    assert!(share < 0.5, "the background was made again: {share}");
}

#[test]
fn what_is_held_is_not_made_and_what_moves_is() {
    let network = Averaging::default();
    let mut canvas = canvas(&network, Some(0.01));
    let calls = |canvas: &mut Canvas, picture: &Rgb, starts_shot: bool| {
        network.shown.borrow_mut().clear();
        canvas.update(picture, starts_shot, &network).unwrap();
        network.shown.borrow().clone()
    };
    let whole = vec![(SIDE_PX, SIDE_PX)];
    assert_eq!(calls(&mut canvas, &picture(20, 0.0), false), whole);
    assert!(calls(&mut canvas, &picture(20, 0.005), false).is_empty(), "noise");
    let moved = calls(&mut canvas, &picture(24, 0.005), false);
    assert!(moved.len() == 1 && moved[0].0 < SIDE_PX / 2, "{moved:?}");
    assert_eq!(calls(&mut canvas, &picture(24, 0.005), true), whole, "a cut");
}

#[test]
fn small_changes_do_not_add_up() {
    let network = Averaging::default();
    let mut canvas = canvas(&network, Some(0.015));
    let at = |level: f32| Rgb::new(SIDE_PX, SIDE_PX, vec![level; 3 * SIDE_PX * SIDE_PX]);
    for step in 0..20 {
        let level = 0.01 * step as f32;
        let made = canvas.update(&at(level), false, &network).unwrap();
        let middle = made.data[SIDE_PX * 2 * SIDE_PX + SIDE_PX];
        assert!((middle - level).abs() <= 0.016, "{middle} instead of {level}");
    }
}

#[test]
fn all_is_made_again_now_and_then_and_always_where_reuse_is_off() {
    let network = Averaging::default();
    let held = picture(20, 0.0);
    let mut reusing = canvas(&network, Some(0.01));
    for _ in 0..2 * REFRESH_FRAMES {
        reusing.update(&held, false, &network).unwrap();
    }
    assert_eq!(network.shown.borrow().len(), 2);
    let mut off = canvas(&network, None);
    for _ in 0..3 {
        off.update(&held, false, &network).unwrap();
    }
    assert_eq!((network.shown.borrow().len(), off.inferred().share()), (5, 1.0));
}

#[test]
fn a_picture_in_parts_for_less_memory_is_the_same_picture() {
    let small = Averaging {
        area_max_px: Some(6000),
        ..Averaging::default()
    };
    let picture = picture(20, 0.0);
    let mut canvas = canvas(&small, None);
    let made = canvas.update(&picture, true, &small).unwrap();
    assert!(*made == Averaging::default().make(picture.clone()).unwrap());
    assert!(
        small
            .shown
            .borrow()
            .iter()
            .all(|(width, height)| width * height <= 6000)
    );
    assert!(small.shown.borrow().len() > 4);
}

#[test]
fn above_threshold_0_less_is_shown_of_what_moves_and_all_of_a_whole_picture() {
    let near = Averaging {
        area_max_px: Some(6000),
        near_px: Some(0),
        ..Averaging::default()
    };
    let expected = Averaging::default().make(picture(20, 0.0)).unwrap();
    let shown_of_a_move = |threshold: f32| {
        let mut canvas = canvas(&near, Some(threshold));
        let made = canvas.update(&picture(20, 0.0), true, &near).unwrap();
        assert!(*made == expected, "a whole picture in parts has seams");
        near.shown.borrow_mut().clear();
        canvas.update(&picture(24, 0.0), false, &near).unwrap();
        near.shown.borrow().clone()
    };
    let (exact, loose) = (shown_of_a_move(0.0), shown_of_a_move(0.01));
    assert_eq!((exact.len(), loose.len()), (1, 1));
    assert!(
        exact[0].0 > loose[0].0 && exact[0].1 > loose[0].1,
        "{exact:?} {loose:?}"
    );
}
