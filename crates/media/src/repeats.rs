//! Finds frames that show what the frame before them shows, from the thumbnails of the index: drawings held on twos and
//! threes, stills, and frames that a conversion put in twice.

use crate::THUMB_BYTES;

/// Levels by which cells of a thumbnail may differ from those of the same picture: a cell is the mean of a hundred pixels or more.
/// Measured on film held on twos, through MPEG-2 at 4.8 Mb/s: 2 at most, and by 2 no more than 6 cells of a frame.
const CELL_LEVELS_MAX: u8 = 2;
/// Cells that may differ by more than a level, which is rounding. Of frames that move, all but one in a hundred had 16 and more.
const CELLS_OFF_MAX: usize = 8;

/// The frames, ascending. `thumbs` are those of the index, one after the other.
pub(crate) fn find_repeats(thumbs: &[u8]) -> Vec<u32> {
    let frames: Vec<&[u8]> = thumbs.chunks_exact(THUMB_BYTES).collect();
    let same = |pair: &[&[u8]]| {
        let off = pair[0].iter().zip(pair[1]).map(|(&a, &b)| a.abs_diff(b));
        off.clone().all(|levels| levels <= CELL_LEVELS_MAX)
            && off.filter(|&levels| levels > 1).count() <= CELLS_OFF_MAX
    };
    let pairs = (1..).zip(frames.windows(2));
    pairs
        .filter(|(_, pair)| same(pair))
        .map(|(frame, _)| frame)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_drawing_repeats_and_one_cell_that_moves_does_not() {
        let drawing = |level: u8, cell: u8| {
            let mut thumb = vec![level; THUMB_BYTES];
            thumb[700] = cell;
            thumb
        };
        let film = [
            drawing(80, 80),
            drawing(81, 80),
            drawing(81, 83),
            drawing(81, 83),
            drawing(20, 20),
        ];
        assert_eq!(find_repeats(&film.concat()), [1, 3]);
        assert_eq!(find_repeats(&[]), [0; 0]);
    }
}
