//! Of which moments is an SD frame? Its two fields are explained, each on its own, by the HD frame and its neighbours.
//!
//! No threshold on combing: where something moves, the share of a neighbour in a field is 0 for the right frame, 1 for
//! another frame's field, in between for a blend. What blur does to a picture is explained by a column of its own, or lost
//! detail would look like a bit of the neighbour. Progressive film is left alone whatever the disc's flags say.

use crate::Plane;
use crate::regression::Sums;

/// A pixel in which two HD frames differ by more moves.
const MOVING_LEVELS: f32 = 8.0;
/// Of still pixels every so manyth column counts: they fix contrast and blur only.
const STILL_STRIDE: usize = 4;
/// A field with fewer moving pixels says nothing, and nobody would see it.
const MOVING_PIXELS_MIN: usize = 96;
/// Blur that explains lost detail, in SD pixels.
const BLUR_PX: f64 = 1.0;
/// A field with at least this share of a neighbour belongs to it.
const OTHER_SHARE: f64 = 0.6;
/// A field with at most this share of it does not.
const OWN_SHARE: f64 = 0.25;

/// Parts of the HD frame before and of the one after, in the even and in the odd lines of the coded frame; 0 where
/// nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FieldShares {
    /// Even lines: before, after.
    pub even: [f64; 2],
    /// Odd lines: before, after.
    pub odd: [f64; 2],
}

/// Which SD frame has the missing field of a field-shifted stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reweave {
    /// Whether the odd lines are to be replaced; otherwise the even ones.
    pub odd: bool,
    /// By those of the next SD frame; otherwise of the one before.
    pub from_next: bool,
}

impl FieldShares {
    /// The largest share that is in both fields alike: a blend.
    #[must_use]
    pub fn blend(&self) -> f64 {
        let both = |side: usize| self.even[side].min(self.odd[side]);
        both(0).max(both(1)).max(0.0)
    }

    /// The largest share that is in one field and not in the other.
    #[must_use]
    pub fn difference(&self) -> f64 {
        let one = |side: usize| (self.even[side] - self.odd[side]).abs();
        let is_positive = |side: usize| self.even[side].max(self.odd[side]) > 0.0;
        (0..2)
            .filter(|&side| is_positive(side))
            .map(one)
            .fold(0.0, f64::max)
    }

    /// What puts the fields in order, where one of them belongs to a neighbour.
    #[must_use]
    pub fn reweave(&self) -> Option<Reweave> {
        let is_own = |field: &[f64; 2]| field.iter().all(|&share| share <= OWN_SHARE);
        // A field that shows the frame after came early, so the one that is missing came with the SD frame before.
        let of_other = |field: &[f64; 2]| {
            let later = field[1] >= field[0];
            (field[usize::from(later)] >= OTHER_SHARE).then_some(!later)
        };
        let replace = |odd: bool| move |from_next: bool| Reweave { odd, from_next };
        if is_own(&self.even) {
            of_other(&self.odd).map(replace(true))
        } else if is_own(&self.odd) {
            of_other(&self.even).map(replace(false))
        } else {
            None
        }
    }
}

/// Explains the fields of SD luma by HD luma before, at and after it, all on the SD lattice; `first_line` is the line of
/// the coded frame that the first line shows, `is_foreign` says which pixels (x, y) to leave out.
#[must_use]
pub fn field_shares(
    sd: &Plane,
    hd: [&Plane; 3],
    first_line: u32,
    is_foreign: impl Fn(usize, usize) -> bool,
) -> FieldShares {
    let blurred = hd[1].blur(BLUR_PX);
    let mut sums = [Sums::<6>::new(), Sums::<6>::new()];
    let mut moving = [[0usize; 2]; 2];
    for y in 0..sd.height {
        let field = (y + first_line as usize) % 2;
        let (line, own, blur) = (sd.row(y), hd[1].row(y), blurred.row(y));
        let (before, after) = (hd[0].row(y), hd[2].row(y));
        for x in 0..sd.width {
            let (to_before, to_after) = (before[x] - own[x], after[x] - own[x]);
            let moves = [to_before.abs() > MOVING_LEVELS, to_after.abs() > MOVING_LEVELS];
            if !(moves[0] || moves[1] || x.is_multiple_of(STILL_STRIDE)) || is_foreign(x, y) {
                continue;
            }
            moving[field][0] += usize::from(moves[0]);
            moving[field][1] += usize::from(moves[1]);
            // Levels around grey keep the sums well conditioned.
            let row = [
                1.0,
                own[x] - 128.0,
                blur[x] - own[x],
                to_before,
                to_after,
                line[x] - 128.0,
            ];
            sums[field].add(&row);
        }
    }
    let share = |field: usize, side: usize| {
        if moving[field][side] < MOVING_PIXELS_MIN {
            return 0.0;
        }
        let explained = sums[field].explain(&[0, 1, 2, 3 + side]);
        explained.map_or(0.0, |by| if by[1].abs() < 0.1 { 0.0 } else { by[3] / by[1] })
    };
    FieldShares {
        even: [share(0, 0), share(0, 1)],
        odd: [share(1, 0), share(1, 1)],
    }
}
