//! Does one frame lie where the episode's transform says, in the whole and in each ninth? One step of a fit of its shift
//! tells, since it starts a fraction of a pixel away at most.

use crate::Plane;
use crate::regression::Sums;

/// Parts across and down.
const TILES: usize = 3;
/// Blur that explains lost detail, in SD pixels.
const BLUR_PX: f64 = 1.0;
/// Mean squared slope, in levels a pixel, below which a tile cannot be placed.
const SLOPE_ENERGY_MIN: f64 = 25.0;
/// Every so manyth line counts.
const LINE_STRIDE: usize = 2;

/// How far a frame lies off, in SD pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Misplaced {
    /// The whole picture: across, down.
    pub(crate) whole_px: [f64; 2],
    /// The ninth that lies off furthest, of those with enough detail.
    pub(crate) tile_px: f64,
}

/// Measures how far SD luma lies off HD luma on the same lattice; `is_foreign` says which pixels (x, y) to leave out.
#[must_use]
pub(crate) fn misplaced(sd: &Plane, hd: &Plane, is_foreign: impl Fn(usize, usize) -> bool) -> Misplaced {
    let blurred = hd.blur(BLUR_PX);
    let mut tiles = vec![(Sums::<6>::new(), 0usize); TILES * TILES];
    let mut whole = (Sums::<6>::new(), 0usize);
    for y in (1..sd.height.saturating_sub(1)).step_by(LINE_STRIDE) {
        let (above, own, below) = (hd.row(y - 1), hd.row(y), hd.row(y + 1));
        let (line, blur) = (sd.row(y), blurred.row(y));
        for x in 1..sd.width - 1 {
            if is_foreign(x, y) {
                continue;
            }
            let across = (own[x + 1] - own[x - 1]) / 2.0;
            let down = (below[x] - above[x]) / 2.0;
            let row = [
                1.0,
                own[x] - 128.0,
                blur[x] - own[x],
                across,
                down,
                line[x] - 128.0,
            ];
            let tile = y * TILES / sd.height * TILES + x * TILES / sd.width;
            tiles[tile].0.add(&row);
            tiles[tile].1 += 1;
            whole.0.add(&row);
            whole.1 += 1;
        }
    }
    let far = |tile: &(Sums<6>, usize)| shift(tile).map_or(0.0, |[x, y]| x.hypot(y));
    Misplaced {
        whole_px: shift(&whole).unwrap_or_default(),
        tile_px: tiles.iter().map(far).fold(0.0, f64::max),
    }
}

/// Shift of a part; none where it has too little detail to tell.
fn shift((sums, count): &(Sums<6>, usize)) -> Option<[f64; 2]> {
    let least = SLOPE_ENERGY_MIN * *count as f64;
    if *count == 0 || sums.energy(3) < least || sums.energy(4) < least {
        return None;
    }
    let by = sums.explain(&[0, 1, 2, 3, 4])?;
    (by[1].abs() > 0.1).then(|| [by[3] / by[1], by[4] / by[1]])
}
