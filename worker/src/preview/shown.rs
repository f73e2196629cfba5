//! A look as a page shows it: the whole picture made small and one place at full size, before and after, as data URIs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use remaster_media::jpeg_of;
use remaster_pairs::{Plane, Rgb, resize_lanczos};

use super::look::Look;
use crate::compare::{Covered, most_detailed};
use crate::error::WorkError;
use crate::picture::frame_of;

/// Width of each picture: two beside each other fit a page.
const WIDTH_PX: usize = 560;
/// Height of the place at full size.
const CROP_HEIGHT_PX: usize = 360;
/// Filters see beyond the edge of a picture.
const EDGE_PX: usize = 8;

/// What a page shows of one look.
#[derive(Debug)]
pub(super) struct Shown {
    /// Seconds from the start of the episode.
    pub(super) at_s: f64,
    /// The whole picture, small.
    pub(super) whole: BeforeAfter,
    /// A part of it, pixel by pixel.
    pub(super) part: BeforeAfter,
    /// Where the part lies.
    pub(super) corner: (usize, usize),
    /// Size of the picture it is a part of.
    pub(super) output: (usize, usize),
}

/// The same place twice.
#[derive(Debug)]
pub(super) struct BeforeAfter {
    pub(super) width: usize,
    pub(super) height: usize,
    /// By Lanczos.
    pub(super) before: String,
    /// By the model.
    pub(super) after: String,
}

/// Makes the pictures.
pub(super) fn shown(look: &Look) -> Result<Shown, WorkError> {
    let (before, after) = (&look.lanczos, &look.made);
    let output = (after.width, after.height);
    let (width, height) = (WIDTH_PX.min(output.0), CROP_HEIGHT_PX.min(output.1));
    let corner = place(before, after, width, height);
    let part = |picture: &Rgb| picture.crop(corner.0, corner.1, width, height);
    let small_width = WIDTH_PX.min(output.0);
    let small_height = (output.1 * small_width).div_ceil(output.0.max(1)).max(1);
    let small = |picture: &Rgb| resize_lanczos(picture, small_width, small_height);
    Ok(Shown {
        at_s: look.at_s,
        whole: before_after(small(before), small(after))?,
        part: before_after(part(before), part(after))?,
        corner,
        output,
    })
}

/// Where the two differ most in detail.
fn place(before: &Rgb, after: &Rgb, width: usize, height: usize) -> (usize, usize) {
    let (before, after) = (before.luma(), after.luma());
    let difference = after
        .data
        .iter()
        .zip(&before.data)
        .map(|(after, before)| after - before);
    let difference = Plane::new(after.width, after.height, difference.collect());
    let edge = |side: usize, part: usize| EDGE_PX.min((side - part) / 2);
    let (x, y) = (edge(after.width, width), edge(after.height, height));
    let covered = Covered {
        x,
        y,
        width: after.width - 2 * x,
        height: after.height - 2 * y,
    };
    most_detailed(&difference, covered, width, height)
}

fn before_after(before: Rgb, after: Rgb) -> Result<BeforeAfter, WorkError> {
    let (width, height) = (after.width, after.height);
    let uri = |picture: Rgb| -> Result<String, WorkError> {
        let jpeg = jpeg_of(&frame_of(picture))?;
        Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)))
    };
    Ok(BeforeAfter {
        width,
        height,
        before: uri(before)?,
        after: uri(after)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_where_the_model_drew_something() {
        let flat = Rgb::new(1200, 800, vec![0.5; 3 * 1200 * 800]);
        let mut drawn = flat.clone();
        for y in 600..700 {
            for x in 900..1000 {
                drawn.data[y * 1200 + x] = if (x + y) % 2 == 0 { 0.2 } else { 0.8 };
            }
        }
        let (x, y) = place(&flat, &drawn, WIDTH_PX, CROP_HEIGHT_PX);
        assert!(x + WIDTH_PX >= 1000 && y + CROP_HEIGHT_PX >= 700, "{x} {y}");
        assert_eq!(
            place(&flat, &flat, 1200, 800),
            (0, 0),
            "a part as large as the whole"
        );
    }
}
